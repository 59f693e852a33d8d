//! Local targets that fail, with no other to go to.

use crate::support::{
    Answer, CHAT, Route, STREAM, Server, Step, Upstream, closed_port, ok, quick, stream, whole,
};
use std::time::{Duration, Instant};
use weir_gateway::routing::Workload;

async fn post(workload: std::sync::Arc<Workload>, body: &str) -> (Server, Answer) {
    let server = Server::start_with(vec![workload], quick()).await;
    let answer = server.post(body).await;
    (server, answer)
}

#[tokio::test]
async fn a_lone_target_that_is_away_is_503_with_retry_after_at_once_and_again_when_it_is_back() {
    let upstream = Upstream::always(ok()).await;
    let port = upstream.port;
    let server = Server::start_with(
        vec![Route::default().local("local", 100, port).build()],
        quick(),
    )
    .await;
    assert_eq!(server.post(CHAT).await.status, 200);
    drop(upstream);
    for _ in 0..10 {
        let asked = Instant::now();
        let answer = server.post(CHAT).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (503, "no_target_available")
        );
        assert_eq!(
            (answer.header("retry-after"), answer.way()),
            ("1", ("local", "Local", "placement"))
        );
        assert!(asked.elapsed() < Duration::from_secs(1));
    }
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port))
        .await
        .expect("the port again");
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let _ = stream.read(&mut [0; 4096]).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            .await
            .expect("written");
    });
    assert_eq!(
        server.post(CHAT).await.status,
        200,
        "a lone local target is tried although it failed ten times"
    );
}

#[tokio::test]
async fn a_connection_that_dies_before_the_first_byte_is_tried_once_more() {
    let upstream =
        Upstream::start(|number| if number == 0 { vec![Step::Close] } else { ok() }).await;
    let (_server, answer) = post(
        Route::default().local("local", 100, upstream.port).build(),
        CHAT,
    )
    .await;
    assert_eq!((answer.status.as_u16(), upstream.count()), (200, 2));
    let upstream = Upstream::always(vec![Step::Close]).await;
    let (_server, answer) = post(
        Route::default().local("local", 100, upstream.port).build(),
        CHAT,
    )
    .await;
    assert_eq!(
        (
            answer.status.as_u16(),
            answer.header("retry-after"),
            upstream.count()
        ),
        (503, "1", 2)
    );
}

#[tokio::test]
async fn a_target_that_does_not_answer_in_time_is_504() {
    for body in [CHAT, STREAM] {
        let mut upstream = Upstream::always(vec![Step::UntilClosed]).await;
        let (_server, answer) = post(
            Route::default().local("local", 100, upstream.port).build(),
            body,
        )
        .await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (504, "upstream_timeout")
        );
        upstream.closed().await;
    }
}

#[tokio::test]
async fn an_answer_of_429_or_503_says_when_to_come_back() {
    let busy = Upstream::always(whole(
        429,
        "retry-after: 7\r\n",
        r#"{"error":{"code":"queue_full"}}"#,
    ))
    .await;
    let (_server, answer) = post(
        Route::default().local("local", 100, busy.port).build(),
        CHAT,
    )
    .await;
    assert_eq!(
        (
            answer.status.as_u16(),
            answer.header("retry-after"),
            answer.code().as_str()
        ),
        (429, "7", "queue_full")
    );
    let away = Upstream::always(whole(503, "", "{}")).await;
    let (_server, answer) = post(
        Route::default().local("local", 100, away.port).build(),
        CHAT,
    )
    .await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("retry-after")),
        (503, "1")
    );
}

#[tokio::test]
async fn another_local_target_takes_over() {
    let upstream = Upstream::always(stream(&["hi"])).await;
    let route = Route::default();
    let state = std::sync::Arc::clone(&route.state);
    let workload = route
        .local("one", 100, closed_port().await)
        .local("two", 0, upstream.port)
        .build();
    let (_server, answer) = post(workload, STREAM).await;
    assert_eq!(
        (answer.status.as_u16(), answer.way()),
        (200, ("two", "Local", "failover"))
    );
    let asked: u64 = state
        .metering()
        .minutes
        .iter()
        .map(|minute| minute.requests)
        .sum();
    assert_eq!(
        asked, 1,
        "one request of a client, although two targets saw it"
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Upstream::always(ok()).await;
    let location = format!("location: http://127.0.0.1:{}/\r\n", other.port);
    let upstream = Upstream::always(whole(307, &location, "")).await;
    let (_server, answer) = post(
        Route::default().local("local", 100, upstream.port).build(),
        CHAT,
    )
    .await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (502, "upstream_error")
    );
    assert_eq!((other.count(), answer.header("location")), (0, ""));
}

#[tokio::test]
async fn a_workload_without_a_target_is_503() {
    let (_server, answer) = post(Route::default().build(), CHAT).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (503, "no_target_available")
    );
    assert_eq!(answer.header("retry-after"), "1");
}

#[tokio::test]
async fn a_sleeping_target_is_woken_and_waited_for() {
    let workload = Route::default()
        .local("local", 100, closed_port().await)
        .asleep()
        .build();
    let server = Server::start_with(vec![workload], quick()).await;
    let mut wake_ups = server.shared.wake_ups();
    let answer = server.post(CHAT).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (503, "cold_start")
    );
    assert_eq!(
        (answer.header("retry-after"), answer.way()),
        ("2", ("local", "Local", "cold-start"))
    );
    assert_eq!(&*wake_ups.recv().await.expect("a wake-up").target, "local");
    server.post(CHAT).await;
    assert!(
        wake_ups.try_recv().is_err(),
        "at most one wake-up in a second"
    );
}

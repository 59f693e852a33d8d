//! A local target with several engines, and with none.

use crate::support::{
    Answer, CHAT, Route, STREAM, Server, Step, Upstream, closed_port, event, ok, quick, stream_head,
};
use http::Method;
use std::time::{Duration, Instant};

#[tokio::test]
async fn requests_go_to_the_engine_that_has_the_fewest() {
    let hanging = vec![stream_head(), event("a"), Step::UntilClosed];
    let (busy, free) = (
        Upstream::always(hanging).await,
        Upstream::always(ok()).await,
    );
    let route = Route::default().engines("local", 100, &[busy.port, free.port]);
    let server = Server::start(vec![route.build()]).await;
    let request = server.request(Method::POST, "/v1/chat/completions");
    let open = server.send(request, STREAM).await;
    assert_eq!((open.status().as_u16(), busy.count()), (200, 1));
    for _ in 0..6 {
        assert_eq!(server.post(CHAT).await.status, 200);
    }
    assert_eq!((busy.count(), free.count()), (1, 6));
    drop(open);
}

#[tokio::test]
async fn another_engine_takes_a_request_that_the_first_could_not_be_reached_for() {
    let upstream = Upstream::always(ok()).await;
    let route = Route::default().engines("local", 100, &[closed_port().await, upstream.port]);
    let workload = route.build();
    let server = Server::start_with(vec![workload.clone()], quick()).await;
    for _ in 0..4 {
        let answer = server.post(CHAT).await;
        assert_eq!(
            (answer.status.as_u16(), answer.way()),
            (200, ("local", "Local", "placement"))
        );
    }
    assert_eq!(upstream.count(), 4);
    let metering = workload.state.metering();
    let counters = &metering.by_step[&("local".into(), 1)];
    assert_eq!(
        (counters.requests(), counters.errors()),
        (4, 0),
        "nothing failed for a client"
    );
}

#[tokio::test]
async fn a_target_without_engines_is_starting_at_once_and_served_as_soon_as_it_has_one() {
    let route = Route::default().engines("local", 100, &[]);
    let state = route.state.clone();
    let server = Server::start_with(vec![route.build()], quick()).await;
    let mut wake_ups = server.shared.wake_ups();
    let engines = || {
        let page = weir_gateway::telemetry::metrics::render(&server.shared);
        let line = r#"weir_gateway_target_engines{namespace="ns",workload="chat",target="local"} "#;
        let value = page.lines().find_map(|each| each.strip_prefix(line));
        value.expect("a line for the target").to_owned()
    };
    assert_eq!(engines(), "0");
    let refused = async || -> Answer {
        let asked = Instant::now();
        let answer = server.post(CHAT).await;
        assert!(asked.elapsed() < Duration::from_millis(200));
        answer
    };
    for _ in 0..4 {
        let answer = refused().await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (503, "cold_start")
        );
        assert!(!answer.header("retry-after").is_empty());
    }
    assert_eq!(&*wake_ups.try_recv().expect("a wake-up").target, "local");
    let upstream = Upstream::always(ok()).await;
    let route = Route {
        state,
        ..Route::default()
    };
    let workload = route.local("local", 100, upstream.port).build();
    server
        .shared
        .publish(weir_gateway::routing::RouteTable::new(vec![workload]));
    assert_eq!(server.post(CHAT).await.status, 200);
    assert_eq!(engines(), "1");
}

#[tokio::test]
async fn an_engine_that_fails_fast_draws_no_more_than_its_turn() {
    let refusing = vec![Step::Send(
        "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 2\r\n\r\n{}".into(),
    )];
    let (broken, good) = (
        Upstream::always(refusing).await,
        Upstream::always(ok()).await,
    );
    let route = Route::default().engines("local", 100, &[broken.port, good.port]);
    let server = Server::start(vec![route.build()]).await;
    assert_eq!(server.post(CHAT).await.status, 500, "the first turn is its");
    for _ in 0..6 {
        assert_eq!(server.post(CHAT).await.status, 200);
    }
    assert_eq!((broken.count(), good.count()), (1, 6));
}

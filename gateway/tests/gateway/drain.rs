//! A stopping gateway cuts nothing.

use crate::support::{
    Answer, CHAT, Route, STREAM, Server, Step, Upstream, chunk, end, event, ok, stream_head,
};
use http::Method;
use http_body_util::BodyExt;
use std::time::Duration;
use tower::ServiceExt;
use weir_gateway::admin;
use weir_gateway::server::Drained;

async fn status(server: &Server, path: &str) -> u16 {
    let request = http::Request::get(path)
        .body(axum::body::Body::empty())
        .expect("a request");
    admin::router(server.shared.clone())
        .oneshot(request)
        .await
        .expect("an answer")
        .status()
        .as_u16()
}

#[tokio::test]
async fn open_streams_end_and_new_connections_are_told_to_close() {
    let mut steps = vec![stream_head(), event("first")];
    for _ in 0..10 {
        steps.extend([Step::Pause(Duration::from_millis(100)), event("more")]);
    }
    steps.extend([chunk("data: [DONE]\n\n"), end()]);
    let upstream =
        Upstream::start(move |number| if number == 0 { steps.clone() } else { ok() }).await;
    let mut server = Server::start(vec![
        Route::default().local("local", 100, upstream.port).build(),
    ])
    .await;
    assert_eq!(status(&server, "/readyz").await, 200);
    let request = server.request(Method::POST, "/v1/chat/completions");
    let mut stream = server.send(request, STREAM).await.into_body();
    stream.frame().await.expect("a frame").expect("bytes");

    server.shared.start_draining();
    assert_eq!(
        (
            status(&server, "/readyz").await,
            status(&server, "/healthz").await
        ),
        (503, 200)
    );
    let answer = server.post(CHAT).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("connection")),
        (200, "close"),
        "still served in the delay"
    );

    let mut text = Vec::new();
    while let Some(frame) = stream.frame().await {
        text.extend_from_slice(&frame.expect("not cut").into_data().expect("data"));
    }
    assert!(String::from_utf8_lossy(&text).ends_with("data: [DONE]\n\n"));
    let drained = tokio::time::timeout(Duration::from_secs(3), &mut server.task)
        .await
        .expect("in time");
    assert_eq!(drained.expect("not aborted"), Drained { cut: 0 });
    assert!(
        tokio::net::TcpStream::connect(("127.0.0.1", server.port))
            .await
            .is_err(),
        "the listener is closed"
    );
}

#[tokio::test]
async fn readiness_waits_for_the_table_and_for_nothing_else() {
    let server = Server::start_unsynced(crate::support::quick()).await;
    assert_eq!(
        (
            status(&server, "/readyz").await,
            status(&server, "/healthz").await
        ),
        (503, 200)
    );
    server
        .shared
        .publish(weir_gateway::routing::RouteTable::default());
    assert_eq!(status(&server, "/readyz").await, 200);
}

#[tokio::test]
async fn metrics_name_workloads_and_never_what_clients_sent() {
    let upstream = Upstream::always(ok()).await;
    let server = Server::start(vec![
        Route::default().local("local", 100, upstream.port).build(),
    ])
    .await;
    server.post(CHAT).await;
    server
        .post(r#"{"model":"canary-model","messages":[{"content":"canary-text"}]}"#)
        .await;
    let request = server.request(Method::GET, "/canary-path");
    Answer::read(server.send(request, "").await).await;
    let page = weir_gateway::telemetry::metrics::render(&server.shared);
    let line = |start: &str| {
        page.lines()
            .find(|line| line.starts_with(start))
            .unwrap_or_default()
            .to_owned()
    };
    assert!(
        line("weir_gateway_requests_total{").contains(r#"namespace="ns",workload="chat""#),
        "{page}"
    );
    assert!(
        line("weir_gateway_requests_total{")
            .ends_with(r#"location="Local",reason="placement",code="2xx"} 1"#)
    );
    assert!(page.contains(r#"weir_gateway_refused_requests_total{code="model_not_found"} 1"#));
    assert!(page.contains(
        r#"weir_gateway_tokens_total{namespace="ns",workload="chat",target="local",kind="input"} 5"#
    ));
    assert!(!page.contains("canary"));
}

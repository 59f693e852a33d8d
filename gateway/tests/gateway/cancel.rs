//! A client that leaves takes its request at the target with it.

use crate::support::{CHAT, Route, STREAM, Server, Step, Upstream, event, eventually, stream_head};
use http_body_util::BodyExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use weir_gateway::metering::Outcome;
use weir_gateway::routing::WorkloadState;

const SOON: Duration = Duration::from_secs(1);

async fn serve(steps: Vec<Step>) -> (Server, Upstream, Arc<WorkloadState>) {
    let upstream = Upstream::always(steps).await;
    let route = Route::default().local("local", 100, upstream.port);
    let state = Arc::clone(&route.state);
    (Server::start(vec![route.build()]).await, upstream, state)
}

async fn send_raw(server: &Server, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port))
        .await
        .expect("connected");
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{body}",
        crate::support::KEY,
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    stream
}

async fn canceled(state: &WorkloadState) {
    eventually("the request counts as canceled", || {
        let metering = state.metering();
        metering
            .by_step
            .values()
            .map(|counters| counters.of(Outcome::Canceled))
            .sum::<u64>()
            == 1
            && metering
                .by_step
                .values()
                .all(|counters| counters.in_flight == 0 && counters.errors() == 0)
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_before_the_first_byte_ends_the_request() {
    for body in [CHAT, STREAM] {
        let (server, mut upstream, state) = serve(vec![Step::UntilClosed]).await;
        let client = send_raw(&server, body).await;
        eventually("the target has the request", || upstream.count() == 1).await;
        let left = Instant::now();
        drop(client);
        assert!(upstream.closed().await.duration_since(left) < SOON);
        canceled(&state).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_a_stream_ends_it() {
    let (server, mut upstream, state) =
        serve(vec![stream_head(), event("a"), Step::UntilClosed]).await;
    let request = server.request(http::Method::POST, "/v1/chat/completions");
    let mut body = server.send(request, STREAM).await.into_body();
    body.frame().await.expect("a frame").expect("bytes");
    let left = Instant::now();
    drop(body);
    assert!(upstream.closed().await.duration_since(left) < SOON);
    canceled(&state).await;
    let metering = state.metering();
    let output: u64 = metering
        .by_step
        .values()
        .map(|counters| counters.output_tokens)
        .sum();
    assert_eq!(output, 1, "what was streamed until then is counted");
}

#[tokio::test]
async fn clients_that_leave_do_not_eject_a_target() {
    let upstream = Upstream::start(|number| match number {
        0..5 => vec![Step::UntilClosed],
        _ => crate::support::ok(),
    })
    .await;
    let server = Server::start(vec![
        Route::default().local("local", 100, upstream.port).build(),
    ])
    .await;
    for number in 1..=5 {
        let client = send_raw(&server, CHAT).await;
        eventually("the target has the request", || upstream.count() == number).await;
        drop(client);
    }
    assert_eq!(server.post(CHAT).await.status, 200);
}

//! Answers pass through unchanged and are metered.

use crate::support::{
    CHAT, Route, STREAM, Server, Step, Upstream, chunk, end, event, eventually, ok, quick, stream,
    stream_head, whole,
};
use http_body_util::BodyExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir_gateway::metering::{Counters, Outcome};
use weir_gateway::routing::WorkloadState;

fn counters(state: &WorkloadState) -> Counters {
    let mut sum = Counters::default();
    state
        .metering()
        .by_step
        .values()
        .for_each(|counters| sum.merge(counters));
    sum
}

async fn serve(steps: Vec<Step>) -> (Server, Upstream, Arc<WorkloadState>) {
    let upstream = Upstream::always(steps).await;
    let route = Route::default().local("local", 100, upstream.port);
    let state = Arc::clone(&route.state);
    (
        Server::start_with(vec![route.build()], quick()).await,
        upstream,
        state,
    )
}

#[tokio::test]
async fn usage_is_asked_for_counted_and_kept_from_a_client_that_did_not_ask() {
    let (server, upstream, state) = serve(stream(&["Hel", "lo"])).await;
    let answer = server.post(STREAM).await;
    assert!(answer.whole && answer.status == 200);
    assert!(
        answer.body.contains("Hel") && answer.body.ends_with("data: [DONE]\n\n"),
        "{}",
        answer.body
    );
    assert!(!answer.body.contains("usage"));
    assert_eq!(
        upstream.seen()[0].body,
        STREAM.replacen('{', r#"{"stream_options":{"include_usage":true},"#, 1)
    );
    let counted = counters(&state);
    assert_eq!(
        (
            counted.input_tokens,
            counted.cached_input_tokens,
            counted.output_tokens
        ),
        (9, 4, 3)
    );
    assert_eq!(
        (counted.requests(), counted.errors(), counted.in_flight),
        (1, 0, 0)
    );
    assert_eq!(
        (
            counted.estimated_requests,
            counted.ttft_buckets.iter().sum::<u64>()
        ),
        (0, 1)
    );
}

#[tokio::test]
async fn a_client_that_asks_for_usage_gets_it() {
    let (server, upstream, _) = serve(stream(&["a"])).await;
    let body = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
    let answer = server.post(body).await;
    assert!(answer.body.contains(r#""prompt_tokens":9"#));
    assert_eq!(upstream.seen()[0].body, body);
}

#[tokio::test]
async fn a_document_passes_byte_for_byte_and_its_usage_counts() {
    let text = r#"{ "n":1.50e3, "choices":[ ],"usage":{"prompt_tokens":5,"completion_tokens":2}, "é":"\u00e9" }"#;
    let (server, upstream, state) =
        serve(whole(200, "set-cookie: a=b\r\nserver: x\r\n", text)).await;
    let answer = server.post(CHAT).await;
    assert_eq!(answer.body, text);
    assert_eq!(answer.header("content-length"), text.len().to_string());
    assert!(!answer.headers.contains_key("set-cookie") && !answer.headers.contains_key("server"));
    assert_eq!(upstream.seen()[0].body, CHAT);
    assert!(
        !upstream.seen()[0]
            .head
            .to_lowercase()
            .contains("authorization"),
        "the client's key stays here"
    );
    assert_eq!(
        (
            counters(&state).input_tokens,
            counters(&state).output_tokens
        ),
        (5, 2)
    );
}

#[tokio::test]
async fn an_answer_without_usage_is_estimated_and_says_so() {
    let steps = vec![
        stream_head(),
        event("a"),
        event("b"),
        chunk("data: [DONE]\n\n"),
        end(),
    ];
    let (server, _upstream, state) = serve(steps).await;
    server.post(STREAM).await;
    let counted = counters(&state);
    assert_eq!((counted.estimated_requests, counted.output_tokens), (1, 2));
}

#[tokio::test]
async fn events_may_be_cut_anywhere() {
    let text = "data: {\"choices\":[{\"delta\":{\"content\":\"Grüße 😀\"}}]}\r\n\r\n: comment\n\ndata: [DONE]\n\n";
    let mut steps = vec![stream_head()];
    let bytes = text.as_bytes();
    for piece in bytes.chunks(3) {
        // Pieces of a character are no text, so each is written as one byte for one letter.
        steps.push(Step::Send(format!("{:x}\r\n", piece.len())));
        steps.push(Step::Raw(piece.to_vec()));
        steps.push(Step::Send("\r\n".into()));
    }
    steps.push(end());
    let (server, _upstream, _) = serve(steps).await;
    assert_eq!(server.post(STREAM).await.body, text);
}

#[tokio::test]
async fn a_stream_that_breaks_ends_with_an_error_and_without_done() {
    let (server, _upstream, state) =
        serve(vec![stream_head(), event("a"), event("b"), Step::Close]).await;
    let answer = server.post(STREAM).await;
    assert!(
        answer.whole,
        "the reader sees the error, not a broken connection"
    );
    assert!(
        answer.body.contains("\"b\"") && answer.body.contains("stream_interrupted"),
        "{}",
        answer.body
    );
    assert!(!answer.body.contains("[DONE]") && answer.body.ends_with("\n\n"));
    assert_eq!(counters(&state).of(Outcome::Interrupted), 1);
}

#[tokio::test]
async fn a_stream_that_ends_without_a_finish_is_broken() {
    let (server, _upstream, state) = serve(vec![stream_head(), event("a"), end()]).await;
    assert!(
        server
            .post(STREAM)
            .await
            .body
            .contains("stream_interrupted")
    );
    assert_eq!(counters(&state).errors(), 1);
}

#[tokio::test]
async fn a_stream_that_stalls_is_ended() {
    let (server, mut upstream, _) = serve(vec![stream_head(), event("a"), Step::UntilClosed]).await;
    let answer = server.post(STREAM).await;
    assert!(answer.body.contains("upstream_timeout") && !answer.body.contains("[DONE]"));
    upstream.closed().await;
}

#[tokio::test]
async fn a_long_document_that_breaks_is_cut() {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900000\r\n\r\n"
            .to_owned();
    let (server, _upstream, state) = serve(vec![
        Step::Send(head),
        Step::Send("x".repeat(400_000)),
        Step::Close,
    ])
    .await;
    assert!(!server.post(CHAT).await.whole);
    assert_eq!(counters(&state).of(Outcome::Interrupted), 1);
}

#[tokio::test]
async fn a_short_document_that_breaks_is_an_error() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{"
        .to_owned();
    let (server, _upstream, _) = serve(vec![Step::Send(head), Step::Close]).await;
    let answer = server.post(CHAT).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (502, "upstream_error")
    );
}

#[tokio::test]
async fn small_writes_are_not_held_back() {
    let mut steps = vec![stream_head()];
    for number in 0..20 {
        steps.push(event(&number.to_string()));
        steps.push(Step::Pause(Duration::from_millis(3)));
    }
    steps.extend([chunk("data: [DONE]\n\n"), end()]);
    let (server, _upstream, _) = serve(steps).await;
    let request = server.request(http::Method::POST, "/v1/chat/completions");
    let mut body = server.send(request, STREAM).await.into_body();
    let mut gaps = Vec::new();
    let mut last = Instant::now();
    while let Some(frame) = body.frame().await {
        frame.expect("a frame");
        gaps.push(last.elapsed());
        last = Instant::now();
    }
    gaps.sort_unstable();
    assert!(
        gaps.len() >= 15,
        "events come one by one, not {} at a time",
        gaps.len()
    );
    // Nagle's algorithm with delayed acknowledgements shows as gaps of 40 ms.
    let median = gaps[gaps.len() / 2];
    assert!(median < Duration::from_millis(25), "median gap {median:?}");
}

#[tokio::test]
async fn a_refusal_of_the_target_passes_through() {
    let (server, _upstream, state) = serve(whole(
        400,
        "",
        r#"{"error":{"code":"context_length_exceeded"}}"#,
    ))
    .await;
    let answer = server.post(CHAT).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (400, "context_length_exceeded")
    );
    assert_eq!(answer.way(), ("local", "Local", "placement"));
    assert_eq!(
        (
            counters(&state).of(Outcome::Refused),
            counters(&state).errors()
        ),
        (1, 0)
    );
}

#[tokio::test]
async fn weights_are_kept_exactly() {
    let (one, two) = (Upstream::always(ok()).await, Upstream::always(ok()).await);
    let workload = Route::default()
        .local("one", 70, one.port)
        .local("two", 30, two.port)
        .local("none", 0, 1)
        .build();
    let server = Server::start(vec![workload]).await;
    for _ in 0..20 {
        assert_eq!(server.post(CHAT).await.status, 200);
    }
    assert_eq!((one.count(), two.count()), (14, 6));
}

#[tokio::test]
async fn a_reader_that_stalls_stalls_the_target() {
    let piece = "x".repeat(64 * 1024);
    let mut steps = vec![stream_head()];
    steps.extend(std::iter::repeat_n(event(&piece), 400));
    steps.extend([chunk("data: [DONE]\n\n"), end(), Step::UntilClosed]);
    let written = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let upstream = Upstream::start_counting(steps, Arc::clone(&written)).await;
    let server = Server::start(vec![
        Route::default().local("local", 100, upstream.port).build(),
    ])
    .await;
    let request = server.request(http::Method::POST, "/v1/chat/completions");
    let mut body = server.send(request, STREAM).await.into_body();
    body.frame().await.expect("a frame").expect("bytes");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let held = written.load(std::sync::atomic::Ordering::Relaxed);
    // Socket buffers of two connections grow to some megabytes; all of it would be 26.
    assert!(
        held < 16 << 20,
        "{held} bytes were taken from the target while nobody reads"
    );
    while let Some(frame) = body.frame().await {
        frame.expect("the rest");
    }
    eventually("everything was written", || {
        written.load(std::sync::atomic::Ordering::Relaxed) > 400 * 64 * 1024
    })
    .await;
}

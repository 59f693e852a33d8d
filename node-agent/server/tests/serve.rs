//! The server from outside: streaming, limits, cancellation, failures, the end.

mod serving;

use http_body_util::BodyExt;
use rstest::rstest;
use serde_json::{Value, json};
use serving::Server;
use std::time::Duration;

/// The data of a stream's events.
fn events(text: &str) -> Vec<&str> {
    text.split("\n\n")
        .filter_map(|event| event.strip_prefix("data: "))
        .collect()
}

fn parsed(event: &str) -> Value {
    serde_json::from_str(event).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_answers_whole_and_streamed_and_refuses_what_it_cannot() {
    let server = Server::start(&["--threads", "1", "--sha256", serving::SHA256]).await;
    streamed_and_whole_answers_are_the_same(&server).await;
    a_seed_repeats_an_answer(&server).await;
    a_stop_sequence_ends_an_answer(&server).await;
    requests_that_cannot_be_served_are_refused(&server).await;
    logprobs_come_with_each_token(&server).await;
    a_client_that_goes_away_frees_its_blocks(&server).await;
    models_are_listed(&server).await;
}

async fn streamed_and_whole_answers_are_the_same(server: &Server) {
    let mut body = json!({
        "model": "smol", "temperature": 0, "max_tokens": 20, "return_token_ids": true,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Name a river."}]}]
    });
    let (status, headers, text) = server.post("/v1/chat/completions", &body).await;
    assert_eq!(status, 200, "{text}");
    assert!(headers.contains_key("x-weir-queue-wait-ms"));
    let whole = parsed(&text);
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let (status, headers, text) = server.post("/v1/chat/completions", &body).await;
    assert_eq!(status, 200);
    assert_eq!(headers["content-type"], "text/event-stream");
    assert!(headers.contains_key("x-weir-queue-wait-ms"));
    let events = events(&text);
    let (done, chunks) = events.split_last().expect("events");
    assert_eq!(*done, "[DONE]");
    let chunks: Vec<Value> = chunks.iter().map(|event| parsed(event)).collect();
    let content: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(whole["choices"][0]["message"]["content"], content);
    let ids: Vec<&Value> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["token_ids"].as_array())
        .flatten()
        .collect();
    assert_eq!(whole["choices"][0]["token_ids"], json!(ids));
    let last = chunks.last().expect("a usage chunk");
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"], whole["usage"]);
    assert_eq!(whole["usage"]["completion_tokens"], json!(ids.len()));
}

async fn a_seed_repeats_an_answer(server: &Server) {
    let body =
        json!({"prompt": "My favourite colour", "temperature": 1.0, "seed": 11, "max_tokens": 12});
    let (_, first) = server.json("/v1/completions", &body).await;
    let (_, second) = server.json("/v1/completions", &body).await;
    assert_eq!(first["choices"], second["choices"]);
}

async fn a_stop_sequence_ends_an_answer(server: &Server) {
    let body = json!({"prompt": "1, 2, 3, 4,", "temperature": 0, "max_tokens": 40, "stop": [" 7"]});
    let (_, answer) = server.json("/v1/completions", &body).await;
    assert_eq!(answer["choices"][0]["text"], " 5, 6,");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

async fn requests_that_cannot_be_served_are_refused(server: &Server) {
    let chat = "/v1/chat/completions";
    let hello = json!([{"role": "user", "content": "hi"}]);
    let cases = [
        (
            chat,
            json!({"messages": hello, "n": 2}),
            400,
            "unsupported_parameter",
        ),
        (
            chat,
            json!({"messages": hello, "model": "other"}),
            404,
            "model_not_found",
        ),
        (chat, json!({"messages": []}), 400, "invalid_value"),
        (chat, json!({"messages": 3}), 400, "invalid_json"),
        (
            chat,
            json!({"messages": hello, "temperature": 9}),
            400,
            "invalid_value",
        ),
        (
            chat,
            json!({"messages": hello, "tools": [{}]}),
            400,
            "unsupported_parameter",
        ),
        (
            chat,
            json!({"messages": hello, "max_tokens": 100_000}),
            400,
            "context_length_exceeded",
        ),
        (
            "/v1/completions",
            json!({"prompt": [999_999]}),
            400,
            "invalid_value",
        ),
        (
            "/v1/completions",
            json!({"prompt": ""}),
            400,
            "invalid_value",
        ),
        (
            "/v1/completions",
            json!({"prompt": ["a", "b"]}),
            400,
            "unsupported_parameter",
        ),
        (
            "/v1/embeddings",
            json!({"input": "a"}),
            400,
            "unsupported_parameter",
        ),
        ("/v1/nothing", json!({}), 404, "not_found"),
        ("/v1/models", json!({}), 405, "method_not_allowed"),
    ];
    for (path, body, status, code) in cases {
        let (got, answer) = server.json(path, &body).await;
        assert_eq!(got, status, "{path} {body} {answer}");
        assert_eq!(answer["error"]["code"], code, "{path} {body} {answer}");
    }
}

async fn logprobs_come_with_each_token(server: &Server) {
    let body = json!({
        "messages": [{"role": "user", "content": "hi"}], "temperature": 0, "max_tokens": 3,
        "logprobs": true, "top_logprobs": 2
    });
    let (_, answer) = server.json("/v1/chat/completions", &body).await;
    let content = answer["choices"][0]["logprobs"]["content"]
        .as_array()
        .expect("log-probabilities");
    assert_eq!(content.len(), 3);
    for token in content {
        assert_eq!(token["top_logprobs"].as_array().map(Vec::len), Some(2));
        assert_eq!(token["top_logprobs"][0]["logprob"], token["logprob"]);
    }
}

async fn a_client_that_goes_away_frees_its_blocks(server: &Server) {
    let cancelled = "weir_engine_requests_finished_total{reason=\"cancelled\"}";
    let body = json!({"prompt": "Once upon a time", "max_tokens": 4000, "ignore_eos": true, "stream": true});
    let (_, _, mut stream) = server.send("/v1/completions", &body).await;
    stream.frame().await.expect("a frame").expect("bytes");
    assert!(server.metric("weir_engine_kv_blocks_used").await > 0.0);
    drop(stream);
    server.wait_for_metric(cancelled, 1.0).await;
    server
        .wait_for_metric("weir_engine_kv_blocks_used", 0.0)
        .await;
}

async fn models_are_listed(server: &Server) {
    let (status, text) = server.get("/v1/models").await.expect("an answer");
    let list = parsed(&text);
    assert_eq!(status, 200);
    assert_eq!(list["data"][0]["id"], "smol");
    assert_eq!(list["data"][0]["max_model_len"], 8192);
    let (status, _) = server.get("/v1/models/smol").await.expect("an answer");
    assert_eq!(status, 200);
    let (status, _) = server.get("/v1/models/other").await.expect("an answer");
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_answers_429_and_sigterm_lets_running_requests_finish() {
    let args = [
        "--threads",
        "1",
        "--max-concurrent",
        "1",
        "--max-waiting",
        "1",
        "--drain-delay-seconds",
        "1",
    ];
    let mut server = Server::start(&args).await;
    let long = json!({"prompt": "Once upon a time", "max_tokens": 300, "ignore_eos": true, "stream": true});
    let (_, _, first) = server.send("/v1/completions", &long).await;
    let second_body = json!({"prompt": "Hello", "max_tokens": 2});
    let second = server.json("/v1/completions", &second_body);
    let third = async {
        server
            .wait_for_metric("weir_engine_requests_waiting", 1.0)
            .await;
        let answer = server.post("/v1/completions", &second_body).await;
        server.terminate();
        while server.get("/readyz").await.map(|r| r.0.as_u16()) != Some(503) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        answer
    };
    let whole = async { first.collect().await.expect("the whole stream").to_bytes() };
    let (whole, second, (status, headers, _)) = tokio::join!(whole, second, third);
    assert_eq!(status, 429);
    assert!(headers.contains_key("retry-after"));
    assert_eq!(second.0, 200, "{}", second.1);
    let text = String::from_utf8(whole.to_vec()).expect("text");
    assert!(text.ends_with("data: [DONE]\n\n"));
    assert!(server.wait().await.success());
}

#[rstest]
#[case::checksum(None, &["--sha256", "00000000000000000000000000000000000000000000000000000000000000ff"], 65)]
#[case::missing(Some("/nonexistent.gguf"), &[], 66)]
#[case::not_a_model(Some(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")), &[], 67)]
#[case::memory(None, &["--kv-blocks", "4000000"], 68)]
fn a_model_that_cannot_be_loaded_ends_the_process_with_its_reasons_code(
    #[case] model: Option<&str>,
    #[case] args: &[&str],
    #[case] code: i32,
) {
    let model = model.map_or_else(serving::model_path, Into::into);
    let status = serving::command(0, &model, args).status().expect("it runs");
    assert_eq!(status.code(), Some(code));
}

#[test]
fn a_termination_message_goes_into_the_file_that_the_container_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("termination-log");
    let write = || weir_engine_server::write_termination_message(&path, "ModelInvalid: x");
    assert!(write().is_err(), "outside a container nothing is created");
    std::fs::write(&path, "").expect("a file");
    write().expect("writes");
    assert_eq!(
        std::fs::read_to_string(&path).expect("reads"),
        "ModelInvalid: x\n"
    );
}

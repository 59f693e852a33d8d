//! The fake cloud provider: an OpenAI-compatible API with streaming, usage and failure modes.

use super::state::{FailureMode, Fakes};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::stream;
use serde_json::{Value, json};
use std::time::Duration;

/// Routes of the provider.
pub fn router(fakes: Fakes) -> Router {
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completions))
        .route("/v1/embeddings", post(embeddings))
        .with_state(fakes)
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let body = json!({"error": {"message": message, "type": "fake_provider_error", "param": null, "code": code}});
    let mut response = (status, axum::Json(body)).into_response();
    if matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    ) {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    }
    response
}

fn authorized(fakes: &Fakes, headers: &HeaderMap) -> bool {
    let wanted = format!("Bearer {}", fakes.api_key);
    let given = headers
        .get(header::AUTHORIZATION)
        .map(|value| value.as_bytes());
    let fine = given == Some(wanted.as_bytes());
    if !fine {
        fakes.lock().counters.unauthorized += 1;
    }
    fine
}

async fn models(State(fakes): State<Fakes>, headers: HeaderMap) -> Response {
    if !authorized(&fakes, &headers) {
        return error(StatusCode::UNAUTHORIZED, "invalid_api_key", "wrong key");
    }
    let all = fakes.lock().modes.get("*").copied().unwrap_or_default();
    if all != FailureMode::None {
        return fail(all).await;
    }
    let data: Vec<Value> = fakes
        .lock()
        .prices
        .keys()
        .map(
            |model| json!({"id": model, "object": "model", "created": 0, "owned_by": "fake-cloud"}),
        )
        .collect();
    axum::Json(json!({"object": "list", "data": data})).into_response()
}

/// What every operation does first: key, model, counting, failure modes that come before an answer.
async fn admit(
    fakes: &Fakes,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(Value, String, FailureMode), Response> {
    if !authorized(fakes, headers) {
        return Err(error(
            StatusCode::UNAUTHORIZED,
            "invalid_api_key",
            "wrong key",
        ));
    }
    let request: Value = serde_json::from_slice(body).map_err(|_| {
        error(
            StatusCode::BAD_REQUEST,
            "invalid_json",
            "the body is not JSON",
        )
    })?;
    let model = request["model"].as_str().unwrap_or_default().to_owned();
    let mode = fakes.admit(&model, body);
    if !fakes.lock().prices.contains_key(&model) {
        return Err(error(
            StatusCode::NOT_FOUND,
            "model_not_found",
            "no such model here",
        ));
    }
    match mode {
        FailureMode::None | FailureMode::Cut | FailureMode::ErrorEvent => {
            Ok((request, model, mode))
        }
        failing => Err(fail(failing).await),
    }
}

async fn fail(mode: FailureMode) -> Response {
    match mode {
        FailureMode::Unavailable => error(
            StatusCode::SERVICE_UNAVAILABLE,
            "overloaded",
            "told to be unavailable",
        ),
        FailureMode::RateLimited => error(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limit_exceeded",
            "told to limit",
        ),
        FailureMode::Hang => {
            // Bounded, so that a forgotten client does not hold a connection for ever.
            tokio::time::sleep(Duration::from_secs(600)).await;
            error(StatusCode::GATEWAY_TIMEOUT, "hung", "told to hang")
        }
        _ => error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            "told to fail",
        ),
    }
}

async fn chat(State(fakes): State<Fakes>, headers: HeaderMap, body: Bytes) -> Response {
    let (request, model, mode) = match admit(&fakes, &headers, &body).await {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal,
    };
    let words = answer(&model, &request);
    let prompt_tokens = count_tokens(&request["messages"]);
    let shape = Shape {
        chat: true,
        model,
        prompt_tokens,
    };
    respond(fakes, &request, shape, words, mode)
}

async fn completions(State(fakes): State<Fakes>, headers: HeaderMap, body: Bytes) -> Response {
    let (request, model, mode) = match admit(&fakes, &headers, &body).await {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal,
    };
    let words = answer(&model, &request);
    let prompt_tokens = count_tokens(&request["prompt"]);
    let shape = Shape {
        chat: false,
        model,
        prompt_tokens,
    };
    respond(fakes, &request, shape, words, mode)
}

async fn embeddings(State(fakes): State<Fakes>, headers: HeaderMap, body: Bytes) -> Response {
    let (request, model, _) = match admit(&fakes, &headers, &body).await {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal,
    };
    let tokens = count_tokens(&request["input"]);
    let inputs = request["input"].as_array().map_or(1, Vec::len);
    let data: Vec<Value> = (0..inputs)
        .map(|index| json!({"object": "embedding", "index": index, "embedding": [0.6, 0.8]}))
        .collect();
    axum::Json(json!({
        "object": "list", "data": data, "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }))
    .into_response()
}

/// The words of the answer, cut at max_tokens: one word is one token here.
fn answer(model: &str, request: &Value) -> Vec<String> {
    let limit = ["max_completion_tokens", "max_tokens"]
        .iter()
        .find_map(|field| request[*field].as_u64())
        .unwrap_or(16)
        .clamp(1, 4096);
    let sentence = format!(
        "This is model {model} of provider fake-cloud, which answers at any length that is asked for."
    );
    let words: Vec<&str> = sentence.split_inclusive(' ').collect();
    let limit = usize::try_from(limit).unwrap_or(16).min(words.len());
    words[..limit]
        .iter()
        .map(|word| (*word).to_owned())
        .collect()
}

/// Tokens of a prompt: its words.
fn count_tokens(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.split_whitespace().count() as u64,
        Value::Array(items) => items.iter().map(count_tokens).sum(),
        Value::Object(fields) => fields.get("content").map_or(0, count_tokens),
        Value::Number(_) => 1,
        _ => 0,
    }
}

struct Shape {
    chat: bool,
    model: String,
    prompt_tokens: u64,
}

impl Shape {
    fn usage(&self, words: usize) -> Value {
        let words = words as u64;
        json!({"prompt_tokens": self.prompt_tokens, "completion_tokens": words, "total_tokens": self.prompt_tokens + words,
            "prompt_tokens_details": {"cached_tokens": 0}})
    }

    fn envelope(&self, object: &str, choices: Value) -> Value {
        json!({"id": "fake-1", "object": object, "created": 1_700_000_000, "model": self.model,
            "system_fingerprint": "fake-cloud", "choices": choices})
    }

    fn whole(&self, words: &[String]) -> Value {
        let text = words.concat();
        let mut whole = if self.chat {
            let message = json!({"role": "assistant", "content": text});
            self.envelope("chat.completion", json!([{"index": 0, "message": message, "finish_reason": "stop", "logprobs": null}]))
        } else {
            self.envelope(
                "text_completion",
                json!([{"index": 0, "text": text, "finish_reason": "stop", "logprobs": null}]),
            )
        };
        whole["usage"] = self.usage(words.len());
        whole
    }

    fn chunk(&self, word: Option<&str>) -> Value {
        let finish = if word.is_some() {
            Value::Null
        } else {
            json!("stop")
        };
        if self.chat {
            let delta = word.map_or_else(|| json!({}), |word| json!({"content": word}));
            self.envelope(
                "chat.completion.chunk",
                json!([{"index": 0, "delta": delta, "finish_reason": finish}]),
            )
        } else {
            let text = word.unwrap_or_default();
            self.envelope(
                "text_completion",
                json!([{"index": 0, "text": text, "finish_reason": finish}]),
            )
        }
    }
}

fn respond(
    fakes: Fakes,
    request: &Value,
    shape: Shape,
    words: Vec<String>,
    mode: FailureMode,
) -> Response {
    if !request["stream"].as_bool().unwrap_or(false) {
        return axum::Json(shape.whole(&words)).into_response();
    }
    let mut events: Vec<Result<Value, ()>> = words
        .iter()
        .map(|word| Ok(shape.chunk(Some(word))))
        .collect();
    events.push(Ok(shape.chunk(None)));
    if request["stream_options"]["include_usage"]
        .as_bool()
        .unwrap_or(false)
    {
        let mut usage = shape.envelope(
            if shape.chat {
                "chat.completion.chunk"
            } else {
                "text_completion"
            },
            json!([]),
        );
        usage["usage"] = shape.usage(words.len());
        events.push(Ok(usage));
    }
    match mode {
        FailureMode::Cut => {
            events.truncate(2);
            events.push(Err(()));
        }
        FailureMode::ErrorEvent => {
            events = vec![Ok(
                json!({"error": {"message": "told to fail in the stream", "type": "fake_provider_error", "code": "server_error"}}),
            )];
        }
        _ => {}
    }
    let watch = Watch {
        fakes,
        ended: false,
    };
    let body = stream::unfold(
        (events.into_iter(), watch, 0),
        |(mut events, mut watch, index)| async move {
            if index > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let frame = match events.next() {
                Some(Ok(event)) => Ok(Bytes::from(format!("data: {event}\n\n"))),
                Some(Err(())) => {
                    watch.ended = true;
                    Err(std::io::Error::other("told to cut"))
                }
                None if watch.ended => return None,
                None => {
                    watch.ended = true;
                    Ok(Bytes::from_static(b"data: [DONE]\n\n"))
                }
            };
            Some((frame, (events, watch, index + 1)))
        },
    );
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, Body::from_stream(body)).into_response()
}

/// Counts a stream that was dropped before its end.
struct Watch {
    fakes: Fakes,
    ended: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.ended {
            self.fakes.lock().counters.aborted += 1;
        }
    }
}

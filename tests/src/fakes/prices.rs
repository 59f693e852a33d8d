//! The fake price feed: a document in LiteLLM's format with an ETag; and documents that are meant to fill memory.

use super::bombs::Bomb;
use super::state::Fakes;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Where the document is.
pub const PATH: &str = "/model_prices_and_context_window.json";

/// Routes of the feed.
pub fn router(fakes: Fakes) -> Router {
    Router::new()
        .route(PATH, get(feed))
        .route("/bombs/{name}", get(bomb))
        .with_state(fakes)
}

async fn bomb(Path(name): Path<String>) -> Response {
    let mut bombs = Bomb::ALL.into_iter();
    match bombs.find(|bomb| bomb.name() == name) {
        Some(bomb) => bomb.document().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn feed(State(fakes): State<Fakes>, headers: HeaderMap) -> Response {
    let mut inner = fakes.lock();
    if inner.prices_fail {
        return (StatusCode::INTERNAL_SERVER_ERROR, "told to fail").into_response();
    }
    let mut document = Map::new();
    document.insert("sample_spec".into(), json!({"input_cost_per_token": 0.0, "litellm_provider": "one of https://docs.litellm.ai/docs/providers"}));
    for (model, prices) in &inner.prices {
        let row = json!({
            "input_cost_per_token": prices.input_cost_per_token,
            "output_cost_per_token": prices.output_cost_per_token,
            "litellm_provider": "fake-cloud", "mode": "chat", "max_input_tokens": 128_000,
        });
        document.insert(model.clone(), row);
    }
    let text = Value::Object(document).to_string();
    let etag = format!("\"{}\"", hex::encode(&Sha256::digest(text.as_bytes())[..8]));
    let known = headers
        .get(header::IF_NONE_MATCH)
        .map(|value| value.as_bytes());
    if known == Some(etag.as_bytes()) {
        inner.counters.price_reads.1 += 1;
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response();
    }
    inner.counters.price_reads.0 += 1;
    (
        [
            (header::ETAG, etag),
            (header::CONTENT_TYPE, "application/json".into()),
        ],
        text,
    )
        .into_response()
}

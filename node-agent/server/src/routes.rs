//! Paths of the server: probes, metrics, models, and the generating ones.

use crate::lock::demand_key;
use crate::render;
use crate::state::{Phase, Server};
use crate::{answer, chat, completion};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use std::sync::Arc;
use weir_openai::{ApiError, ErrorCode, Model, ModelList};

const MAX_BODY_BYTES: usize = 8 << 20;

pub(crate) fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/v1/models", get(models))
        .route("/v1/models/{*name}", get(model))
        .route("/v1/chat/completions", post(chat::handle))
        .route("/v1/completions", post(completion::handle))
        .route("/v1/embeddings", post(embeddings))
        .fallback(|| async { not_found() })
        .method_not_allowed_fallback(|| async { method_not_allowed() })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn_with_state(Arc::clone(&server), demand_key))
        .with_state(server)
}

fn not_found() -> Response {
    answer::error(&ApiError::new(ErrorCode::NotFound, "there is no such path"))
}

fn method_not_allowed() -> Response {
    answer::error(&ApiError::new(
        ErrorCode::MethodNotAllowed,
        "this path takes another method",
    ))
}

async fn ready(State(server): State<Arc<Server>>) -> Response {
    let phase = server.phase();
    let (status, percent) = match phase {
        Phase::Ready => (StatusCode::OK, None),
        Phase::Verifying => (
            StatusCode::SERVICE_UNAVAILABLE,
            Some(server.verified_percent()),
        ),
        _ => (StatusCode::SERVICE_UNAVAILABLE, None),
    };
    let body = serde_json::json!({"phase": phase.as_str(), "verifiedPercent": percent});
    (status, Json(body)).into_response()
}

async fn metrics(State(server): State<Arc<Server>>) -> Response {
    let text = render::metrics(&server);
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

fn describe(server: &Server) -> Model {
    let mut model = Model::new(server.name(), server.created);
    model.max_model_len = server.served().map(|served| served.engine.context() as u64);
    model
}

async fn models(State(server): State<Arc<Server>>) -> Response {
    if server.served().is_none() {
        return answer::error(&answer::not_ready(&server));
    }
    Json(ModelList::new(vec![describe(&server)])).into_response()
}

async fn model(State(server): State<Arc<Server>>, Path(name): Path<String>) -> Response {
    if server.served().is_none() {
        return answer::error(&answer::not_ready(&server));
    }
    if name != server.name() {
        return answer::error(&answer::unknown_model(&name));
    }
    Json(describe(&server)).into_response()
}

async fn embeddings(State(server): State<Arc<Server>>) -> Response {
    let message = format!(
        "{} is a generative model: it has no embeddings",
        server.name()
    );
    answer::error(&ApiError::new(ErrorCode::Unsupported, message))
}

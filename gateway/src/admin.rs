//! Probes and metrics, on a port of their own.

use crate::routing::shared_state::SharedState;
use crate::telemetry::metrics;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use std::sync::Arc;

/// `/healthz`, `/readyz` and `/metrics`.
pub fn router(shared: Arc<SharedState>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(page))
        .with_state(shared)
}

/// Ready with a complete table, whatever the certificate, the operator and the API server do since.
async fn ready(State(shared): State<Arc<SharedState>>) -> impl IntoResponse {
    match (shared.is_draining(), shared.is_synced()) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        (false, false) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the routing table is not complete\n",
        ),
        (false, true) => (StatusCode::OK, "ok\n"),
    }
}

async fn page(State(shared): State<Arc<SharedState>>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4")],
        metrics::render(&shared),
    )
}

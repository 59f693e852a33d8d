//! The admin port: `/healthz`, `/readyz`, `/metrics`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use weir_identity::{CertificateSource, HandshakeCounters};

use super::latest::Latest;
use super::metrics::Metrics;
use super::sampler::Sampler;

/// What the admin port shows.
#[derive(Clone)]
pub struct Admin {
    /// The agent's metrics.
    pub metrics: Arc<Metrics>,
    /// The newest readings.
    pub sampler: Sampler,
    /// The agent's certificate.
    pub certificate: Option<CertificateSource>,
    /// What became of handshakes.
    pub handshakes: Option<Arc<HandshakeCounters>>,
}

/// The routes.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(admin)
}

/// Serves until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    admin: Admin,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, router(admin))
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

/// Ready once there was a sample. Neither the certificate nor a driver that hangs matters: a restart mends neither.
async fn ready(State(admin): State<Admin>) -> Response {
    match admin.sampler.latest() {
        Latest::Starting => (StatusCode::SERVICE_UNAVAILABLE, "no sample yet\n").into_response(),
        Latest::Fresh(_) => "ok\n".into_response(),
        Latest::Stuck(_) => "ok, but the sampler is stuck\n".into_response(),
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let rendered = admin.metrics.render(
        &admin.sampler.latest(),
        admin.certificate.as_ref(),
        admin.handshakes.as_deref(),
    );
    match rendered {
        Ok(text) => {
            let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
            (kind, text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "metrics cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

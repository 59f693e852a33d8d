//! Price feeds that answer what no price feed should, over TLS on the host.

use crate::world::World;
use anyhow::Result;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use weir_tests::fakes::serve;
use weir_tests::stack::server_certificate;

/// Where the feeds are, and who signed their certificate.
pub struct Feeds {
    /// Base URL without a trailing slash.
    pub url: String,
    /// PEM of their authority.
    pub ca: String,
    /// PEM of an authority that did not sign their certificate.
    pub other_ca: String,
}

/// Serves them until the runtime ends.
pub async fn serve(world: &World) -> Result<Feeds> {
    let host = &world.stack.cluster.facts.host_ip;
    let certificate = server_certificate(std::slice::from_ref(host))?;
    let other = server_certificate(std::slice::from_ref(host))?;
    let listener = TcpListener::bind((host.as_str(), 0)).await?;
    let url = format!("https://{}", listener.local_addr()?);
    let tls = serve::tls(
        certificate.certificate.as_bytes(),
        certificate.key.as_bytes(),
    )?;
    tokio::spawn(serve::over_tls(listener, tls, router()));
    Ok(Feeds {
        url,
        ca: certificate.ca,
        other_ca: other.ca,
    })
}

fn router() -> Router {
    let price = |usd: f64| {
        json!({"m": {"input_cost_per_token": usd, "output_cost_per_token": usd, "mode": "chat"}})
            .to_string()
    };
    let (dear, per_million, negative, zero) = (price(2.8e-3), price(2.8), price(-1e-6), price(0.0));
    let html = "<!doctype html><html><body>Sign in to the proxy</body></html>";
    let elsewhere = (
        StatusCode::FOUND,
        [(header::LOCATION, "https://169.254.169.254/latest/meta-data")],
    );
    Router::new()
        .route("/thousandfold", get(|| async { dear }))
        .route("/per-million", get(|| async { per_million }))
        .route("/negative", get(|| async { negative }))
        .route("/zero", get(|| async { zero }))
        .route(
            "/nan",
            get(|| async {
                r#"{"m": {"input_cost_per_token": NaN, "output_cost_per_token": 1e-6}}"#
            }),
        )
        .route(
            "/truncated",
            get(|| async { r#"{"m": {"input_cost_per_token": 1e-6, "# }),
        )
        .route(
            "/html",
            get(move || async move { ([(header::CONTENT_TYPE, "text/html")], html) }),
        )
        .route("/redirect", get(move || async move { elsewhere }))
        .route("/binary", get(|| async { vec![0xff_u8; 1024] }))
        .route("/huge", get(|| async { vec![b' '; 17 << 20] }))
}

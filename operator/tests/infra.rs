//! The operator's ground, on a simulated API server: election, gate, retries, certificates, telemetry, a replica's life.

#[path = "infra/certificates.rs"]
mod certificates;
#[path = "infra/client.rs"]
mod client;
#[path = "infra/collector.rs"]
mod collector;
#[path = "infra/election.rs"]
mod election;
#[path = "infra/engine_keys.rs"]
mod engine_keys;
#[path = "infra/price_books.rs"]
mod price_books;
#[path = "infra/replica.rs"]
mod replica;
#[path = "infra/statuses.rs"]
mod statuses;

use std::sync::Arc;
use std::time::Duration;

use weir_operator::cli::Settings;
use weir_operator::metrics::Metrics;
use weir_simapi::SimApi;

/// A server with our kinds and the release namespace.
fn server() -> SimApi {
    SimApi::builder()
        .crds(weir_crds::all())
        .namespace("weir-system")
        .build()
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new())
}

/// Settings of a replica of this name, with short lease times.
fn settings(name: &str) -> Settings {
    let mut settings = Settings::defaults();
    settings.namespace = "weir-system".into();
    settings.pod_name = name.into();
    settings.pod_uid = format!("uid-{name}");
    settings.lease_duration = Duration::from_millis(3000);
    settings.renew_deadline = Duration::from_millis(2000);
    settings.retry_period = Duration::from_millis(400);
    settings.metrics_address = ([127, 0, 0, 1], 0).into();
    settings
}

/// Waits until `holds`, at most ten seconds of the tokio clock.
async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !holds().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "not in time: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

//! Asks idle providers for their models, so that their health is known before traffic needs them.

use super::ProviderRow;
use crate::connect::full;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Method, Request, Uri};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// A provider that got no request for this long is asked.
const IDLE: Duration = Duration::from_secs(30);
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Probes the providers of the latest rows for ever. `GET /models` costs nothing and carries no payload.
pub async fn probe_forever(rows: watch::Receiver<Arc<Vec<ProviderRow>>>) {
    let mut ticks = interval(Duration::from_secs(5));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let current = Arc::clone(&rows.borrow());
        for row in current
            .iter()
            .filter(|row| row.health.is_idle(Instant::now(), IDLE))
        {
            probe(row).await;
        }
    }
}

async fn probe(row: &ProviderRow) {
    let Ok(handle) = &row.handle else { return };
    let Some(request) = models_request(handle) else {
        return;
    };
    row.health.began(Instant::now());
    // Any answer below 500 shows that the provider is there; a refused key shows in the requests themselves.
    match timeout(ANSWERS_WITHIN, handle.client.request(request)).await {
        Ok(Ok(answer)) if answer.status().as_u16() < 500 => row.health.succeeded(None),
        outcome => {
            if row.health.failed(Instant::now()) {
                let status = outcome
                    .ok()
                    .and_then(Result::ok)
                    .map(|answer| answer.status().as_u16());
                tracing::info!(provider = %row.name, ?status, "provider circuit opened by a probe");
            }
        }
    }
}

fn models_request(handle: &super::ProviderHandle) -> Option<Request<crate::connect::UpstreamBody>> {
    let uri = Uri::builder()
        .scheme("https")
        .authority(handle.authority.clone())
        .path_and_query(format!("{}/models", handle.base_path))
        .build()
        .ok()?;
    let mut request = Request::builder()
        .method(Method::GET)
        .uri(uri)
        .body(full(Bytes::new()))
        .ok()?;
    if let Some(key) = &handle.key {
        request.headers_mut().insert(AUTHORIZATION, key.header());
    }
    Some(request)
}

//! Asks idle providers for what costs nothing, so that their health is known before traffic needs them.

use crate::external::cause::Cause;
use crate::external::provider::{ProviderHandle, ProviderRow};
use crate::upstream::connect::{UpstreamBody, full};
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How often it is looked at which providers are due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// Providers that are asked at a time: one that hangs delays no other.
const AT_ONCE: usize = 16;

/// Probes the providers of the latest rows for ever.
pub async fn probe_forever(rows: watch::Receiver<Arc<Vec<ProviderRow>>>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let current = Arc::clone(&rows.borrow());
        let now = Instant::now();
        let due = current.iter().filter(|row| row.health.needs_probe(now));
        let handles = due.filter_map(|row| row.handle.as_ref().ok());
        futures::stream::iter(handles)
            .for_each_concurrent(AT_ONCE, |handle| probe(handle))
            .await;
    }
}

async fn probe(handle: &ProviderHandle) {
    let Some(request) = probe_request(handle) else {
        return;
    };
    let health = &handle.health;
    health.record_start(Instant::now());
    // Any answer below 500 shows that the provider is there; a refused key shows in the requests themselves.
    let cause = match timeout(ANSWERS_WITHIN, handle.client.request(request)).await {
        Ok(Ok(answer)) if answer.status().as_u16() < 500 => return health.record_success(None),
        Ok(Ok(answer)) => Cause::Status(answer.status()),
        Ok(Err(error)) if error.is_connect() => Cause::of_connect(&error),
        Ok(Err(_)) | Err(_) => Cause::Silent,
    };
    handle.record_cause(&cause);
    if health.record_failure(Instant::now()) {
        tracing::info!(provider = %handle.name, %cause, "provider circuit opened by a probe");
    }
}

fn probe_request(handle: &ProviderHandle) -> Option<Request<UpstreamBody>> {
    let mut request = Request::new(full(Bytes::new()));
    *request.method_mut() = Method::GET;
    *request.uri_mut() = handle.uri(handle.format.probe_path())?;
    handle.authorize(request.headers_mut());
    Some(request)
}

//! Waiting for the cluster to reach a state, with the last state in the error.

use anyhow::{Result, bail};
use std::fmt::Debug;
use std::time::Duration;
use tokio::time::Instant;

/// Polls until `look` finds what it looks for: `Ok(Ok(found))`; `Ok(Err(state))` says what is there instead.
///
/// # Errors
/// After `limit`, with the last state; at once when `look` fails itself.
pub async fn until<T, S, F>(what: &str, limit: Duration, mut look: impl FnMut() -> F) -> Result<T>
where
    S: Debug,
    F: Future<Output = Result<Result<T, S>>>,
{
    let start = Instant::now();
    loop {
        let state = match look().await? {
            Ok(found) => return Ok(found),
            Err(state) => state,
        };
        if start.elapsed() > limit {
            bail!("{what}: not within {limit:?}; the last state was {state:#?}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

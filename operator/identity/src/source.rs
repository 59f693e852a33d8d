//! The certificate in use, obtained in the background, swapped while in use and renewed before it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    CertificateAuthority, Identity, IssueError, Leaf, RequestOptions, request as request_leaf,
};

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);
/// The wall clock is looked at this often, so that a machine that slept renews soon after.
const CLOCK_CHECK: Duration = Duration::from_secs(60);
/// A peer that does not know our authority causes at most one early renewal in this time.
const MIN_EARLY_RENEWAL: Duration = Duration::from_secs(60);

/// A handle on the current certificate; clones share it. The renewal task ends with the last clone.
#[derive(Clone)]
pub struct CertificateSource {
    shared: Arc<Shared>,
    _task: Option<Arc<AbortOnDrop>>,
}

#[derive(Default)]
struct Shared {
    leaf: ArcSwapOption<Leaf>,
    ready: watch::Sender<bool>,
    suspect: Notify,
    renewals: AtomicU64,
    failures: AtomicU64,
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl std::fmt::Debug for CertificateSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateSource")
            .field("leaf", &self.shared.leaf.load())
            .finish_non_exhaustive()
    }
}

impl CertificateSource {
    /// One certificate for ever; for tests and for short-lived programs.
    pub fn fixed(leaf: Leaf) -> Self {
        let shared = Shared::default();
        shared.install(leaf);
        Self {
            shared: Arc::new(shared),
            _task: None,
        }
    }

    /// Obtains certificates from the cluster by [`request`](crate::request). Needs a tokio runtime.
    pub fn from_cluster(client: kube::Client, options: RequestOptions) -> Self {
        Self::start(move || {
            let (client, options) = (client.clone(), options.clone());
            async move { request_leaf(&client, &options).await }
        })
    }

    /// Certificates that the holder of the authority gives itself; there is one when this returns.
    pub fn from_authority(
        authority: Arc<CertificateAuthority>,
        identity: Identity,
        pod_uid: Option<String>,
    ) -> Result<Self, IssueError> {
        let issue = move || {
            authority.issue_own(
                &identity,
                pod_uid.as_deref(),
                Timestamp::now(),
                crate::MAX_LEAF_LIFETIME,
            )
        };
        let first = issue()?;
        let source = Self::start_with(Some(first), Timestamp::now, move || {
            std::future::ready(issue())
        });
        Ok(source)
    }

    /// Obtains certificates by `obtain`, whatever that is. Needs a tokio runtime.
    pub fn start<F, Fut, E>(obtain: F) -> Self
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Leaf, E>> + Send + 'static,
        E: std::error::Error + Send + 'static,
    {
        Self::start_with(None, Timestamp::now, obtain)
    }

    pub(crate) fn start_with<F, Fut, E>(
        first: Option<Leaf>,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
        obtain: F,
    ) -> Self
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Leaf, E>> + Send + 'static,
        E: std::error::Error + Send + 'static,
    {
        let shared = Arc::new(Shared::default());
        let wait_first = first.is_some();
        if let Some(leaf) = first {
            shared.install(leaf);
        }
        let task = tokio::spawn(renew(Arc::clone(&shared), wait_first, clock, obtain));
        Self {
            shared,
            _task: Some(Arc::new(AbortOnDrop(task.abort_handle()))),
        }
    }

    /// The certificate in use, if one was obtained.
    pub fn current(&self) -> Option<Arc<Leaf>> {
        self.shared.leaf.load_full()
    }

    /// Returns when there is a certificate.
    pub async fn wait_ready(&self) {
        let mut ready = self.shared.ready.subscribe();
        // The sender lives in `shared`, which `self` holds: this cannot fail.
        let _ = ready.wait_for(|ready| *ready).await;
    }

    /// Certificates installed so far.
    pub fn renewals(&self) -> u64 {
        self.shared.renewals.load(Ordering::Relaxed)
    }

    /// Attempts that failed so far.
    pub fn failures(&self) -> u64 {
        self.shared.failures.load(Ordering::Relaxed)
    }

    /// Says that a peer and we do not share an authority: renew early, in case it was replaced.
    pub(crate) fn suspect(&self) {
        self.shared.suspect.notify_one();
    }

    /// Whether [`CertificateSource::suspect`] was called since this was last asked.
    #[cfg(test)]
    pub(crate) fn is_suspected(&self) -> bool {
        use futures::FutureExt;
        self.shared.suspect.notified().now_or_never().is_some()
    }
}

impl Shared {
    fn install(&self, leaf: Leaf) {
        self.leaf.store(Some(Arc::new(leaf)));
        self.renewals.fetch_add(1, Ordering::Relaxed);
        self.ready.send_replace(true);
    }
}

async fn renew<F, Fut, E>(
    shared: Arc<Shared>,
    wait_first: bool,
    clock: impl Fn() -> Timestamp + Send + Sync,
    mut obtain: F,
) where
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = Result<Leaf, E>> + Send + 'static,
    E: std::error::Error + Send + 'static,
{
    let mut backoff = FIRST_BACKOFF;
    let mut wait = wait_first;
    loop {
        if wait {
            until_renewal(&shared, &clock).await;
        }
        match obtain().await {
            Ok(leaf) => {
                tracing::info!(identity = %leaf.identity(), not_after = %leaf.not_after(), "certificate installed");
                shared.install(leaf);
                backoff = FIRST_BACKOFF;
                wait = true;
            }
            Err(error) => {
                shared.failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(error = %chain(&error), "certificate not obtained");
                sleep(backoff.mul_f64(0.5 + random())).await;
                backoff = (backoff * 2).min(LONGEST_BACKOFF);
                wait = false;
            }
        }
    }
}

/// Waits for two thirds of the certificate's life (less up to a tenth), or for a peer that does not know it.
async fn until_renewal(shared: &Shared, clock: &(impl Fn() -> Timestamp + Send + Sync)) {
    let Some((obtained, not_after)) = shared
        .leaf
        .load()
        .as_ref()
        .map(|leaf| (leaf.obtained(), leaf.not_after()))
    else {
        return;
    };
    let earliest = Instant::now() + MIN_EARLY_RENEWAL.mul_f64(1.0 + random());
    let life = (not_after.as_second() - obtained.as_second()).max(0) as f64;
    let due = obtained.as_second() as f64 + life * 2.0 / 3.0 * (1.0 - 0.1 * random());
    loop {
        let left = due - clock().as_second() as f64;
        if left <= 0.0 {
            return;
        }
        tokio::select! {
            () = sleep(Duration::from_secs_f64(left).min(CLOCK_CHECK)) => {}
            () = shared.suspect.notified() => {
                sleep_until(earliest).await;
                return;
            }
        }
    }
}

/// Uniform in [0, 1); 0.5 where there is no randomness.
fn random() -> f64 {
    let mut bytes = [0u8; 4];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / 4_294_967_296.0,
        Err(_) => 0.5,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn clock(base: Timestamp, started: Instant) -> impl Fn() -> Timestamp + Clone + Send + Sync {
        move || base + started.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn certificate_is_renewed_at_two_thirds_of_its_life_and_in_use_until_then() {
        let base = Timestamp::from_second(1_900_000_000).unwrap();
        let started = Instant::now();
        let now = clock(base, started);
        let authority = CertificateAuthority::generate(base).unwrap();
        let times = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&times);
        let issue_clock = now.clone();
        let source = CertificateSource::start_with(None, now, move || {
            log.lock().unwrap().push(started.elapsed().as_secs());
            std::future::ready(authority.issue_own(
                &Identity::Operator,
                None,
                issue_clock(),
                Duration::from_secs(3000),
            ))
        });
        source.wait_ready().await;
        let first = source.current().unwrap();
        sleep(Duration::from_secs(1700)).await;
        assert_eq!(source.renewals(), 1);
        assert!(Arc::ptr_eq(&first, &source.current().unwrap()));
        sleep(Duration::from_secs(400)).await;
        assert_eq!(source.renewals(), 2);
        assert!(source.current().unwrap().not_after() > first.not_after());
        let renewed = times.lock().unwrap()[1];
        assert!(
            (1800..=2061).contains(&renewed),
            "renewed after {renewed} s"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_retried_with_growing_pauses_and_the_last_good_certificate_stays() {
        let base = Timestamp::from_second(1_900_000_000).unwrap();
        let started = Instant::now();
        let now = clock(base, started);
        let authority = CertificateAuthority::generate(base).unwrap();
        let first = authority
            .issue_own(&Identity::Operator, None, base, Duration::from_secs(900))
            .unwrap();
        let source = CertificateSource::start_with(Some(first), now, || {
            std::future::ready(Err::<Leaf, _>(std::io::Error::other("signer is away")))
        });
        sleep(Duration::from_secs(900 + 3600)).await;
        let failures = source.failures();
        assert!((10..=40).contains(&failures), "{failures} attempts");
        assert!(source.current().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn unknown_authority_renews_early_but_not_more_than_once_a_minute() {
        let base = Timestamp::from_second(1_900_000_000).unwrap();
        let now = clock(base, Instant::now());
        let issue_clock = now.clone();
        let authority = CertificateAuthority::generate(base).unwrap();
        let source = CertificateSource::start_with(None, now, move || {
            std::future::ready(authority.issue_own(
                &Identity::Operator,
                None,
                issue_clock(),
                Duration::from_secs(86_400),
            ))
        });
        source.wait_ready().await;
        for _ in 0..600 {
            source.suspect();
            sleep(Duration::from_secs(1)).await;
        }
        let renewals = source.renewals();
        assert!((5..=11).contains(&renewals), "{renewals} renewals");
    }

    #[tokio::test]
    async fn renewal_ends_with_the_last_handle() {
        let (dropped, mut gone) = tokio::sync::mpsc::channel::<()>(1);
        let source = CertificateSource::start(move || {
            let _held = &dropped;
            std::future::pending::<Result<Leaf, std::io::Error>>()
        });
        drop(source);
        assert!(gone.recv().await.is_none());
    }
}

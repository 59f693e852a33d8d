//! The work queue of a controller: keys, each at most once at a time, merged while they wait, with a backoff each, and
//! taken in turn by namespace, those that one change made due in bulk after the others.

mod waiting;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use waiting::{Lane, Waiting};

const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// A change of a key that waits out a backoff brings its next attempt forward, but not closer to the last than this.
const MIN_PAUSE_AFTER_ERROR: Duration = Duration::from_secs(2);

/// While all slots are taken, what waits is measured this often.
const MEASURED: Duration = Duration::from_secs(1);

/// What is reconciled: an object's namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `None` for kinds of the cluster scope.
    pub namespace: Option<String>,
    /// Name of the object.
    pub name: String,
}

impl Key {
    /// The key of an object.
    pub fn of<K: kube::Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self {
            namespace: meta.namespace.clone(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }

    /// A key of the cluster scope.
    pub fn cluster(name: impl Into<String>) -> Self {
        Self {
            namespace: None,
            name: name.into(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A key that a change makes due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    key: Key,
    lane: Lane,
}

impl Due {
    /// One of many that one change makes due, and that nothing is lost by keeping waiting: others go before it.
    pub fn in_bulk(key: Key) -> Self {
        let lane = Lane::Bulk;
        Self { key, lane }
    }
}

impl From<Key> for Due {
    fn from(key: Key) -> Self {
        let lane = Lane::Prompt;
        Self { key, lane }
    }
}

/// When a key that was reconciled is due again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// When something changes.
    OnChange,
    /// After this time, or when something changes.
    After(Duration),
}

/// How a queue runs.
#[derive(Clone)]
pub struct QueueOptions {
    /// Name of the controller in metrics and logs.
    pub name: &'static str,
    /// Keys that are reconciled at the same time.
    pub concurrency: usize,
    /// How long changes of a key are merged before it is reconciled.
    pub debounce: Duration,
    /// Where reconciles are counted.
    pub metrics: Arc<Metrics>,
}

/// Reconciles the keys of `triggers` until `stop`, then lets those under way end. A panic counts as an error.
pub async fn run<R, Fut, E>(
    options: QueueOptions,
    triggers: impl Stream<Item = impl Into<Due>> + Send,
    reconcile: R,
    stop: CancellationToken,
) where
    R: Fn(Key) -> Fut + Send,
    Fut: Future<Output = Result<Requeue, E>> + Send + 'static,
    E: std::error::Error + Send + 'static,
{
    let mut triggers = std::pin::pin!(triggers.fuse());
    let mut queue = Queue::new(options);
    loop {
        let now = Instant::now();
        queue.waiting.advance(now);
        while let Some(key) = queue.next_due() {
            let future = reconcile(key.clone());
            queue.start(key, future);
        }
        queue.measure(now);
        let due = queue.wake(now);
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = queue.running.join_next_with_id() => queue.ended(ended),
            Some(due) = triggers.next() => queue.changed(due.into()),
            () = async { match due { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => {}
        }
    }
    while let Some(ended) = queue.running.join_next_with_id().await {
        queue.ended(ended);
    }
}

type Outcome = Result<Requeue, String>;

struct Queue {
    options: QueueOptions,
    waiting: Waiting,
    running: JoinSet<Outcome>,
    keys: HashMap<Id, (Key, Instant)>,
    /// Keys that are reconciled, and how soon they are again, where they changed meanwhile.
    busy: HashMap<Key, Option<Lane>>,
    failures: HashMap<Key, (u32, Instant)>,
}

impl Queue {
    fn new(options: QueueOptions) -> Self {
        Self {
            options,
            waiting: Waiting::default(),
            running: JoinSet::new(),
            keys: HashMap::new(),
            busy: HashMap::new(),
            failures: HashMap::new(),
        }
    }

    fn is_full(&self) -> bool {
        self.running.len() >= self.options.concurrency
    }

    /// The next key that is due, if it has a slot.
    fn next_due(&mut self) -> Option<Key> {
        if self.is_full() {
            return None;
        }
        self.waiting.pop()
    }

    /// When to look again although nothing happens.
    fn wake(&self, now: Instant) -> Option<Instant> {
        if self.is_full() {
            return Some(now + MEASURED);
        }
        self.waiting.next_time()
    }

    fn start<Fut, E>(&mut self, key: Key, future: Fut)
    where
        Fut: Future<Output = Result<Requeue, E>> + Send + 'static,
        E: std::error::Error + Send + 'static,
    {
        self.busy.insert(key.clone(), None);
        let handle = self
            .running
            .spawn(async move { future.await.map_err(|error| chain(&error)) });
        self.keys.insert(handle.id(), (key, Instant::now()));
    }

    /// Something about the key changed: it is due after the debounce.
    fn changed(&mut self, Due { key, lane }: Due) {
        if let Some(again) = self.busy.get_mut(&key) {
            if *again != Some(Lane::Prompt) {
                *again = Some(lane);
            }
            return;
        }
        let mut at = Instant::now() + self.options.debounce;
        if let Some((_, last)) = self.failures.get(&key) {
            at = at.max(*last + MIN_PAUSE_AFTER_ERROR);
        }
        self.waiting.schedule(key, at, lane);
    }

    fn ended(&mut self, ended: Result<(Id, Outcome), tokio::task::JoinError>) {
        let (id, outcome, result) = match ended {
            Ok((id, outcome)) => {
                let result = if outcome.is_ok() { "ok" } else { "error" };
                (id, outcome, result)
            }
            Err(error) => (error.id(), Err("panicked".to_owned()), "panic"),
        };
        let Some((key, started)) = self.keys.remove(&id) else {
            return;
        };
        let name = self.options.name;
        self.options
            .metrics
            .reconciled(name, result, started.elapsed());
        let again = self.busy.remove(&key).flatten();
        let now = Instant::now();
        match outcome {
            Ok(requeue) => {
                self.failures.remove(&key);
                if let Requeue::After(pause) = requeue {
                    self.waiting
                        .schedule(key.clone(), now + pause, Lane::Prompt);
                }
            }
            Err(error) => {
                let (failures, _) = self.failures.get(&key).copied().unwrap_or((0, now));
                self.failures.insert(key.clone(), (failures + 1, now));
                let pause = backoff(failures, rand::random::<f64>());
                tracing::warn!(controller = name, %key, %error, retry_in = ?pause, "reconcile failed");
                self.waiting
                    .schedule(key.clone(), now + pause, Lane::Prompt);
            }
        }
        if let Some(lane) = again {
            self.changed(Due { key, lane });
        }
    }

    fn measure(&self, now: Instant) {
        let (due, delayed) = self.waiting.counts();
        let oldest = self.waiting.oldest().map_or(Duration::ZERO, |at| now - at);
        let metrics = &self.options.metrics;
        metrics.queued(self.options.name, (due, delayed), oldest);
    }
}

/// 250 ms, doubled by each failure up to a minute, within half of it either way.
fn backoff(failures: u32, random: f64) -> Duration {
    let pause = FIRST_BACKOFF * 2_u32.pow(failures.min(8));
    pause.min(LONGEST_BACKOFF).mul_f64(0.5 + random)
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let cause = source.to_string();
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests;

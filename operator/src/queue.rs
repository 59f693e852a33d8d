//! The work queue of a controller: keys, each at most once at a time, merged while they wait, with a backoff each.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// A change of a key that waits out a backoff brings its next attempt forward, but not closer to the last than this.
const MIN_PAUSE_AFTER_ERROR: Duration = Duration::from_secs(2);

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
    triggers: impl Stream<Item = Key> + Send,
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
        while let Some(key) = queue.next_due(now) {
            let future = reconcile(key.clone());
            queue.start(key, future);
        }
        let due = queue.earliest();
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = queue.running.join_next_with_id() => queue.ended(ended),
            Some(key) = triggers.next() => queue.changed(key),
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
    waiting: HashMap<Key, Instant>,
    by_time: BTreeSet<(Instant, Key)>,
    running: JoinSet<Outcome>,
    keys: HashMap<Id, (Key, Instant)>,
    busy: HashMap<Key, bool>,
    failures: HashMap<Key, (u32, Instant)>,
}

impl Queue {
    fn new(options: QueueOptions) -> Self {
        Self {
            options,
            waiting: HashMap::new(),
            by_time: BTreeSet::new(),
            running: JoinSet::new(),
            keys: HashMap::new(),
            busy: HashMap::new(),
            failures: HashMap::new(),
        }
    }

    /// The next key that is due and has a slot.
    fn next_due(&mut self, now: Instant) -> Option<Key> {
        if self.running.len() >= self.options.concurrency {
            return None;
        }
        let (at, key) = self.by_time.first()?;
        if *at > now {
            return None;
        }
        let key = key.clone();
        self.by_time.pop_first();
        self.waiting.remove(&key);
        self.note_depth();
        Some(key)
    }

    /// When the first waiting key is due; `None` while all slots are taken.
    fn earliest(&self) -> Option<Instant> {
        if self.running.len() >= self.options.concurrency {
            return None;
        }
        self.by_time.first().map(|(at, _)| *at)
    }

    fn start<Fut, E>(&mut self, key: Key, future: Fut)
    where
        Fut: Future<Output = Result<Requeue, E>> + Send + 'static,
        E: std::error::Error + Send + 'static,
    {
        self.busy.insert(key.clone(), false);
        let handle = self
            .running
            .spawn(async move { future.await.map_err(|error| chain(&error)) });
        self.keys.insert(handle.id(), (key, Instant::now()));
    }

    /// Something about the key changed: it is due after the debounce.
    fn changed(&mut self, key: Key) {
        if let Some(again) = self.busy.get_mut(&key) {
            *again = true;
            return;
        }
        let mut at = Instant::now() + self.options.debounce;
        if let Some((_, last)) = self.failures.get(&key) {
            at = at.max(*last + MIN_PAUSE_AFTER_ERROR);
        }
        self.schedule(key, at);
    }

    /// Due at `at`, or earlier if it was already.
    fn schedule(&mut self, key: Key, at: Instant) {
        if let Some(before) = self.waiting.get(&key) {
            if *before <= at {
                return;
            }
            self.by_time.remove(&(*before, key.clone()));
        }
        self.waiting.insert(key.clone(), at);
        self.by_time.insert((at, key));
        self.note_depth();
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
        let again = self.busy.remove(&key).unwrap_or(false);
        let now = Instant::now();
        match outcome {
            Ok(requeue) => {
                self.failures.remove(&key);
                if let Requeue::After(pause) = requeue {
                    self.schedule(key.clone(), now + pause);
                }
            }
            Err(error) => {
                let (failures, _) = self.failures.get(&key).copied().unwrap_or((0, now));
                self.failures.insert(key.clone(), (failures + 1, now));
                let pause = backoff(failures, rand::random::<f64>());
                tracing::warn!(controller = name, %key, %error, retry_in = ?pause, "reconcile failed");
                self.schedule(key.clone(), now + pause);
            }
        }
        if again {
            self.changed(key);
        }
    }

    fn note_depth(&self) {
        let depth = i64::try_from(self.waiting.len()).unwrap_or(i64::MAX);
        self.options
            .metrics
            .queue_depth
            .with_label_values(&[self.options.name])
            .set(depth);
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
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::UnboundedReceiverStream;

    type Never = std::convert::Infallible;

    fn options(concurrency: usize) -> QueueOptions {
        QueueOptions {
            name: "test",
            concurrency,
            debounce: Duration::from_millis(200),
            metrics: Arc::new(Metrics::new()),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn changes_within_the_debounce_are_one_reconcile() {
        let (sender, receiver) = mpsc::unbounded_channel();
        let runs = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&runs);
        let stop = CancellationToken::new();
        let task = run(
            options(2),
            UnboundedReceiverStream::new(receiver),
            move |_| {
                count.fetch_add(1, Ordering::SeqCst);
                std::future::ready(Ok::<_, Never>(Requeue::OnChange))
            },
            stop.clone(),
        );
        let feed = async {
            for _ in 0..50 {
                sender.send(Key::cluster("a")).unwrap();
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            sender.send(Key::cluster("a")).unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            stop.cancel();
        };
        tokio::join!(task, feed);
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_never_runs_twice_at_once_and_runs_again_when_it_changed_meanwhile() {
        let (sender, receiver) = mpsc::unbounded_channel();
        let spans = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&spans);
        let begin = Instant::now();
        let stop = CancellationToken::new();
        let task = run(
            options(8),
            UnboundedReceiverStream::new(receiver),
            move |_| {
                let log = Arc::clone(&log);
                async move {
                    let from = begin.elapsed();
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    log.lock().unwrap().push((from, begin.elapsed()));
                    Ok::<_, Never>(Requeue::OnChange)
                }
            },
            stop.clone(),
        );
        let feed = async {
            for _ in 0..20 {
                sender.send(Key::cluster("a")).unwrap();
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            tokio::time::sleep(Duration::from_secs(20)).await;
            stop.cancel();
        };
        tokio::join!(task, feed);
        let spans = spans.lock().unwrap();
        assert!(spans.len() >= 2, "{spans:?}");
        assert!(
            spans.windows(2).all(|pair| pair[0].1 <= pair[1].0),
            "{spans:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_key_is_retried_ever_more_rarely_and_does_not_hold_up_others() {
        let (sender, receiver) = mpsc::unbounded_channel();
        let runs = Arc::new(Mutex::new(HashMap::<String, usize>::new()));
        let log = Arc::clone(&runs);
        let stop = CancellationToken::new();
        let task = run(
            options(1),
            UnboundedReceiverStream::new(receiver),
            move |key| {
                *log.lock().unwrap().entry(key.name.clone()).or_default() += 1;
                let result = match key.name.as_str() {
                    "bad" => Err(std::io::Error::other("no")),
                    _ => Ok(Requeue::After(Duration::from_secs(10))),
                };
                std::future::ready(result)
            },
            stop.clone(),
        );
        let feed = async {
            sender.send(Key::cluster("bad")).unwrap();
            sender.send(Key::cluster("good")).unwrap();
            tokio::time::sleep(Duration::from_secs(600)).await;
            stop.cancel();
        };
        tokio::join!(task, feed);
        let runs = runs.lock().unwrap();
        assert!((10..=35).contains(&runs["bad"]), "{runs:?}");
        assert!((58..=61).contains(&runs["good"]), "{runs:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_an_error_of_its_key_alone() {
        let (sender, receiver) = mpsc::unbounded_channel();
        let options = options(1);
        let metrics = Arc::clone(&options.metrics);
        let stop = CancellationToken::new();
        let task = run(
            options,
            UnboundedReceiverStream::new(receiver),
            move |key: Key| async move {
                assert_ne!(key.name, "panics", "on purpose");
                Ok::<_, Never>(Requeue::OnChange)
            },
            stop.clone(),
        );
        let feed = async {
            sender.send(Key::cluster("panics")).unwrap();
            sender.send(Key::cluster("good")).unwrap();
            tokio::time::sleep(Duration::from_millis(400)).await;
            stop.cancel();
        };
        tokio::join!(task, feed);
        let count = |result| {
            metrics
                .reconciles
                .with_label_values(&["test", result])
                .get()
        };
        assert_eq!(count("ok"), 1);
        assert!(count("panic") >= 1);
    }
}

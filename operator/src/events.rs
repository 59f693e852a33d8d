//! Events on objects: merged into series when they repeat, limited in rate, never in the way of a reconcile.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::events::EventType;
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};

use crate::metrics::Metrics;

const CONTROLLER: &str = "weir-operator";
/// Events that wait to be sent; more are dropped and counted.
const QUEUE: usize = 1024;
/// A fleet that is applied at once says some four events a workload, and is done in seconds.
const BURST: f64 = 300.0;
const PER_SECOND: f64 = 50.0;
/// The same event on the same object within this time says nothing new.
const QUIET: Duration = Duration::from_secs(60);
const REMEMBERED: usize = 2048;
/// Bounds of the API.
const MAX_REASON: usize = 128;
const MAX_NOTE: usize = 1024;

/// How an event shows.
pub use kube::runtime::events::EventType as Type;

/// Where controllers note what happened; clones share one sender.
#[derive(Clone)]
pub struct Events {
    sender: mpsc::Sender<Note>,
    metrics: Arc<Metrics>,
}

struct Note {
    object: ObjectReference,
    type_: EventType,
    reason: String,
    message: String,
}

impl Events {
    /// Sends events in a task of its own until the last clone is gone.
    pub fn start(client: Client, holder: &str, metrics: Arc<Metrics>) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let instance = truncated(holder, MAX_REASON);
        tokio::spawn(send(client, instance, receiver, Arc::clone(&metrics)));
        Self { sender, metrics }
    }

    /// Notes an event on an object (`object.object_ref(&())`). Returns at once; it may be dropped under pressure.
    pub fn note(
        &self,
        object: &ObjectReference,
        type_: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        let note = Note {
            object: object.clone(),
            type_,
            reason: truncated(reason, MAX_REASON),
            message: truncated(&message.into(), MAX_NOTE),
        };
        if self.sender.try_send(note).is_err() {
            self.metrics.events.with_label_values(&["dropped"]).inc();
        }
    }

    /// Notes a normal event.
    pub fn normal(&self, object: &ObjectReference, reason: &str, message: impl Into<String>) {
        self.note(object, EventType::Normal, reason, message);
    }

    /// Notes a warning.
    pub fn warning(&self, object: &ObjectReference, reason: &str, message: impl Into<String>) {
        self.note(object, EventType::Warning, reason, message);
    }
}

async fn send(
    client: Client,
    instance: String,
    mut notes: mpsc::Receiver<Note>,
    metrics: Arc<Metrics>,
) {
    let mut limit = Limit::new(Instant::now());
    while let Some(note) = notes.recv().await {
        let count = |result| metrics.events.with_label_values(&[result]).inc();
        match limit.judge(&note, Instant::now()) {
            Verdict::Admitted => {}
            Verdict::Repeated => {
                count("repeated");
                continue;
            }
            Verdict::Dropped => {
                count("dropped");
                continue;
            }
        }
        match publish(&client, &instance, &note, &mut limit).await {
            Ok(()) => count("sent"),
            Err(error) => {
                count("failed");
                tracing::debug!(reason = %note.reason, %error, "event not sent");
            }
        }
    }
}

/// Creates the event, or makes a series of the one that said the same.
async fn publish(
    client: &Client,
    instance: &str,
    note: &Note,
    limit: &mut Limit,
) -> Result<(), kube::Error> {
    let namespace = note.object.namespace.as_deref().unwrap_or("default");
    let api = Api::<Event>::namespaced(client.clone(), namespace);
    let now = MicroTime(Timestamp::now());
    let Some(said) = limit.said.get_mut(&note.key()) else {
        return Ok(());
    };
    if let Some(name) = &said.event {
        let series = EventSeries {
            count: said.count,
            last_observed_time: now.clone(),
        };
        let patch = Patch::Merge(serde_json::json!({ "series": series }));
        match api.patch(name, &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            result => return result.map(drop),
        }
    }
    let event = note.event(instance, now);
    let created = api.create(&PostParams::default(), &event).await?;
    said.event = created.metadata.name;
    Ok(())
}

type NoteKey = (Option<String>, String, String);

impl Note {
    fn key(&self) -> NoteKey {
        (
            self.object.uid.clone().or_else(|| self.object.name.clone()),
            self.reason.clone(),
            self.message.clone(),
        )
    }

    fn event(&self, instance: &str, now: MicroTime) -> Event {
        let object = self.object.name.as_deref().unwrap_or(CONTROLLER);
        let type_ = match self.type_ {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        };
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{object}.{:x}", now.0.as_nanosecond())),
                namespace: Some(
                    self.object
                        .namespace
                        .clone()
                        .unwrap_or_else(|| "default".to_owned()),
                ),
                ..ObjectMeta::default()
            },
            action: Some(self.reason.clone()),
            reason: Some(self.reason.clone()),
            note: Some(self.message.clone()),
            type_: Some(type_.to_owned()),
            regarding: Some(self.object.clone()),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(instance.to_owned()),
            event_time: Some(now),
            ..Event::default()
        }
    }
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Admitted,
    /// It was said a moment ago.
    Repeated,
    /// There are too many.
    Dropped,
}

/// Holds back what was said a moment ago, and what exceeds the rate.
struct Limit {
    tokens: f64,
    refilled: Instant,
    said: HashMap<NoteKey, Said>,
}

struct Said {
    at: Instant,
    count: i32,
    event: Option<String>,
}

impl Limit {
    fn new(now: Instant) -> Self {
        Self {
            tokens: BURST,
            refilled: now,
            said: HashMap::new(),
        }
    }

    fn judge(&mut self, note: &Note, now: Instant) -> Verdict {
        if self.said.len() >= REMEMBERED {
            self.said.retain(|_, said| now - said.at < QUIET);
        }
        let key = note.key();
        let repeated = self.said.get(&key).is_some_and(|s| now - s.at < QUIET);
        let gained = (now - self.refilled).as_secs_f64() * PER_SECOND;
        self.tokens = (self.tokens + gained).min(BURST);
        self.refilled = now;
        if repeated {
            return Verdict::Repeated;
        }
        if self.tokens < 1.0 || self.said.len() >= REMEMBERED {
            return Verdict::Dropped;
        }
        self.tokens -= 1.0;
        let said = self.said.entry(key).or_insert(Said {
            at: now,
            count: 0,
            event: None,
        });
        said.at = now;
        said.count += 1;
        Verdict::Admitted
    }
}

/// At most `max` bytes, cut at a character.
fn truncated(text: &str, max: usize) -> String {
    let end = (0..=text.len().min(max))
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(uid: &str, message: &str) -> Note {
        Note {
            object: ObjectReference {
                uid: Some(uid.into()),
                ..ObjectReference::default()
            },
            type_: EventType::Normal,
            reason: "Moved".into(),
            message: message.into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_event_is_said_once_a_minute() {
        let now = Instant::now();
        let mut limit = Limit::new(now);
        let mut judge = |uid, message, after| {
            let after = Duration::from_secs(after);
            limit.judge(&note(uid, message), now + after)
        };
        assert_eq!(judge("a", "x", 0), Verdict::Admitted);
        assert_eq!(judge("a", "x", 59), Verdict::Repeated);
        assert_eq!(judge("a", "y", 59), Verdict::Admitted);
        assert_eq!(judge("b", "x", 59), Verdict::Admitted);
        assert_eq!(judge("a", "x", 61), Verdict::Admitted);
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_of_events_is_cut_to_the_rate_and_what_is_lost_is_told_from_what_repeats() {
        let now = Instant::now();
        let mut limit = Limit::new(now);
        let admitted = |limit: &mut Limit, from: usize, at| {
            (from..from + 500)
                .map(|i| limit.judge(&note(&i.to_string(), "x"), at))
                .filter(|verdict| *verdict == Verdict::Admitted)
                .count()
        };
        assert_eq!(admitted(&mut limit, 0, now), 300);
        assert_eq!(limit.judge(&note("0", "x"), now), Verdict::Repeated);
        assert_eq!(limit.judge(&note("499", "x"), now), Verdict::Dropped);
        let later = now + Duration::from_secs(2);
        assert_eq!(admitted(&mut limit, 1000, later), 100);
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        assert_eq!(truncated(&"ü".repeat(600), MAX_NOTE).len(), 1024);
        assert_eq!(
            truncated(&format!("a{}", "ü".repeat(600)), MAX_NOTE).len(),
            1023
        );
    }
}

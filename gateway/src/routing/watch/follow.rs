//! Follows one kind of objects. A watch that is quiet may be well, or of a history that the API server no longer has, so
//! it is asked besides, in a way that costs it little.

use crate::routing::shared_state::SharedState;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use kube::api::ListParams;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The API server ends a watch after this time, so that a connection that died is noticed.
const WATCH_SECONDS: u32 = 60;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// How often the API server is asked at which version it is.
const CHECK_EVERY: Duration = Duration::from_secs(15);
/// How long it may take to say so.
const CHECK_WITHIN: Duration = Duration::from_secs(10);

/// News of one kind.
#[derive(Debug)]
pub(crate) enum Update<K> {
    /// Everything there is.
    Listed(Vec<K>),
    /// One object is new or changed.
    Applied(K),
    /// One object is gone.
    Deleted(K),
}

/// Follows one kind, or those of it that a label selector takes, for ever and hands its news on. After a failure, and
/// when the API server turns out to be at an older version than what was heard of it, everything is listed anew: what it
/// has by then may be another history.
pub(crate) async fn follow<K>(
    api: Api<K>,
    selector: Option<&str>,
    what: &'static str,
    shared: &SharedState,
    handle: impl FnMut(Update<K>),
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let selection = Selection {
        labels: selector.map(str::to_owned),
        fields: None,
    };
    follow_selection(api, &selection, what, shared, handle).await;
}

/// The same of one object, by its name.
pub(crate) async fn follow_one<K>(
    api: Api<K>,
    name: &str,
    what: &'static str,
    shared: &SharedState,
    handle: impl FnMut(Update<K>),
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let selection = Selection {
        labels: None,
        fields: Some(format!("metadata.name={name}")),
    };
    follow_selection(api, &selection, what, shared, handle).await;
}

/// Which objects of a kind.
#[derive(Clone, Debug, Default)]
struct Selection {
    labels: Option<String>,
    fields: Option<String>,
}

async fn follow_selection<K>(
    api: Api<K>,
    selection: &Selection,
    what: &'static str,
    shared: &SharedState,
    mut handle: impl FnMut(Update<K>),
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut events = events(&api, selection);
    let mut checks = std::pin::pin!(checks(&api, selection));
    let mut versions = Versions::default();
    let mut listing = Vec::new();
    shared.record_watch(what, false);
    let mut pause = FIRST_PAUSE;
    let mut away = false;
    let mut answered = false;
    loop {
        let event = tokio::select! {
            event = events.try_next() => event,
            Some(version) = checks.next() => {
                if !away && let Some(version) = version {
                    shared.record_contact(what);
                    if versions.went_back(version) {
                        tracing::warn!(what, version, "the API server is at an older version than before, as after a restore; everything is listed anew");
                        events = self::events(&api, selection);
                    }
                }
                continue;
            }
        };
        let event = match event {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(error) => {
                if !std::mem::replace(&mut away, true) {
                    tracing::warn!(what, %error, "watch failed; the last table stays in force");
                    shared.record_watch(what, true);
                }
                // A server that comes back refuses a few times for different reasons; none of them is worth long pauses.
                let answers = is_answer(&error);
                if std::mem::replace(&mut answered, answers) != answers {
                    pause = FIRST_PAUSE;
                }
                sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
                events = self::events(&api, selection);
                continue;
            }
        };
        // The beginning of a list comes before the server was asked.
        if !matches!(event, Event::Init) {
            shared.record_contact(what);
            pause = FIRST_PAUSE;
            if std::mem::take(&mut away) {
                tracing::info!(what, "watch recovered");
                shared.record_watch(what, false);
            }
        }
        match event {
            Event::Init => {
                listing = Vec::new();
                versions = Versions::default();
            }
            Event::InitApply(object) => {
                versions.record(&object);
                listing.push(object);
            }
            Event::InitDone => handle(Update::Listed(std::mem::take(&mut listing))),
            Event::Apply(object) => {
                versions.record(&object);
                handle(Update::Applied(object));
            }
            Event::Delete(object) => {
                versions.record(&object);
                handle(Update::Deleted(object));
            }
        }
    }
}

type Events<K> = Pin<Box<dyn Stream<Item = Result<Event<K>, watcher::Error>> + Send>>;

/// A list, and what comes after it.
fn events<K>(api: &Api<K>, selection: &Selection) -> Events<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config {
        label_selector: selection.labels.clone(),
        field_selector: selection.fields.clone(),
        ..watcher::Config::default()
    };
    Box::pin(watcher(api.clone(), config.timeout(WATCH_SECONDS)))
}

/// The version that the API server is at, from time to time; `None` when it did not say. It is read of a list of at most
/// one object, which no cache may answer with an older state.
fn checks<K>(api: &Api<K>, selection: &Selection) -> impl Stream<Item = Option<u64>>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let params = ListParams {
        label_selector: selection.labels.clone(),
        field_selector: selection.fields.clone(),
        ..ListParams::default().limit(1)
    };
    stream::unfold((api.clone(), params), |(api, params)| async move {
        sleep(CHECK_EVERY).await;
        let listed = timeout(CHECK_WITHIN, api.list_metadata(&params)).await;
        let version = listed.ok().and_then(Result::ok);
        let version = version.and_then(|list| list.metadata.resource_version?.parse().ok());
        Some((version, (api, params)))
    })
}

/// The versions that were heard of.
#[derive(Debug, Default)]
struct Versions {
    newest: u64,
    /// The newest when the check before this one was answered: before this one was asked.
    before: u64,
}

impl Versions {
    fn record(&mut self, object: &impl Resource) {
        let version = object.meta().resource_version.as_deref();
        let version = version.and_then(|version| version.parse().ok());
        self.newest = self.newest.max(version.unwrap_or(0));
    }

    /// Whether the API server, which is at this version now, has been at a later one.
    fn went_back(&mut self, version: u64) -> bool {
        let back = version < self.before;
        self.newest = if back {
            version
        } else {
            self.newest.max(version)
        };
        self.before = self.newest;
        back
    }
}

/// Whether the API server was there to refuse.
fn is_answer(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchError(_) | watcher::Error::NoResourceVersion => true,
        watcher::Error::InitialListFailed(source)
        | watcher::Error::WatchStartFailed(source)
        | watcher::Error::WatchFailed(source) => matches!(source, kube::Error::Api(_)),
    }
}

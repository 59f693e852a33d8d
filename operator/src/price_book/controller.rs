//! Controller of price books: read the source when it is due, judge what it says, write the status, tell what changed.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Resource, ResourceExt};
use tokio::sync::Semaphore;
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_crds::condition::{self, types};
use weir_crds::price_book::{InferencePriceBookSpec, PriceFormat};
use weir_crds::quantity::{self, QuantityError};
use weir_crds::{InferencePriceBook, InferencePriceBookStatus, names};
use weir_operator_core::price_book::guard::{self, Change, Limits};
use weir_operator_core::price_book::parse::{self, Document};
use weir_operator_core::price_book::status::{self, Reading, Rows};

use super::fetch::{self, FetchError, Fetched, Source, Text};
use crate::context::Context;
use crate::queue::{self, Key, Requeue};
use crate::status_writer::{StatusError, StatusWriter};
use crate::stores::{Kind, Stores, Trigger};

/// How often prices that stand in an object, or in a ConfigMap, are read again.
const REREAD: Duration = Duration::from_secs(60);
/// A source that failed is tried again after this, or after its interval if that is shorter.
const RETRY: Duration = Duration::from_secs(30);
/// Parsing takes longer than this of no price list.
const PARSE_TIMEOUT: Duration = Duration::from_secs(10);
const PARSED_AT_ONCE: usize = 2;
/// Documents beyond [`fetch::USUAL_BYTES`] that are in memory at once.
const LARGE_AT_ONCE: usize = 2;
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

struct Controller {
    context: Context,
    writer: StatusWriter<InferencePriceBook>,
    sources: Mutex<HashMap<String, Known>>,
    /// For documents that are larger than price lists are.
    large: Arc<Semaphore>,
    parsing: Arc<Semaphore>,
}

/// What is remembered of a source between reads; lost with the process, and then read anew.
#[derive(Clone)]
struct Known {
    generation: i64,
    wanted: BTreeSet<String>,
    read: Option<ReadDocument>,
    due: Instant,
}

impl Known {
    /// A price that begins to hold is looked at when it does.
    fn look_again_at(&mut self, begins: Option<Timestamp>, now: Timestamp) {
        let wait = begins.and_then(|begins| Duration::try_from(begins.duration_since(now)).ok());
        if let Some(wait) = wait {
            self.due = self.due.min(Instant::now() + wait);
        }
    }
}

/// What was read of a source, for the models that matter.
#[derive(Clone)]
struct ReadDocument {
    document: Document,
    rows: Rows,
    etag: Option<String>,
}

/// A spec whose quantities were read.
struct Settings {
    interval: Duration,
    stale_after: SignedDuration,
    limits: Limits,
}

/// Runs until `stop`.
pub async fn run(context: Context, stop: CancellationToken) {
    let controller = Arc::new(Controller {
        writer: StatusWriter::new(context.client.clone()),
        sources: Mutex::default(),
        large: Arc::new(Semaphore::new(LARGE_AT_ONCE)),
        parsing: Arc::new(Semaphore::new(PARSED_AT_ONCE)),
        context: context.clone(),
    });
    let stores = context.stores.clone();
    let changed = context
        .stores
        .changes([Kind::PriceBook, Kind::Provider])
        .flat_map(move |trigger| stream::iter(affected(&stores, trigger)));
    let triggers = stream::iter(all(&context.stores)).chain(changed);
    let reconcile = move |key: Key| {
        let controller = Arc::clone(&controller);
        async move { controller.reconcile(&key).await }
    };
    queue::run(context.queue("price-book"), triggers, reconcile, stop).await;
}

fn affected(stores: &Stores, trigger: Trigger) -> Vec<Key> {
    match trigger {
        Trigger::Changed(change) if change.kind == Kind::PriceBook => {
            vec![Key::cluster(change.name)]
        }
        _ => all(stores),
    }
}

fn all(stores: &Stores) -> Vec<Key> {
    stores
        .price_books
        .state()
        .iter()
        .map(|book| Key::of(book.as_ref()))
        .collect()
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<Requeue, StatusError> {
        let Some(book) = Stores::get(&self.context.stores.price_books, None, &key.name) else {
            self.sources().retain(|uid, _| self.exists(uid));
            self.writer.retain(|uid| self.exists(uid));
            return Ok(Requeue::OnChange);
        };
        let settings = match settings(&book.spec) {
            Ok(settings) => settings,
            Err(error) => return self.invalid(&book, &error).await,
        };
        let wanted = self.wanted(&key.name);
        let known = self.known(&book, &wanted);
        // Taken after `known`, which may have made the book due just now.
        let now = Instant::now();
        let (known, read) = if known.due > now {
            (known, None)
        } else {
            let read = self.read(&book.spec, &known).await;
            let pause = match &read {
                Ok(_) => settings.interval,
                Err(_) => settings.interval.min(RETRY),
            };
            let due = Instant::now() + pause;
            (Known { due, ..known }, Some(read))
        };
        let pause = self.judge(&book, &settings, known, read).await?;
        Ok(Requeue::After(pause))
    }

    /// Judges what was read, that nothing was, or that it is not time, and writes the status. When to look again.
    async fn judge(
        &self,
        book: &InferencePriceBook,
        settings: &Settings,
        mut known: Known,
        read: Option<Result<ReadDocument, ReadError>>,
    ) -> Result<Duration, StatusError> {
        let now = Timestamp::now();
        let previous = self.writer.current(book);
        let confirmed = confirmed(book, &previous);
        let (before, mut changes) = guard::confirm(&status::belief(&previous), |model, _| {
            confirmed.contains(model)
        });
        let (belief, reading) = match read {
            Some(Ok(read)) => {
                let (belief, judged) =
                    guard::judge(&before, &read.document, &known.wanted, settings.limits, now);
                changes.extend(judged);
                let reading = Reading::Read {
                    rows: read.rows.clone(),
                    etag: read.etag.clone(),
                };
                known.read = Some(read);
                (belief, reading)
            }
            Some(Err(error)) => {
                let reading = Reading::Failed {
                    reason: error.reason(),
                    message: error.to_string_chain(),
                };
                (before, reading)
            }
            None => (before, Reading::NotDue),
        };
        known.look_again_at(
            known
                .read
                .as_ref()
                .and_then(|read| read.document.next_change(&known.wanted, now)),
            now,
        );
        let pause = known.due.saturating_duration_since(Instant::now());
        let uid = book.uid().unwrap_or_default();
        self.sources().insert(uid, known);
        let at = (
            book.metadata.generation.unwrap_or(0),
            settings.stale_after,
            now,
        );
        let next = status::render(&previous, &belief, &changes, &reading, at);
        self.writer.write(book, &next).await?;
        self.tell(book, &previous, &next, &changes);
        Ok(until_stale(&next, settings.stale_after, now).map_or(pause, |stale| pause.min(stale)))
    }

    async fn invalid(
        &self,
        book: &InferencePriceBook,
        error: &QuantityError,
    ) -> Result<Requeue, StatusError> {
        let previous = self.writer.current(book);
        let reading = Reading::Invalid(error.to_string());
        let at = (
            book.metadata.generation.unwrap_or(0),
            SignedDuration::from_hours(24 * 7),
            Timestamp::now(),
        );
        let next = status::render(&previous, &status::belief(&previous), &[], &reading, at);
        self.writer.write(book, &next).await?;
        Ok(Requeue::OnChange)
    }

    async fn read(
        &self,
        spec: &InferencePriceBookSpec,
        known: &Known,
    ) -> Result<ReadDocument, ReadError> {
        let source = &spec.source;
        if let Some(inline) = &source.inline {
            let document = parse::entries(&inline.entries);
            return Ok(ReadDocument::of(document, None, &known.wanted));
        }
        if let Some(reference) = &source.config_map_ref {
            let text = self.config_map(&reference.name, &reference.key).await?;
            let text = Text::from(text);
            return self.parsed(reference.format, text, None, known).await;
        }
        let Some(http) = &source.http else {
            return Err(ReadError::NoSource);
        };
        let etag = known.read.as_ref().and_then(|read| read.etag.as_deref());
        let request = Source {
            url: &http.url,
            ca_bundle: http.ca_bundle.as_deref(),
            allow_private_addresses: http.allow_private_addresses,
            etag,
            large: &self.large,
        };
        let fetched = fetch::fetch(&request);
        match (fetched.await.map_err(ReadError::Fetch)?, &known.read) {
            (Fetched::Document { text, etag }, _) => {
                self.parsed(http.format, text, etag, known).await
            }
            (Fetched::Unchanged, Some(read)) => Ok(read.clone()),
            (Fetched::Unchanged, None) => Err(ReadError::UnexpectedUnchanged),
        }
    }

    /// Parses a document away from the threads that everything else runs on. What takes too long is given up, and ends by
    /// the parser's own bounds.
    async fn parsed(
        &self,
        format: PriceFormat,
        text: Text,
        etag: Option<String>,
        known: &Known,
    ) -> Result<ReadDocument, ReadError> {
        let (parsing, wanted) = (Arc::clone(&self.parsing), known.wanted.clone());
        let parse = async move {
            let permit = parsing.acquire_owned().await;
            tokio::task::spawn_blocking(move || {
                let document = parse::parse(format, text.as_str());
                drop((text, permit));
                document.map(|document| ReadDocument::of(document, etag, &wanted))
            })
            .await
        };
        match tokio::time::timeout(PARSE_TIMEOUT, parse).await {
            Ok(Ok(read)) => read.map_err(ReadError::Parse),
            Ok(Err(panicked)) => Err(ReadError::ParserFailed(panicked)),
            Err(_) => Err(ReadError::Slow),
        }
    }

    async fn config_map(&self, name: &str, key: &str) -> Result<String, ReadError> {
        let namespace = &self.context.settings.namespace;
        let api: Api<ConfigMap> = Api::namespaced(self.context.client.clone(), namespace);
        let map = api.get_opt(name).await.map_err(ReadError::ConfigMap)?;
        let missing = || {
            ReadError::ConfigMapMissing(format!(
                "ConfigMap {namespace}/{name} with key {key:?} does not exist"
            ))
        };
        let data = map.and_then(|map| map.data).ok_or_else(missing)?;
        data.get(key).cloned().ok_or_else(missing)
    }

    /// What is known of the source; due at once when the spec or the models that matter have changed.
    fn known(&self, book: &InferencePriceBook, wanted: &BTreeSet<String>) -> Known {
        let generation = book.metadata.generation.unwrap_or(0);
        let uid = book.uid().unwrap_or_default();
        match self.sources().get(&uid) {
            Some(known) if known.generation == generation && known.wanted == *wanted => {
                known.clone()
            }
            // Of models that were not wanted nothing was kept.
            _ => Known {
                generation,
                wanted: wanted.clone(),
                read: None,
                due: Instant::now(),
            },
        }
    }

    /// Models that providers with this book refer to.
    fn wanted(&self, book: &str) -> BTreeSet<String> {
        let providers = self.context.stores.providers.state_filter(|provider| {
            provider
                .spec
                .price_book_ref
                .as_ref()
                .is_some_and(|reference| reference.name == book)
        });
        let key = |model: &weir_crds::provider::ProviderModel| {
            model
                .price_key
                .clone()
                .unwrap_or_else(|| model.name.clone())
        };
        providers
            .iter()
            .flat_map(|provider| provider.spec.models.iter().map(key))
            .collect()
    }

    fn tell(
        &self,
        book: &InferencePriceBook,
        before: &InferencePriceBookStatus,
        after: &InferencePriceBookStatus,
        changes: &[Change],
    ) {
        let object = book.object_ref(&());
        for change in changes.iter().filter(|change| change.from.is_some()) {
            let price = |price: &Option<parse::ModelPrice>| match price {
                Some(price) => format!(
                    "{}/{}",
                    quantity::decimal(price.base.input),
                    quantity::decimal(price.base.output)
                ),
                None => "none".to_owned(),
            };
            let message = format!(
                "{}: {} → {} USD per 1M input/output tokens",
                change.model,
                price(&change.from),
                price(&change.to)
            );
            self.context.events.normal(&object, "PriceChanged", message);
        }
        for held in &after.held {
            let known = before.held.iter().any(|old| old.revision == held.revision);
            if !known {
                self.context.events.warning(
                    &object,
                    "PriceSuspect",
                    format!("{}: {}", held.model, held.reason),
                );
            }
        }
        let fresh = |status: &InferencePriceBookStatus| {
            condition::is_true(&status.conditions, types::PRICE_FRESH)
        };
        if fresh(before) && !fresh(after) {
            let mut conditions = after.conditions.iter();
            let told = conditions.find(|condition| condition.type_ == types::PRICE_FRESH);
            let message = told.map_or_else(String::new, |told| told.message.clone());
            self.context.events.warning(&object, "PriceStale", message);
        }
    }

    fn exists(&self, uid: &str) -> bool {
        self.context
            .stores
            .price_books
            .find(|book| book.metadata.uid.as_deref() == Some(uid))
            .is_some()
    }

    fn sources(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn settings(spec: &InferencePriceBookSpec) -> Result<Settings, QuantityError> {
    let interval = match &spec.source.http {
        Some(http) => quantity::duration(&http.interval)?.max(SHORTEST_INTERVAL),
        None => REREAD,
    };
    let signed = |text: &str| {
        let duration = quantity::duration(text)?;
        SignedDuration::try_from(duration).map_err(|_| QuantityError::Duration(text.to_owned()))
    };
    Ok(Settings {
        interval,
        stale_after: signed(&spec.stale_after)?,
        limits: Limits {
            // A ratio below 1 would hold every change.
            max_ratio_micros: quantity::micros(&spec.guard.max_change_ratio)?.max(1_000_000),
            confirm_for: signed(&spec.guard.confirm_for)?,
        },
    })
}

/// Models whose held change the book's annotation names.
fn confirmed(book: &InferencePriceBook, status: &InferencePriceBookStatus) -> BTreeSet<String> {
    let annotation = book.annotations().get(names::ANNOTATION_CONFIRM_PRICES);
    let named = annotation.map_or("", String::as_str).split(',');
    let named: BTreeSet<&str> = named.map(str::trim).collect();
    let held = status.held.iter();
    held.filter(|held| named.contains(held.revision.as_str()))
        .map(|held| held.model.clone())
        .collect()
}

/// How long the prices are fresh yet; `None` when they are stale already.
fn until_stale(
    status: &InferencePriceBookStatus,
    stale_after: SignedDuration,
    now: Timestamp,
) -> Option<Duration> {
    let stale = status.as_of.as_ref()?.0.checked_add(stale_after).ok()?;
    let left = Duration::try_from(stale.duration_since(now)).ok()?;
    // Stale is what is older, and times in status are whole seconds.
    Some(left + Duration::from_secs(1))
}

impl ReadDocument {
    fn of(document: Document, etag: Option<String>, wanted: &BTreeSet<String>) -> Self {
        Self {
            rows: Rows::of(&document, wanted),
            document: document.of(wanted),
            etag,
        }
    }
}

/// Why a source could not be read.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("the price document could not be fetched")]
    Fetch(#[source] FetchError),
    #[error("the price document is of no use")]
    Parse(#[source] parse::ParseError),
    #[error("the price document was not parsed within {} s", PARSE_TIMEOUT.as_secs())]
    Slow,
    #[error("the price document could not be parsed")]
    ParserFailed(#[source] JoinError),
    #[error("the ConfigMap could not be read")]
    ConfigMap(#[source] kube::Error),
    #[error("{0}")]
    ConfigMapMissing(String),
    #[error("the spec names no source")]
    NoSource,
    #[error("the server says that nothing changed, but was not told what is known")]
    UnexpectedUnchanged,
}

impl ReadError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Fetch(FetchError::PrivateAddress(_)) => "PrivateAddress",
            Self::Fetch(FetchError::TooLarge) => "DocumentTooLarge",
            Self::Fetch(FetchError::Status(_)) => "ServerError",
            Self::Fetch(_) => "Unreachable",
            Self::Parse(_) | Self::Slow | Self::ParserFailed(_) => "DocumentInvalid",
            Self::ConfigMap(_) | Self::ConfigMapMissing(_) => "ConfigMapMissing",
            Self::NoSource => "NoSource",
            Self::UnexpectedUnchanged => "UnexpectedAnswer",
        }
    }

    fn to_string_chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}

//! Controller of price books: read the source when it is due, judge what it says, write the status, tell what changed.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Resource, ResourceExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_crds::price_book::{InferencePriceBookSpec, PriceFormat};
use weir_crds::quantity::{self, QuantityError};
use weir_crds::{InferencePriceBook, InferencePriceBookStatus};

use super::fetch::{self, FetchError, Fetched, Source};
use super::guard::{self, Change, Limits};
use super::parse::{self, Document};
use super::status::{self, Reading};
use crate::context::Context;
use crate::queue::{self, Key, Requeue};
use crate::status_writer::{StatusError, StatusWriter};
use crate::stores::{Kind, Stores, Trigger};

/// How often prices that stand in an object, or in a ConfigMap, are read again.
const REREAD: Duration = Duration::from_secs(60);
/// A source that failed is tried again after this, or after its interval if that is shorter.
const RETRY: Duration = Duration::from_secs(30);
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

struct Controller {
    context: Context,
    writer: StatusWriter<InferencePriceBook>,
    sources: Mutex<HashMap<String, Known>>,
}

/// What is remembered of a source between reads; lost with the process, and then read anew.
#[derive(Clone)]
struct Known {
    generation: i64,
    wanted: BTreeSet<String>,
    document: Option<(Document, Option<String>)>,
    due: Instant,
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
        if known.due > now {
            return Ok(Requeue::After(known.due - now));
        }
        let read = self.read(&book.spec, &known).await;
        let pause = match &read {
            Ok(_) => settings.interval,
            Err(_) => settings.interval.min(RETRY),
        };
        let known = Known {
            due: Instant::now() + pause,
            ..known
        };
        self.judge(&book, &settings, known, read).await?;
        Ok(Requeue::After(pause))
    }

    /// Judges what was read, or that nothing was, and writes the status.
    async fn judge(
        &self,
        book: &InferencePriceBook,
        settings: &Settings,
        mut known: Known,
        read: Result<ReadDocument, ReadError>,
    ) -> Result<(), StatusError> {
        let now = Timestamp::now();
        let previous = self.writer.current(book);
        let before = status::belief(&previous);
        let (belief, changes, reading) = match read {
            Ok(ReadDocument { document, etag }) => {
                let (belief, changes) =
                    guard::judge(&before, &document, &known.wanted, settings.limits, now);
                let reading = Reading::Read {
                    models: Some(document.prices.len()),
                    rejected: document.rejected.len(),
                    etag: etag.clone(),
                };
                known.document = Some((document, etag));
                (belief, changes, reading)
            }
            Err(error) => {
                let reading = Reading::Failed {
                    reason: error.reason(),
                    message: error.to_string_chain(),
                };
                (before.clone(), Vec::new(), reading)
            }
        };
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
        Ok(())
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
            return Ok(ReadDocument {
                document: parse::entries(&inline.entries),
                etag: None,
            });
        }
        if let Some(reference) = &source.config_map_ref {
            let text = self.config_map(&reference.name, &reference.key).await?;
            return parsed(reference.format, &text, None);
        }
        let Some(http) = &source.http else {
            return Err(ReadError::NoSource);
        };
        let etag = known
            .document
            .as_ref()
            .and_then(|(_, etag)| etag.as_deref());
        let request = Source {
            url: &http.url,
            ca_bundle: http.ca_bundle.as_deref(),
            allow_private_addresses: http.allow_private_addresses,
            etag,
        };
        let fetched = fetch::fetch(&request);
        match (fetched.await.map_err(ReadError::Fetch)?, &known.document) {
            (Fetched::Document { text, etag }, _) => parsed(http.format, &text, etag),
            (Fetched::Unchanged, Some((document, etag))) => Ok(ReadDocument {
                document: document.clone(),
                etag: etag.clone(),
            }),
            (Fetched::Unchanged, None) => Err(ReadError::UnexpectedUnchanged),
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
            Some(known) if known.generation == generation => Known {
                wanted: wanted.clone(),
                due: Instant::now(),
                ..known.clone()
            },
            _ => Known {
                generation,
                wanted: wanted.clone(),
                document: None,
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
                    quantity::decimal(price.input),
                    quantity::decimal(price.output)
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

struct ReadDocument {
    document: Document,
    etag: Option<String>,
}

fn parsed(
    format: PriceFormat,
    text: &str,
    etag: Option<String>,
) -> Result<ReadDocument, ReadError> {
    let document = parse::parse(format, text).map_err(ReadError::Parse)?;
    Ok(ReadDocument { document, etag })
}

/// Why a source could not be read.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("the price document could not be fetched")]
    Fetch(#[source] FetchError),
    #[error("the price document is of no use")]
    Parse(#[source] parse::ParseError),
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
            Self::Parse(_) => "DocumentInvalid",
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

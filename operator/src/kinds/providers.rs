//! Controller of providers: what the cloud plane measured.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;
use weir_crds::provider::Circuit;
use weir_crds::provider::InferenceProviderSpec;
use weir_crds::{InferencePriceBook, InferenceProvider};

use crate::context::Context;
use crate::provider::{self, Book, Observation};
use crate::queue::{self, Key, Requeue};
use crate::status_writer::{StatusError, StatusWriter};
use crate::stores::{Kind, Stores, Trigger};
use crate::telemetry::TelemetryChange;

const LOOK_AGAIN: Duration = Duration::from_secs(60);

struct Controller {
    context: Context,
    writer: StatusWriter<InferenceProvider>,
}

pub async fn run(context: Context, stop: CancellationToken) {
    let controller = Arc::new(Controller {
        writer: StatusWriter::new(context.client.clone()),
        context: context.clone(),
    });
    let stores = context.stores.clone();
    let changed = context
        .stores
        .changes([Kind::Provider, Kind::PriceBook])
        .flat_map(move |trigger| stream::iter(affected(&stores, trigger)));
    let stores = context.stores.clone();
    let reported = context.telemetry.subscribe().flat_map(move |change| {
        stream::iter(match change {
            TelemetryChange::Provider(name) => vec![Key::cluster(name)],
            TelemetryChange::Gateways(_) | TelemetryChange::Missed => all(&stores),
            TelemetryChange::Workload(_) | TelemetryChange::Node(_) => Vec::new(),
        })
    });
    let triggers = stream::iter(all(&context.stores)).chain(stream::select(changed, reported));
    let reconcile = move |key: Key| {
        let controller = Arc::clone(&controller);
        async move { controller.reconcile(&key).await }
    };
    queue::run(context.queue("provider"), triggers, reconcile, stop).await;
}

fn affected(stores: &Stores, trigger: Trigger) -> Vec<Key> {
    match trigger {
        Trigger::Changed(change) if change.kind == Kind::Provider => {
            vec![Key::cluster(change.name)]
        }
        _ => all(stores),
    }
}

fn all(stores: &Stores) -> Vec<Key> {
    stores
        .providers
        .state()
        .iter()
        .map(|provider| Key::of(provider.as_ref()))
        .collect()
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<Requeue, StatusError> {
        let stores = &self.context.stores;
        let Some(provider) = Stores::get(&stores.providers, None, &key.name) else {
            return Ok(Requeue::OnChange);
        };
        let book = match &provider.spec.price_book_ref {
            None => Book::NotNamed,
            Some(book) => match Stores::get(&stores.price_books, None, &book.name) {
                Some(book) => Book::Found {
                    unpriced: unpriced(&provider.spec, &book),
                },
                None => Book::Missing,
            },
        };
        let observed = self
            .context
            .telemetry
            .provider(&key.name)
            .map(|told| Observation {
                circuit: told.circuit.and_then(circuit),
                ttft_ms: told.ttft_ms,
                error_percent: told.error_percent,
                unusable: told.unusable,
                failure: told.failure,
            })
            .unwrap_or_default();
        let previous = self.writer.current(&provider);
        let at = (
            provider.metadata.generation.unwrap_or(0),
            self.context.clock.now(),
        );
        let next = provider::status(&provider.spec, &previous, &observed, book, at);
        self.writer.write(&provider, &next).await?;
        Ok(Requeue::After(LOOK_AGAIN))
    }
}

/// Models of a provider that its book has no price for; `None` before the book was read.
fn unpriced(spec: &InferenceProviderSpec, book: &InferencePriceBook) -> Option<Vec<String>> {
    let status = book
        .status
        .as_ref()
        .filter(|status| status.revision.is_some())?;
    let priced: BTreeSet<&str> = status
        .prices
        .iter()
        .map(|entry| entry.model.as_str())
        .collect();
    let models = spec.models.iter().filter(|model| {
        let key = model.price_key.as_ref().unwrap_or(&model.name);
        !priced.contains(key.as_str())
    });
    Some(models.map(|model| model.name.clone()).collect())
}

/// The contract's circuit as the API's; unspecified is not measured.
fn circuit(told: weir_proto::Circuit) -> Option<Circuit> {
    match told {
        weir_proto::Circuit::Unspecified => None,
        weir_proto::Circuit::Closed => Some(Circuit::Closed),
        weir_proto::Circuit::Open => Some(Circuit::Open),
        weir_proto::Circuit::HalfOpen => Some(Circuit::HalfOpen),
    }
}

//! Pure: prices of the command line and of feeds, put into price books as if their sources had been read.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use weir_crds::price_book::{InferencePriceBookSpec, PriceFormat, PriceSource};
use weir_crds::provider::{InferenceProviderSpec, ProviderModel};
use weir_crds::quantity::{self, QuantityError};
use weir_crds::workload::NameRef;
use weir_crds::{InferencePriceBook, InferencePriceBookStatus};
use weir_operator_core::price_book::guard::{self, Belief, Limits};
use weir_operator_core::price_book::parse::{self, Document, ModelPrice, TierPrice};
use weir_operator_core::price_book::status::{self, Reading, Rows};

use crate::objects::Objects;

/// Name of the book of providers that have none.
const OWN_BOOK: &str = "command-line";

/// A price given on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceOverride {
    /// The model, perhaps with its provider before it.
    pub model: String,
    /// Micro-USD per million tokens of prompts.
    pub input: u64,
    /// Micro-USD per million tokens of answers; `None`: as known.
    pub output: Option<u64>,
}

impl FromStr for PriceOverride {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = "write [PROVIDER/]MODEL=INPUT[:OUTPUT], in USD per million tokens";
        let (model, prices) = text.rsplit_once('=').ok_or(form)?;
        if model.is_empty() {
            return Err(form.to_owned());
        }
        let read = |text: &str| {
            quantity::micros(text.trim_start_matches('$'))
                .map_err(|error| format!("{error}; {form}"))
        };
        let (input, output) = match prices.split_once(':') {
            Some((input, output)) => (read(input)?, Some(read(output)?)),
            None => (read(prices)?, None),
        };
        Ok(Self {
            model: model.to_owned(),
            input,
            output,
        })
    }
}

/// Why prices cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// No provider has that model.
    #[error("--price {0}: no InferenceProvider here has this model; the models are {1}")]
    UnknownModel(String, String),
    /// The output price is unknown.
    #[error(
        "--price {model}: its output price is not known, so write --price {model}={input}:OUTPUT"
    )]
    NoOutput {
        /// The model.
        model: String,
        /// The input price that was given.
        input: String,
    },
    /// The book cannot be understood.
    #[error("InferencePriceBook {name}: {source}")]
    Book {
        /// Name of the book.
        name: String,
        /// What is wrong with it.
        source: QuantityError,
    },
}

/// When the guard of a book holds a change.
pub(crate) fn limits(spec: &InferencePriceBookSpec) -> Result<Limits, QuantityError> {
    Ok(Limits {
        // As the operator reads it: a ratio below 1 would hold every change.
        max_ratio_micros: quantity::micros(&spec.guard.max_change_ratio)?.max(1_000_000),
        confirm_for: signed(&spec.guard.confirm_for)?,
    })
}

fn signed(text: &str) -> Result<SignedDuration, QuantityError> {
    SignedDuration::try_from(quantity::duration(text)?)
        .map_err(|_| QuantityError::Duration(text.to_owned()))
}

/// The name that a model has in its price book.
pub(crate) fn price_key(model: &ProviderModel) -> &str {
    model.price_key.as_deref().unwrap_or(&model.name)
}

/// Reads the books that hold their prices themselves, or whose ConfigMap is here, as the operator does. Books that it
/// has read already, by their status, stand.
///
/// # Errors
/// When a quantity of a book cannot be read.
pub fn read_books(objects: &mut Objects, now: Timestamp) -> Result<(), PriceError> {
    let wanted = wanted(objects);
    let config_maps = objects.config_maps.clone();
    for (name, book) in &mut objects.price_books {
        let read = book
            .status
            .as_ref()
            .is_some_and(|status| status.as_of.is_some());
        let source = &book.spec.source;
        let document = if read {
            None
        } else if let Some(inline) = &source.inline {
            Some(parse::entries(&inline.entries))
        } else {
            source.config_map_ref.as_ref().and_then(|reference| {
                let data = config_maps.get(&reference.name)?.data.as_ref()?;
                parse::parse(reference.format, data.get(&reference.key)?).ok()
            })
        };
        let Some(document) = document else { continue };
        let failed = |source| PriceError::Book {
            name: name.clone(),
            source,
        };
        let limits = limits(&book.spec).map_err(failed)?;
        let stale_after = signed(&book.spec.stale_after).map_err(failed)?;
        let none = BTreeSet::new();
        let wanted = wanted.get(name).unwrap_or(&none);
        let before = book.status.as_ref().map(status::belief).unwrap_or_default();
        let (belief, changes) = guard::judge(&before, &document, wanted, limits, now);
        let reading = Reading::Read {
            rows: Rows::of(&document, wanted),
            etag: None,
        };
        let previous = InferencePriceBookStatus::default();
        let at = (0, stale_after, now);
        book.status = Some(status::render(&previous, &belief, &changes, &reading, at));
    }
    Ok(())
}

/// Models that providers look up, by book.
fn wanted(objects: &Objects) -> BTreeMap<String, BTreeSet<String>> {
    let mut wanted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for provider in objects.providers.values() {
        if let Some(book) = &provider.spec.price_book_ref {
            let keys = provider
                .spec
                .models
                .iter()
                .map(|model| price_key(model).to_owned());
            wanted.entry(book.name.clone()).or_default().extend(keys);
        }
    }
    wanted
}

/// Takes the prices of a feed for every model that has one there. Says what the guard would hold back, which a what-if
/// does not.
///
/// # Errors
/// When a quantity of a book cannot be read.
pub fn apply_feed(
    objects: &mut Objects,
    feed: &Document,
    now: Timestamp,
) -> Result<Vec<String>, PriceError> {
    let mut given = Vec::new();
    for (name, provider) in &objects.providers {
        for model in &provider.spec.models {
            if let Some(price) = feed.prices.get(price_key(model)) {
                given.push((name.clone(), price_key(model).to_owned(), price.clone()));
            }
        }
    }
    given
        .into_iter()
        .map(|(provider, key, price)| put(objects, &provider, (&key, price), now))
        .collect::<Result<Vec<_>, _>>()
        .map(|notes| notes.into_iter().flatten().collect())
}

/// Takes the prices of the command line.
///
/// # Errors
/// When a model is unknown or an output price is missing.
pub fn apply_overrides(
    objects: &mut Objects,
    overrides: &[PriceOverride],
    now: Timestamp,
) -> Result<Vec<String>, PriceError> {
    let mut notes = Vec::new();
    for given in overrides {
        let places = places(objects, &given.model);
        if places.is_empty() {
            return Err(PriceError::UnknownModel(
                given.model.clone(),
                models(objects),
            ));
        }
        for (provider, key) in places {
            let known = known(objects, &provider, &key);
            let known_output = known.as_ref().map(|known| known.base.output);
            let output = given.output.or(known_output);
            let output = output.ok_or_else(|| PriceError::NoOutput {
                model: given.model.clone(),
                input: quantity::decimal(given.input),
            })?;
            let price = repriced(known, given.input, output);
            notes.extend(put(objects, &provider, (&key, price), now)?);
        }
    }
    Ok(notes)
}

/// A price with another input and output price. Discounts of caches and prices of long prompts are kept in proportion:
/// catalogues state them as shares of the plain prices.
fn repriced(known: Option<ModelPrice>, input: u64, output: u64) -> ModelPrice {
    let Some(known) = known else {
        let base = TierPrice {
            input,
            output,
            ..TierPrice::default()
        };
        return ModelPrice {
            base,
            ..ModelPrice::default()
        };
    };
    let of_input = |price| scaled(price, known.base.input, input);
    let of_output = |price| scaled(price, known.base.output, output);
    let tier = |tier: &TierPrice| {
        Some(TierPrice {
            input: of_input(tier.input)?,
            cached_input: tier.cached_input.and_then(of_input),
            cache_write: tier.cache_write.and_then(of_input),
            output: of_output(tier.output)?,
            reasoning: tier.reasoning.and_then(of_output),
        })
    };
    let tiers = known.context_tiers.iter();
    ModelPrice {
        base: TierPrice {
            input,
            cached_input: known.base.cached_input.and_then(of_input),
            cache_write: known.base.cache_write.and_then(of_input),
            output,
            reasoning: known.base.reasoning.and_then(of_output),
        },
        per_request: known.per_request,
        batch_discount_percent: known.batch_discount_percent,
        context_tiers: tiers
            .filter_map(|(tokens, price)| Some((*tokens, tier(price)?)))
            .collect(),
        upcoming: BTreeMap::new(),
    }
}

/// `price · to / from`; `None` where that is no price.
fn scaled(price: u64, from: u64, to: u64) -> Option<u64> {
    let scaled = (u128::from(price) * u128::from(to)).checked_div(u128::from(from))?;
    u64::try_from(scaled).ok()
}

/// Providers, with price keys, that a name on the command line means: a model of any provider, or `PROVIDER/MODEL`.
fn places(objects: &Objects, name: &str) -> Vec<(String, String)> {
    let matching = |spec: &InferenceProviderSpec, wanted: &str| {
        let mut models = spec.models.iter();
        let found = models.find(|model| model.name == wanted || price_key(model) == wanted);
        found.map(|model| price_key(model).to_owned())
    };
    let everywhere = objects.providers.iter();
    let mut places: Vec<_> = everywhere
        .filter_map(|(provider, object)| Some((provider.clone(), matching(&object.spec, name)?)))
        .collect();
    if let Some((provider, model)) = name.split_once('/')
        && let Some(object) = objects.providers.get(provider)
        && let Some(key) = matching(&object.spec, model)
    {
        places = vec![(provider.to_owned(), key)];
    }
    places
}

fn models(objects: &Objects) -> String {
    let providers = objects.providers.iter();
    let names: Vec<String> = providers
        .flat_map(|(provider, object)| {
            let models = object.spec.models.iter();
            models.map(move |model| format!("{provider}/{}", model.name))
        })
        .collect();
    if names.is_empty() {
        "none: no InferenceProvider was found".to_owned()
    } else {
        names.join(", ")
    }
}

fn known(objects: &Objects, provider: &str, key: &str) -> Option<ModelPrice> {
    let reference = objects
        .providers
        .get(provider)?
        .spec
        .price_book_ref
        .as_ref()?;
    let status = objects.price_books.get(&reference.name)?.status.as_ref()?;
    status::belief(status).prices.get(key).cloned()
}

/// Writes a price into the provider's book as believed now, and the whole book with it. Says why the guard would have
/// held it, if it would, and that the book's other prices were stale, if they were.
fn put(
    objects: &mut Objects,
    provider: &str,
    (key, price): (&str, ModelPrice),
    now: Timestamp,
) -> Result<Vec<String>, PriceError> {
    let Some(provider) = objects.providers.get_mut(provider) else {
        return Ok(Vec::new());
    };
    let own = || NameRef {
        name: OWN_BOOK.to_owned(),
    };
    let name = provider
        .spec
        .price_book_ref
        .get_or_insert_with(own)
        .name
        .clone();
    let book = objects
        .price_books
        .entry(name.clone())
        .or_insert_with(|| empty_book(&name));
    let failed = |source| PriceError::Book {
        name: name.clone(),
        source,
    };
    let limits = limits(&book.spec).map_err(failed)?;
    let stale_after = signed(&book.spec.stale_after).map_err(failed)?;
    let status = book.status.get_or_insert_default();
    let mut notes = Vec::new();
    let age = status
        .as_of
        .as_ref()
        .map(|as_of| now.duration_since(as_of.0));
    let others = status.prices.iter().any(|entry| entry.model != key);
    if others && let Some(age) = age.filter(|age| *age > stale_after) {
        let hours = age.as_hours();
        notes.push(format!(
            "the prices of {name} were confirmed {hours} hours ago and are stale; here they count as confirmed now"
        ));
    }
    let before = Belief {
        held: BTreeMap::new(),
        ..status::belief(status)
    };
    let document = Document {
        prices: BTreeMap::from([(key.to_owned(), price.clone())]),
        ..Document::default()
    };
    let judged = guard::judge(
        &before,
        &document,
        &BTreeSet::from([key.to_owned()]),
        limits,
        now,
    );
    status.held.retain(|held| held.model != key);
    status.prices.retain(|entry| entry.model != key);
    status.prices.push(parse::to_entry(key, &price.at(now)));
    status.prices.sort_by(|a, b| a.model.cmp(&b.model));
    status.as_of = Some(Time(now));
    status.revision = Some("what-if".to_owned());
    if let Some(held) = judged.0.held.get(key) {
        let wait = limits.confirm_for;
        notes.push(format!(
            "the price guard would hold {key} for {wait:#}: {}",
            held.reason
        ));
    }
    Ok(notes)
}

fn empty_book(name: &str) -> InferencePriceBook {
    InferencePriceBook {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        spec: InferencePriceBookSpec {
            source: PriceSource {
                inline: None,
                config_map_ref: None,
                http: None,
            },
            stale_after: "7d".to_owned(),
            guard: Default::default(),
        },
        status: None,
    }
}

/// Where a book's prices come from, for people.
pub(crate) fn source(book: &InferencePriceBook) -> String {
    let source = &book.spec.source;
    match (&source.http, &source.config_map_ref) {
        (Some(http), _) => {
            let format = match http.format {
                PriceFormat::Weir => "Weir",
                PriceFormat::LiteLLM => "LiteLLM",
                PriceFormat::OpenRouter => "OpenRouter",
            };
            format!("{} ({format})", http.url)
        }
        (None, Some(reference)) => format!("ConfigMap {}, key {}", reference.name, reference.key),
        (None, None) => "the object itself".to_owned(),
    }
}

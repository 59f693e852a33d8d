//! Pure: which held changes of a price book a person confirms, and what that says.

use std::collections::BTreeSet;

use kube::ResourceExt;
use weir_crds::price_book::{Found, HeldPrice, PriceEntry};
use weir_crds::{InferencePriceBook, InferenceProvider, names};

use crate::prices::price_key;
use crate::text::{Table, UNKNOWN};

/// Why nothing is confirmed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfirmError {
    /// The guard holds nothing that was asked for.
    #[error(
        "the price guard of InferencePriceBook {book} holds nothing{of}: `kubectl get ipb {book}` shows what is held"
    )]
    NothingHeld {
        /// The book.
        book: String,
        /// What was asked for, such as ` of model m`.
        of: String,
    },
    /// What is held are rows that cannot be read.
    #[error(
        "the rows of {models} cannot be read, so there is no price to confirm: mend them in the source of InferencePriceBook {book}"
    )]
    Unreadable {
        /// The book.
        book: String,
        /// The models.
        models: String,
    },
    /// The provider takes its prices elsewhere.
    #[error("InferenceProvider {provider} takes no prices from InferencePriceBook {book}")]
    OtherBook {
        /// The book.
        book: String,
        /// The provider.
        provider: String,
    },
}

/// What is confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Confirmation {
    /// The annotation's value.
    pub(crate) revisions: String,
    /// Both prices of each change.
    pub(crate) output: String,
}

/// Confirms the held changes of a book that are asked for: of a model, of a provider's models, or all.
///
/// # Errors
/// When there is nothing to confirm.
pub(crate) fn confirm(
    book: &InferencePriceBook,
    model: Option<&str>,
    provider: Option<&InferenceProvider>,
) -> Result<Confirmation, ConfirmError> {
    let name = book.name_any();
    if let Some(provider) = provider {
        let reference = provider.spec.price_book_ref.as_ref();
        if reference.is_none_or(|reference| reference.name != name) {
            return Err(ConfirmError::OtherBook {
                book: name,
                provider: provider.name_any(),
            });
        }
    }
    let held = book.status.iter().flat_map(|status| &status.held);
    let asked: Vec<&HeldPrice> = held
        .filter(|held| is_asked(held, model, provider))
        .collect();
    let (unreadable, confirmed): (Vec<&HeldPrice>, Vec<&HeldPrice>) = asked
        .into_iter()
        .partition(|held| held.found == Found::Unreadable);
    if confirmed.is_empty() && !unreadable.is_empty() {
        let models: Vec<&str> = unreadable.iter().map(|held| held.model.as_str()).collect();
        return Err(ConfirmError::Unreadable {
            book: name,
            models: models.join(", "),
        });
    }
    if confirmed.is_empty() {
        let model = model.map(|model| format!(" of model {model}"));
        let provider = provider.map(|provider| format!(" of provider {}", provider.name_any()));
        return Err(ConfirmError::NothingHeld {
            book: name,
            of: model.unwrap_or_default() + &provider.unwrap_or_default(),
        });
    }
    Ok(Confirmation {
        revisions: revisions(book, &confirmed),
        output: table(book, &confirmed, &unreadable),
    })
}

fn is_asked(held: &HeldPrice, model: Option<&str>, provider: Option<&InferenceProvider>) -> bool {
    let key_of = |name: &str| {
        let mut models = provider.iter().flat_map(|provider| &provider.spec.models);
        models.find(|model| model.name == name).map(price_key)
    };
    let is_model = |wanted: &str| held.model == wanted || key_of(wanted) == Some(&held.model);
    let is_provider = |provider: &InferenceProvider| {
        let mut models = provider.spec.models.iter();
        models.any(|model| price_key(model) == held.model)
    };
    model.is_none_or(is_model) && provider.is_none_or(is_provider)
}

/// Those that are confirmed now, and those from before that still wait to be taken.
fn revisions(book: &InferencePriceBook, confirmed: &[&HeldPrice]) -> String {
    let held = book.status.iter().flat_map(|status| &status.held);
    let known: BTreeSet<&str> = held.map(|held| held.revision.as_str()).collect();
    let before = book.annotations().get(names::ANNOTATION_CONFIRM_PRICES);
    let before = before.map_or("", String::as_str).split(',').map(str::trim);
    let mut all: BTreeSet<&str> = before.filter(|revision| known.contains(revision)).collect();
    all.extend(confirmed.iter().map(|held| held.revision.as_str()));
    Vec::from_iter(all).join(",")
}

fn table(book: &InferencePriceBook, confirmed: &[&HeldPrice], unreadable: &[&HeldPrice]) -> String {
    let mut table = Table::new(["MODEL", "BELIEVED $/1M", "CONFIRMED $/1M", "HELD BECAUSE"]);
    for held in confirmed {
        let mut believed = book.status.iter().flat_map(|status| &status.prices);
        let believed = believed.find(|entry| entry.model == held.model);
        table.row([
            held.model.clone(),
            pair(believed),
            pair(held.read.as_ref()),
            held.reason.clone(),
        ]);
    }
    let mut text = table.render();
    for held in unreadable {
        text.push_str(&format!("Not {}: {}\n", held.model, held.reason));
    }
    let count = confirmed.len();
    let plural = if count == 1 { "" } else { "s" };
    text.push_str(&format!(
        "\nConfirmed {count} change{plural} of InferencePriceBook {}; the operator takes them within seconds.\n",
        book.name_any()
    ));
    text
}

/// Input and output price.
fn pair(entry: Option<&PriceEntry>) -> String {
    entry.map_or_else(
        || UNKNOWN.to_owned(),
        |entry| {
            let tokens = &entry.tokens;
            format!(
                "{}/{}",
                tokens.input_usd_per_million_tokens, tokens.output_usd_per_million_tokens
            )
        },
    )
}

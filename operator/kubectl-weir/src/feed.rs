//! Pure: a text with prices, in whichever of the known formats it is.

use serde_json::Value;
use weir_crds::InferencePriceBook;
use weir_crds::price_book::PriceFormat;
use weir_operator_core::price_book::parse::{self, Document};
use weir_operator_core::price_book::status::belief;

/// Why a text has no prices.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// Neither JSON nor YAML.
    #[error("{name} is neither JSON nor YAML: {reason}")]
    Syntax {
        /// Where the text comes from.
        name: String,
        /// What the parser said.
        reason: String,
    },
    /// It has no prices.
    #[error(
        "{name} has no prices; known are LiteLLM's model_prices_and_context_window.json, OpenRouter's models, Weir's `entries:` and InferencePriceBook objects"
    )]
    Prices {
        /// Where the text comes from.
        name: String,
        /// What the operator's parser said.
        source: parse::ParseError,
    },
    /// A price book that has no prices in it.
    #[error(
        "InferencePriceBook {0} has no prices of its own and none in its status: give the feed that it reads instead"
    )]
    NoPrices(String),
}

/// Prices, with the book that they come from where there is one.
#[derive(Debug, Clone, Default)]
pub struct Feed {
    /// What the operator's parser reads.
    pub document: Document,
    /// The price book.
    pub book: Option<InferencePriceBook>,
}

/// Reads a text. `name` is for messages.
///
/// # Errors
/// When no price can be read; single rows that cannot be are in the document.
pub fn read(name: &str, text: &str) -> Result<Feed, FeedError> {
    // A catalogue is megabytes of JSON, which the YAML parser reads ten times as slowly.
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(_) => serde_yaml_ng::from_str(text).map_err(|error| FeedError::Syntax {
            name: name.to_owned(),
            reason: error.to_string(),
        })?,
    };
    if value["kind"] == "InferencePriceBook" {
        let book = serde_json::from_value(value).map_err(|error| FeedError::Syntax {
            name: name.to_owned(),
            reason: error.to_string(),
        })?;
        return of_book(book);
    }
    let format = if value["data"].is_array() {
        PriceFormat::OpenRouter
    } else if value["entries"].is_array() {
        PriceFormat::Weir
    } else {
        PriceFormat::LiteLLM
    };
    let document = parse::parse(format, text).map_err(|source| FeedError::Prices {
        name: name.to_owned(),
        source,
    })?;
    Ok(Feed {
        document,
        book: None,
    })
}

/// The prices of a book: those that are believed, or else those that stand in it.
///
/// # Errors
/// When it has none.
pub fn of_book(book: InferencePriceBook) -> Result<Feed, FeedError> {
    let believed = book.status.as_ref().map(belief).unwrap_or_default().prices;
    let inline = book.spec.source.inline.as_ref();
    let document = match inline {
        _ if !believed.is_empty() => Document {
            prices: believed,
            ..Document::default()
        },
        Some(inline) => parse::entries(&inline.entries),
        None => return Err(FeedError::NoPrices(book.metadata.name.unwrap_or_default())),
    };
    Ok(Feed {
        document,
        book: Some(book),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(r#"{"m": {"input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06}}"#)]
    #[case(
        r#"{"data": [{"id": "m", "pricing": {"prompt": "0.000001", "completion": "0.000002"}}]}"#
    )]
    #[case("entries:\n- {model: m, inputUsdPerMillionTokens: '1', outputUsdPerMillionTokens: '2'}")]
    #[case(
        "{kind: InferencePriceBook, apiVersion: inference.weir.dev/v1alpha1, metadata: {name: b}, spec: {source: {inline: {entries: [{model: m, inputUsdPerMillionTokens: '1', outputUsdPerMillionTokens: '2'}]}}}}"
    )]
    fn every_format_is_told_by_its_shape(#[case] text: &str) {
        let price = read("a file", text).expect("readable").document.prices["m"].base;
        assert_eq!((price.input, price.output), (1_000_000, 2_000_000));
    }

    #[rstest]
    #[case("{}")]
    #[case("[1, 2]")]
    #[case(
        "{kind: InferencePriceBook, apiVersion: inference.weir.dev/v1alpha1, metadata: {name: b}, spec: {source: {http: {url: 'https://example.com'}}}}"
    )]
    fn a_text_without_prices_is_an_error_that_says_so(#[case] text: &str) {
        let error = read("feed.json", text).expect_err("has none").to_string();
        assert!(error.contains("no prices"), "{error}");
    }
}

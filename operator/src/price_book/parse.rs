//! Pure: a price document becomes prices in micro-USD per million tokens. What cannot be read is named, never guessed.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use weir_crds::price_book::{PriceEntry, PriceFormat};
use weir_crds::quantity;

/// Most models that a document may have.
pub const MAX_MODELS: usize = 50_000;
/// Above this, in micro-USD per million tokens, a price is taken for a mistake of units until confirmed.
/// The dearest list price of a chat model in LiteLLM's catalogue of 2023–2026 is 600 USD; its known unit errors lie
/// at 100 000 USD and more.
pub const IMPLAUSIBLE: u64 = 1_000 * 1_000_000;

/// Prices of one model, in micro-USD per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelPrice {
    /// Prompt tokens.
    pub input: u64,
    /// Prompt tokens that the provider's cache answers; `None`: as the others.
    pub cached_input: Option<u64>,
    /// Answer tokens.
    pub output: u64,
}

/// What a document says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// Prices by model.
    pub prices: BTreeMap<String, ModelPrice>,
    /// Rows that could not be read, with the reason.
    pub rejected: BTreeMap<String, String>,
}

/// Why a document cannot be used at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not JSON, or for the format Weir not YAML either.
    #[error("the document cannot be read as {format}: {reason}")]
    Syntax {
        /// The format that was expected.
        format: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// It has no model with a price.
    #[error("the document has no model with a price")]
    Empty,
    /// It has more models than [`MAX_MODELS`].
    #[error("the document has {0} models, more than {MAX_MODELS}")]
    TooMany(usize),
}

#[derive(Deserialize)]
struct WeirDocument {
    entries: Vec<PriceEntry>,
}

/// Reads a document.
///
/// # Errors
/// When it has no prices at all; single rows that cannot be read are in [`Document::rejected`].
pub fn parse(format: PriceFormat, text: &str) -> Result<Document, ParseError> {
    let document = match format {
        PriceFormat::Weir => weir(text)?,
        PriceFormat::LiteLLM => litellm(text)?,
        PriceFormat::OpenRouter => openrouter(text)?,
    };
    if document.prices.len() > MAX_MODELS {
        return Err(ParseError::TooMany(document.prices.len()));
    }
    if document.prices.is_empty() {
        return Err(ParseError::Empty);
    }
    Ok(document)
}

/// Prices of entries that stand in an object.
pub fn entries(entries: &[PriceEntry]) -> Document {
    let mut document = Document::default();
    for entry in entries {
        match entry_price(entry) {
            Ok(price) => {
                document.prices.insert(entry.model.clone(), price);
            }
            Err(reason) => {
                document.rejected.insert(entry.model.clone(), reason);
            }
        }
    }
    document
}

/// Reads the decimal strings of an entry.
pub fn entry_price(entry: &PriceEntry) -> Result<ModelPrice, String> {
    let read = |text: &str| quantity::micros(text).map_err(|error| error.to_string());
    Ok(ModelPrice {
        input: read(&entry.input_usd_per_million_tokens)?,
        cached_input: entry
            .cached_input_usd_per_million_tokens
            .as_deref()
            .map(read)
            .transpose()?,
        output: read(&entry.output_usd_per_million_tokens)?,
    })
}

/// The entry that states a price.
pub fn to_entry(model: &str, price: &ModelPrice) -> PriceEntry {
    PriceEntry {
        model: model.to_owned(),
        input_usd_per_million_tokens: quantity::decimal(price.input),
        cached_input_usd_per_million_tokens: price.cached_input.map(quantity::decimal),
        output_usd_per_million_tokens: quantity::decimal(price.output),
    }
}

fn weir(text: &str) -> Result<Document, ParseError> {
    let document: WeirDocument =
        serde_yaml_ng::from_str(text).map_err(|error| ParseError::Syntax {
            format: "Weir",
            reason: error.to_string(),
        })?;
    Ok(entries(&document.entries))
}

fn litellm(text: &str) -> Result<Document, ParseError> {
    let models: BTreeMap<String, Value> = json("LiteLLM", text)?;
    let mut document = Document::default();
    for (model, row) in models {
        // The catalogue's own documentation row, and models that are not priced by tokens.
        if model == "sample_spec" || row.get("input_cost_per_token").is_none() {
            continue;
        }
        let price = (|| {
            Ok(ModelPrice {
                input: required(&row, "input_cost_per_token")?,
                cached_input: optional(&row, "cache_read_input_token_cost")?,
                // Embedding models have no answer tokens and no price for them.
                output: optional(&row, "output_cost_per_token")?.unwrap_or(0),
            })
        })();
        document.put(model, price);
    }
    Ok(document)
}

fn openrouter(text: &str) -> Result<Document, ParseError> {
    #[derive(Deserialize)]
    struct Models {
        data: Vec<Model>,
    }
    #[derive(Deserialize)]
    struct Model {
        id: String,
        pricing: Option<Value>,
    }
    let models: Models = json("OpenRouter", text)?;
    let mut document = Document::default();
    for Model { id, pricing } in models.data {
        let Some(row) = pricing else { continue };
        let price = (|| {
            Ok(ModelPrice {
                input: required(&row, "prompt")?,
                cached_input: optional(&row, "input_cache_read")?,
                output: required(&row, "completion")?,
            })
        })();
        document.put(id, price);
    }
    Ok(document)
}

impl Document {
    fn put(&mut self, model: String, price: Result<ModelPrice, String>) {
        match price {
            Ok(price) => {
                self.prices.insert(model, price);
            }
            Err(reason) => {
                self.rejected.insert(model, reason);
            }
        }
    }
}

fn json<T: for<'a> Deserialize<'a>>(format: &'static str, text: &str) -> Result<T, ParseError> {
    serde_json::from_str(text).map_err(|error| ParseError::Syntax {
        format,
        reason: error.to_string(),
    })
}

fn required(row: &Value, field: &str) -> Result<u64, String> {
    optional(row, field)?.ok_or_else(|| format!("{field} is missing"))
}

/// USD per token, as a number or a decimal string, to micro-USD per million tokens: a factor of 10^12.
fn optional(row: &Value, field: &str) -> Result<Option<u64>, String> {
    let usd_per_token = match row.get(field) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse::<f64>().ok(),
        Some(_) => None,
    };
    let scaled = usd_per_token.map(|usd| (usd * 1e12).round());
    match scaled {
        Some(scaled) if scaled.is_finite() && (0.0..1e15).contains(&scaled) => {
            Ok(Some(scaled as u64))
        }
        _ => Err(format!(
            "{field} is not an amount of USD per token: {}",
            row.get(field).map(ToString::to_string).unwrap_or_default()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const LITELLM: &str = r#"{
        "sample_spec": {"input_cost_per_token": 0.0},
        "acme-small": {"input_cost_per_token": 2.8e-06, "output_cost_per_token": 5.6e-06, "cache_read_input_token_cost": 2.8e-07, "mode": "chat"},
        "acme-image": {"output_cost_per_image": 0.04},
        "acme-embed": {"input_cost_per_token": 2e-08},
        "acme-broken": {"input_cost_per_token": -1e-06, "output_cost_per_token": 1e-06},
        "acme-text": {"input_cost_per_token": "1e-06", "output_cost_per_token": "NaN"}
    }"#;

    #[test]
    fn litellm_prices_are_read_per_million_tokens() {
        let document = parse(PriceFormat::LiteLLM, LITELLM).expect("readable");
        assert_eq!(
            document.prices["acme-small"],
            ModelPrice {
                input: 2_800_000,
                cached_input: Some(280_000),
                output: 5_600_000
            }
        );
        assert_eq!(document.prices["acme-embed"].output, 0);
        assert!(!document.prices.contains_key("sample_spec"));
        assert!(!document.prices.contains_key("acme-image"));
    }

    #[test]
    fn a_row_that_is_no_price_is_named_and_the_others_are_kept() {
        let document = parse(PriceFormat::LiteLLM, LITELLM).expect("readable");
        assert_eq!(
            document.rejected.keys().collect::<Vec<_>>(),
            ["acme-broken", "acme-text"]
        );
    }

    #[test]
    fn openrouter_prices_are_read_from_strings() {
        let text = r#"{"data": [{"id": "acme/small", "pricing": {"prompt": "0.00000028", "completion": "0.0000011", "input_cache_read": "0.00000003"}}, {"id": "acme/none"}]}"#;
        let document = parse(PriceFormat::OpenRouter, text).expect("readable");
        assert_eq!(
            document.prices["acme/small"],
            ModelPrice {
                input: 280_000,
                cached_input: Some(30_000),
                output: 1_100_000
            }
        );
    }

    #[test]
    fn weirs_own_format_is_yaml_in_usd_per_million_tokens() {
        let text = "entries:\n- {model: m, inputUsdPerMillionTokens: '0.5', outputUsdPerMillionTokens: '1.5'}\n";
        let document = parse(PriceFormat::Weir, text).expect("readable");
        assert_eq!(
            document.prices["m"],
            ModelPrice {
                input: 500_000,
                cached_input: None,
                output: 1_500_000
            }
        );
    }

    #[rstest]
    #[case(PriceFormat::LiteLLM, "<html>")]
    #[case(PriceFormat::LiteLLM, "{}")]
    #[case(PriceFormat::OpenRouter, "{\"data\": []}")]
    #[case(PriceFormat::Weir, "entries: 5")]
    fn a_document_without_prices_is_refused(#[case] format: PriceFormat, #[case] text: &str) {
        assert!(parse(format, text).is_err());
    }
}

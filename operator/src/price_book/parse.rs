//! Pure: a price document becomes prices in micro-USD per million tokens. What cannot be read is named, never guessed.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use weir_crds::price_book::{ContextTierPrice, PriceEntry, PriceFormat};
use weir_crds::quantity;

/// Most models that a document may have.
pub const MAX_MODELS: usize = 50_000;
/// Above this, in micro-USD per million tokens, a price is taken for a mistake of units until confirmed.
/// The dearest list price of a chat model in LiteLLM's catalogue of 2023–2026 is 600 USD; its known unit errors lie
/// at 100 000 USD and more.
pub const IMPLAUSIBLE: u64 = 1_000 * 1_000_000;

/// Prices of one model, in micro-USD per million tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelPrice {
    /// Prompt tokens.
    pub input: u64,
    /// Prompt tokens that the provider's cache answers; `None`: as the others.
    pub cached_input: Option<u64>,
    /// Answer tokens.
    pub output: u64,
    /// Percent off every price for batches; `None`: no discount.
    pub batch_discount_percent: Option<u64>,
    /// Prices of requests with long prompts, by the number of tokens that their prompt exceeds.
    pub context_tiers: BTreeMap<u64, TierPrice>,
}

/// Prices of requests with long prompts, in micro-USD per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TierPrice {
    /// Prompt tokens.
    pub input: u64,
    /// Prompt tokens that the provider's cache answers; `None`: as the others.
    pub cached_input: Option<u64>,
    /// Answer tokens.
    pub output: u64,
}

impl ModelPrice {
    /// What a request with a prompt of more than `tokens` tokens is billed, before any discount.
    pub fn above(&self, tokens: u64) -> TierPrice {
        let tier = self.context_tiers.range(..=tokens).next_back();
        tier.map_or(self.base(), |(_, tier)| *tier)
    }

    /// What a short prompt is billed.
    pub fn base(&self) -> TierPrice {
        TierPrice {
            input: self.input,
            cached_input: self.cached_input,
            output: self.output,
        }
    }
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
        batch_discount_percent: match entry.batch_discount_percent {
            None => None,
            Some(percent @ 0..=100) => u64::try_from(percent).ok(),
            Some(percent) => return Err(format!("batchDiscountPercent {percent} is not 0 to 100")),
        },
        context_tiers: context_tiers(entry)?,
    })
}

fn context_tiers(entry: &PriceEntry) -> Result<BTreeMap<u64, TierPrice>, String> {
    let read = |text: &str| quantity::micros(text).map_err(|error| error.to_string());
    let tiers = entry.context_tiers.iter().map(|tier| {
        let above = u64::try_from(tier.above_input_tokens)
            .map_err(|_| format!("aboveInputTokens {} is negative", tier.above_input_tokens))?;
        let cached = tier.cached_input_usd_per_million_tokens.as_deref();
        let price = TierPrice {
            input: read(&tier.input_usd_per_million_tokens)?,
            cached_input: cached.map(read).transpose()?,
            output: read(&tier.output_usd_per_million_tokens)?,
        };
        Ok((above, price))
    });
    tiers.collect()
}

/// The entry that states a price.
pub fn to_entry(model: &str, price: &ModelPrice) -> PriceEntry {
    PriceEntry {
        model: model.to_owned(),
        input_usd_per_million_tokens: quantity::decimal(price.input),
        cached_input_usd_per_million_tokens: price.cached_input.map(quantity::decimal),
        output_usd_per_million_tokens: quantity::decimal(price.output),
        batch_discount_percent: price
            .batch_discount_percent
            .and_then(|percent| i32::try_from(percent).ok()),
        context_tiers: price
            .context_tiers
            .iter()
            .map(|(above, tier)| ContextTierPrice {
                above_input_tokens: i64::try_from(*above).unwrap_or(i64::MAX),
                input_usd_per_million_tokens: quantity::decimal(tier.input),
                cached_input_usd_per_million_tokens: tier.cached_input.map(quantity::decimal),
                output_usd_per_million_tokens: quantity::decimal(tier.output),
            })
            .collect(),
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
            let mut price = ModelPrice {
                input: required(&row, "input_cost_per_token")?,
                cached_input: optional(&row, "cache_read_input_token_cost")?,
                // Embedding models have no answer tokens and no price for them.
                output: optional(&row, "output_cost_per_token")?.unwrap_or(0),
                ..ModelPrice::default()
            };
            price.context_tiers = litellm_tiers(&row, &price)?;
            price.batch_discount_percent = litellm_batches(&row, &price)?;
            Ok(price)
        })();
        document.put(model, price);
    }
    Ok(document)
}

/// The catalogue spells thresholds in field names, as in `input_cost_per_token_above_200k_tokens`.
fn litellm_tiers(row: &Value, base: &ModelPrice) -> Result<BTreeMap<u64, TierPrice>, String> {
    let threshold = |field: &String| {
        let thousands = field
            .strip_prefix("input_cost_per_token_above_")?
            .strip_suffix("k_tokens")?;
        Some((thousands.to_owned(), thousands.parse::<u32>().ok()?))
    };
    let fields = row.as_object().into_iter().flat_map(|fields| fields.keys());
    let tiers = fields.filter_map(threshold).map(|(text, thousands)| {
        let part = |part: &str| optional(row, &format!("{part}_above_{text}k_tokens"));
        let price = TierPrice {
            input: part("input_cost_per_token")?.unwrap_or(base.input),
            cached_input: part("cache_read_input_token_cost")?,
            output: part("output_cost_per_token")?.unwrap_or(base.output),
        };
        Ok((u64::from(thousands) * 1_000, price))
    });
    tiers.collect()
}

/// The least discount of the two that the catalogue's batch prices give, in whole percent rounded down.
fn litellm_batches(row: &Value, base: &ModelPrice) -> Result<Option<u64>, String> {
    let discount = |field: &str, list: u64| {
        let batch = optional(row, field)?.filter(|batch| *batch < list);
        Ok::<_, String>(batch.map(|batch| (list - batch) * 100 / list))
    };
    let input = discount("input_cost_per_token_batches", base.input)?;
    let output = discount("output_cost_per_token_batches", base.output)?;
    Ok(match (input, output) {
        (Some(input), Some(output)) => Some(input.min(output)),
        (Some(input), None) if base.output == 0 => Some(input),
        _ => None,
    })
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
                ..ModelPrice::default()
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
mod tests;

//! Pure: a price document becomes prices in micro-USD per million tokens. What cannot be read is named, never guessed.

mod catalogue;
mod entry;
mod stream;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use weir_crds::price_book::PriceFormat;
use weir_crds::text;

pub use entry::{entries, entry_price, to_entry};

/// Most rows that a document may have.
pub const MAX_MODELS: usize = 50_000;
/// Most thresholds of long prompts that a price may have.
pub const MAX_TIERS: usize = 8;
/// Above this, in micro-USD per million tokens, a price is taken for a mistake of units until confirmed.
/// The dearest list price of a chat model in LiteLLM's catalogue of 2023–2026 is 600 USD; its known unit errors lie
/// at 100 000 USD and more.
pub const IMPLAUSIBLE: u64 = 1_000 * 1_000_000;
/// The same for a fee by the request, in micro-USD per million requests: ten dollars a request.
pub const IMPLAUSIBLE_FEE: u64 = 10_000_000 * 1_000_000;

/// Longest name of a model, as providers may refer to it.
const MAX_NAME: usize = 256;
/// Longest reason that a row is kept with.
const MAX_REASON: usize = 256;

/// Prices of one model, in micro-USD per million tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelPrice {
    /// Prices of short prompts.
    pub base: TierPrice,
    /// Micro-USD for a million requests, whatever their tokens.
    pub per_request: u64,
    /// Percent off every price for batches; kept and guarded, and counted nowhere.
    pub batch_discount_percent: Option<u64>,
    /// Prices of requests with long prompts, by the number of tokens that their prompt exceeds.
    pub context_tiers: BTreeMap<u64, TierPrice>,
    /// Prices that take the place of all of this later, by the moment from which on they hold.
    pub upcoming: BTreeMap<Timestamp, ModelPrice>,
}

/// Prices by the token, in micro-USD per million tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TierPrice {
    /// Prompt tokens.
    pub input: u64,
    /// Prompt tokens that the provider's cache answers; `None`: as the others.
    pub cached_input: Option<u64>,
    /// Prompt tokens that are written into the provider's cache; `None`: as the others.
    pub cache_write: Option<u64>,
    /// Answer tokens.
    pub output: u64,
    /// Answer tokens of reasoning; `None`: as the others.
    pub reasoning: Option<u64>,
}

impl ModelPrice {
    /// What a request with a prompt of more than `tokens` tokens is billed by the token.
    pub fn above(&self, tokens: u64) -> TierPrice {
        let tier = self.context_tiers.range(..=tokens).next_back();
        tier.map_or(self.base, |(_, tier)| *tier)
    }

    /// What holds at a moment, and nothing of what comes later.
    pub fn at(&self, now: Timestamp) -> Self {
        let begun = self.upcoming.range(..=now).next_back();
        Self {
            upcoming: BTreeMap::new(),
            ..begun.map_or(self, |(_, price)| price).clone()
        }
    }
}

/// What a document says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// Prices by model.
    pub prices: BTreeMap<String, ModelPrice>,
    /// Rows without a price that can be used, with the reason.
    pub rejected: BTreeMap<String, String>,
    /// Fees of rows that were read which no cost counts.
    pub uncounted: BTreeMap<String, String>,
}

/// A row that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Row {
    price: ModelPrice,
    /// Fees that no cost counts; empty: none.
    uncounted: String,
}

impl From<ModelPrice> for Row {
    fn from(price: ModelPrice) -> Self {
        Self {
            price,
            uncounted: String::new(),
        }
    }
}

impl Document {
    /// Takes a row; the last of a name counts.
    fn put(&mut self, model: &str, row: Result<Row, String>) -> Result<(), ParseError> {
        let row = match model.len() {
            1..=MAX_NAME => row,
            _ => Err(format!("its name is not 1 to {MAX_NAME} bytes long")),
        };
        let model = text::bounded_to(MAX_NAME, model);
        self.prices.remove(&model);
        self.rejected.remove(&model);
        self.uncounted.remove(&model);
        match row {
            Ok(Row { price, uncounted }) => {
                if !uncounted.is_empty() {
                    let uncounted = text::bounded_to(MAX_REASON, uncounted);
                    self.uncounted.insert(model.clone(), uncounted);
                }
                self.prices.insert(model, price);
            }
            Err(reason) => {
                self.rejected
                    .insert(model, text::bounded_to(MAX_REASON, reason));
            }
        }
        if self.rows() > MAX_MODELS {
            return Err(ParseError::TooMany);
        }
        Ok(())
    }

    /// How many rows were read, those without a price that can be used among them.
    pub fn rows(&self) -> usize {
        self.prices.len() + self.rejected.len()
    }

    /// When the next price of these models begins that does not hold yet.
    pub fn next_change(&self, models: &BTreeSet<String>, now: Timestamp) -> Option<Timestamp> {
        let prices = models.iter().filter_map(|model| self.prices.get(model));
        let later = prices.flat_map(|price| price.upcoming.keys().copied());
        later.filter(|begins| *begins > now).min()
    }

    /// The rows of these models alone.
    #[must_use]
    pub fn of(mut self, models: &BTreeSet<String>) -> Self {
        self.prices.retain(|model, _| models.contains(model));
        self.rejected.retain(|model, _| models.contains(model));
        self.uncounted.retain(|model, _| models.contains(model));
        self
    }
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
    #[error("the document has no model with a price{0}")]
    Empty(String),
    /// It has more rows than [`MAX_MODELS`].
    #[error("the document has more than {MAX_MODELS} rows")]
    TooMany,
}

/// Reads a document.
///
/// # Errors
/// When it has no prices at all; single rows that cannot be read are in [`Document::rejected`].
pub fn parse(format: PriceFormat, text: &str) -> Result<Document, ParseError> {
    let document = match format {
        PriceFormat::Weir => entry::document(text)?,
        PriceFormat::LiteLLM => catalogue::litellm(text)?,
        PriceFormat::OpenRouter => catalogue::openrouter(text)?,
    };
    if document.prices.is_empty() {
        let first = document.rejected.iter().next();
        let why = first.map_or_else(String::new, |(model, reason)| {
            text::bounded_to(2 * MAX_REASON, format!("; {model}: {reason}"))
        });
        return Err(ParseError::Empty(why));
    }
    Ok(document)
}

#[cfg(test)]
mod tests;

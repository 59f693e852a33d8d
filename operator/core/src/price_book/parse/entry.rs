//! Prices as Weir's own entries state them: decimal strings, in an object or in a document.

use std::collections::BTreeMap;

use serde_json::Value;
use weir_crds::price_book::{ContextTierPrice, PriceEntry, TokenPrices, UpcomingPrice};
use weir_crds::quantity;

use super::{Document, MAX_TIERS, ModelPrice, ParseError, Row, TierPrice, stream};

/// Prices of entries that stand in an object.
pub fn entries(entries: &[PriceEntry]) -> Document {
    let mut document = Document::default();
    for entry in entries {
        let row = entry_price(entry).map(Row::from);
        // An object has far fewer entries than a document may have rows.
        drop(document.put(&entry.model, row));
    }
    document
}

/// A document with a list `entries`.
pub(super) fn document(text: &str) -> Result<Document, ParseError> {
    let mut document = Document::default();
    let mut at = 0_usize;
    let mut take = |_: &str, row: Value| {
        at += 1;
        let model = match row["model"].as_str() {
            Some(model) => model.to_owned(),
            None => format!("entry {at}"),
        };
        document.put(&model, entry(row).map(Row::from))
    };
    // YAML is read ten times as slowly.
    if text.trim_start().starts_with('{') {
        stream::json("Weir", text, Some("entries"), &mut take)?;
    } else {
        stream::yaml("Weir", text, Some("entries"), &mut take)?;
    }
    Ok(document)
}

fn entry(row: Value) -> Result<ModelPrice, String> {
    let entry: PriceEntry = serde_json::from_value(row).map_err(|error| error.to_string())?;
    entry_price(&entry)
}

/// Reads the decimal strings of an entry.
///
/// # Errors
/// Says what is no price.
pub fn entry_price(entry: &PriceEntry) -> Result<ModelPrice, String> {
    let upcoming = entry.upcoming.iter().map(|upcoming| {
        let price = ModelPrice {
            base: tokens(&upcoming.tokens)?,
            per_request: fee(upcoming.usd_per_million_requests.as_deref())?,
            batch_discount_percent: None,
            context_tiers: context_tiers(&upcoming.context_tiers)?,
            upcoming: BTreeMap::new(),
        };
        Ok::<_, String>((upcoming.effective_from.0, price))
    });
    Ok(ModelPrice {
        base: tokens(&entry.tokens)?,
        per_request: fee(entry.usd_per_million_requests.as_deref())?,
        batch_discount_percent: match entry.batch_discount_percent {
            None => None,
            Some(percent @ 0..=100) => u64::try_from(percent).ok(),
            Some(percent) => return Err(format!("batchDiscountPercent {percent} is not 0 to 100")),
        },
        context_tiers: context_tiers(&entry.context_tiers)?,
        upcoming: upcoming.collect::<Result<_, _>>()?,
    })
}

fn read(text: &str) -> Result<u64, String> {
    quantity::micros(text).map_err(|error| error.to_string())
}

fn fee(text: Option<&str>) -> Result<u64, String> {
    text.map_or(Ok(0), read)
}

fn tokens(prices: &TokenPrices) -> Result<TierPrice, String> {
    let optional = |text: &Option<String>| text.as_deref().map(read).transpose();
    Ok(TierPrice {
        input: read(&prices.input_usd_per_million_tokens)?,
        cached_input: optional(&prices.cached_input_usd_per_million_tokens)?,
        cache_write: optional(&prices.cache_write_usd_per_million_tokens)?,
        output: read(&prices.output_usd_per_million_tokens)?,
        reasoning: optional(&prices.reasoning_usd_per_million_tokens)?,
    })
}

fn context_tiers(tiers: &[ContextTierPrice]) -> Result<BTreeMap<u64, TierPrice>, String> {
    if tiers.len() > MAX_TIERS {
        return Err(format!("it has more than {MAX_TIERS} contextTiers"));
    }
    let tiers = tiers.iter().map(|tier| {
        let above = u64::try_from(tier.above_input_tokens)
            .map_err(|_| format!("aboveInputTokens {} is negative", tier.above_input_tokens))?;
        Ok((above, tokens(&tier.tokens)?))
    });
    tiers.collect()
}

/// The entry that states a price.
pub fn to_entry(model: &str, price: &ModelPrice) -> PriceEntry {
    let upcoming = price.upcoming.iter().map(|(begins, price)| UpcomingPrice {
        effective_from: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(*begins),
        tokens: to_tokens(&price.base),
        usd_per_million_requests: to_fee(price.per_request),
        context_tiers: to_tiers(&price.context_tiers),
    });
    PriceEntry {
        model: model.to_owned(),
        tokens: to_tokens(&price.base),
        usd_per_million_requests: to_fee(price.per_request),
        batch_discount_percent: price
            .batch_discount_percent
            .and_then(|percent| i32::try_from(percent).ok()),
        context_tiers: to_tiers(&price.context_tiers),
        upcoming: upcoming.collect(),
    }
}

fn to_fee(micros: u64) -> Option<String> {
    (micros > 0).then(|| quantity::decimal(micros))
}

fn to_tiers(tiers: &BTreeMap<u64, TierPrice>) -> Vec<ContextTierPrice> {
    let tier = |(above, tier): (&u64, &TierPrice)| ContextTierPrice {
        above_input_tokens: i64::try_from(*above).unwrap_or(i64::MAX),
        tokens: to_tokens(tier),
    };
    tiers.iter().map(tier).collect()
}

fn to_tokens(price: &TierPrice) -> TokenPrices {
    TokenPrices {
        input_usd_per_million_tokens: quantity::decimal(price.input),
        cached_input_usd_per_million_tokens: price.cached_input.map(quantity::decimal),
        cache_write_usd_per_million_tokens: price.cache_write.map(quantity::decimal),
        output_usd_per_million_tokens: quantity::decimal(price.output),
        reasoning_usd_per_million_tokens: price.reasoning.map(quantity::decimal),
    }
}

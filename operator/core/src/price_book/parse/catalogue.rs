//! Prices as public catalogues state them: USD per token or per request, in numbers or strings.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use weir_crds::text;

use super::{Document, MAX_TIERS, ModelPrice, ParseError, Row, TierPrice, stream};

/// How much of a value a reason shows.
const SHOWN: usize = 64;

/// LiteLLM's model_prices_and_context_window.json.
pub(super) fn litellm(text: &str) -> Result<Document, ParseError> {
    let mut document = Document::default();
    stream::json("LiteLLM", text, None, &mut |model, row| {
        // The catalogue's own documentation row.
        if model == "sample_spec" {
            return Ok(());
        }
        document.put(model, litellm_row(&row))
    })?;
    Ok(document)
}

fn litellm_row(row: &Value) -> Result<Row, String> {
    let fields = row.as_object().ok_or("the row is not an object")?;
    let mut context_tiers = ranges(row)?;
    let first = context_tiers.remove(&0);
    let base = match (litellm_tokens(row, "")?, first) {
        (Some(flat), _) => flat,
        (None, Some(first)) => first,
        (None, None) => return Err(without_tokens(fields, &context_tiers)),
    };
    context_tiers.extend(thresholds(fields, row, &base)?);
    if context_tiers.len() > MAX_TIERS {
        return Err(format!(
            "it has more than {MAX_TIERS} prices of long prompts"
        ));
    }
    let chats = matches!(
        row["mode"].as_str(),
        Some("chat" | "completion" | "responses")
    );
    let flat = row.get("input_cost_per_token").is_some();
    if chats && flat && row.get("output_cost_per_token").is_none() {
        return Err("output_cost_per_token is missing".to_owned());
    }
    Ok(Row {
        price: ModelPrice {
            base,
            per_request: amount(row, "input_cost_per_request")?.unwrap_or(0),
            batch_discount_percent: litellm_batches(row, &base)?,
            context_tiers,
            upcoming: BTreeMap::new(),
        },
        uncounted: uncounted(fields, |field| field.contains("cost") && !is_read(field)),
    })
}

/// The prices of fields with this ending; `None` without one for prompts. Embedding models have no answer tokens and no
/// price for them. A cache price of 0 is how catalogues say that there is none: the tokens are billed as any.
fn litellm_tokens(row: &Value, ending: &str) -> Result<Option<TierPrice>, String> {
    let part = |part: &str| amount(row, &format!("{part}{ending}"));
    let Some(input) = part("input_cost_per_token")? else {
        return Ok(None);
    };
    Ok(Some(TierPrice {
        input,
        cached_input: part("cache_read_input_token_cost")?.filter(|price| *price > 0),
        cache_write: part("cache_creation_input_token_cost")?.filter(|price| *price > 0),
        output: part("output_cost_per_token")?.unwrap_or(0),
        reasoning: part("output_cost_per_reasoning_token")?.filter(|price| *price > 0),
    }))
}

/// Prices by ranges of prompt lengths, by the length that a range begins at.
fn ranges(row: &Value) -> Result<BTreeMap<u64, TierPrice>, String> {
    let ranges = row["tiered_pricing"].as_array().into_iter().flatten();
    let range = |range: &Value| {
        let begin = range["range"][0]
            .as_f64()
            .filter(|begin| (0.0..=1e8).contains(begin))
            .ok_or("tiered_pricing has a part without a range of tokens")?;
        let price = litellm_tokens(range, "")?
            .ok_or("tiered_pricing has a part without input_cost_per_token")?;
        Ok((begin as u64, price))
    };
    ranges.map(range).collect()
}

/// The catalogue spells thresholds in field names, as in `input_cost_per_token_above_200k_tokens`.
fn thresholds(
    fields: &Map<String, Value>,
    row: &Value,
    base: &TierPrice,
) -> Result<BTreeMap<u64, TierPrice>, String> {
    let threshold = |field: &String| {
        let thousands = field
            .strip_prefix("input_cost_per_token_above_")?
            .strip_suffix("k_tokens")?;
        Some((thousands.to_owned(), thousands.parse::<u32>().ok()?))
    };
    let tiers = fields
        .keys()
        .filter_map(threshold)
        .map(|(text, thousands)| {
            let ending = format!("_above_{text}k_tokens");
            let has_output = row.get(format!("output_cost_per_token{ending}")).is_some();
            let mut price = litellm_tokens(row, &ending)?.unwrap_or(*base);
            if !has_output {
                price.output = base.output;
            }
            price.reasoning = price.reasoning.or(base.reasoning);
            price.cache_write = price.cache_write.or(base.cache_write);
            Ok((u64::from(thousands) * 1_000, price))
        });
    tiers.collect()
}

/// Why a row without prices by the token is of no use.
fn without_tokens(fields: &Map<String, Value>, tiers: &BTreeMap<u64, TierPrice>) -> String {
    if let Some(begin) = tiers.keys().next() {
        return format!(
            "tiered_pricing begins at {begin} tokens, and below that there is no price"
        );
    }
    match uncounted(fields, |field| {
        field.contains("cost") || field.contains("pricing")
    }) {
        none if none.is_empty() => "it has no price".to_owned(),
        others => format!("it has no price by the token, only {others}"),
    }
}

/// The least discount of the two that the catalogue's batch prices give, in whole percent rounded down.
fn litellm_batches(row: &Value, base: &TierPrice) -> Result<Option<u64>, String> {
    let discount = |field: &str, list: u64| {
        let batch = amount(row, field)?.filter(|batch| *batch < list);
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

/// Whether [`litellm_row`] takes the field into a price.
fn is_read(field: &str) -> bool {
    const TOKENS: [&str; 5] = [
        "input_cost_per_token",
        "cache_read_input_token_cost",
        "cache_creation_input_token_cost",
        "output_cost_per_token",
        "output_cost_per_reasoning_token",
    ];
    let of_tokens = TOKENS.iter().any(|part| {
        field.strip_prefix(part).is_some_and(|ending| {
            let long = ending.starts_with("_above_") && ending.ends_with("k_tokens");
            ending.is_empty() || ending == "_batches" || long
        })
    });
    of_tokens || field == "input_cost_per_request"
}

/// The answer of OpenRouter's models endpoint.
pub(super) fn openrouter(text: &str) -> Result<Document, ParseError> {
    let mut document = Document::default();
    let mut at = 0_usize;
    stream::json("OpenRouter", text, Some("data"), &mut |_, row| {
        at += 1;
        let model = match row["id"].as_str() {
            Some(id) => id.to_owned(),
            None => format!("model {at}"),
        };
        document.put(&model, openrouter_row(&row["pricing"]))
    })?;
    Ok(document)
}

fn openrouter_row(pricing: &Value) -> Result<Row, String> {
    const READ: [&str; 6] = [
        "prompt",
        "completion",
        "request",
        "input_cache_read",
        "input_cache_write",
        "internal_reasoning",
    ];
    let fields = pricing.as_object().ok_or("it has no price")?;
    let some = |field: &str| Ok::<_, String>(amount(pricing, field)?.filter(|price| *price > 0));
    Ok(Row {
        price: ModelPrice {
            base: TierPrice {
                input: required(pricing, "prompt")?,
                cached_input: some("input_cache_read")?,
                cache_write: some("input_cache_write")?,
                output: required(pricing, "completion")?,
                reasoning: some("internal_reasoning")?,
            },
            per_request: amount(pricing, "request")?.unwrap_or(0),
            ..ModelPrice::default()
        },
        uncounted: uncounted(fields, |field| !READ.contains(&field)),
    })
}

/// The fields that are asked about and are not nothing, with commas between.
fn uncounted(fields: &Map<String, Value>, asked: impl Fn(&str) -> bool) -> String {
    let charges = |value: &Value| match value {
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => text.trim().parse::<f64>() != Ok(0.0),
        Value::Object(_) | Value::Array(_) => true,
        Value::Null | Value::Bool(_) => false,
    };
    let fields = fields
        .iter()
        .filter(|(field, value)| asked(field) && charges(value));
    let names: Vec<&str> = fields.map(|(field, _)| field.as_str()).collect();
    names.join(", ")
}

fn required(row: &Value, field: &str) -> Result<u64, String> {
    amount(row, field)?.ok_or_else(|| format!("{field} is missing"))
}

/// USD for one, as a number or a decimal string, to micro-USD for a million: a factor of 10^12.
fn amount(row: &Value, field: &str) -> Result<Option<u64>, String> {
    let usd = match row.get(field) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse::<f64>().ok(),
        Some(_) => None,
    };
    let scaled = usd.map(|usd| (usd * 1e12).round());
    match scaled {
        Some(scaled) if scaled.is_finite() && (0.0..1e15).contains(&scaled) => {
            Ok(Some(scaled as u64))
        }
        _ => {
            let value = row.get(field).map(ToString::to_string).unwrap_or_default();
            let shown = text::bounded_to(SHOWN, value);
            Err(format!("{field} is not an amount of USD: {shown}"))
        }
    }
}

//! Documents of each format, readable and not.

use super::*;
use rstest::rstest;

fn by_tokens(base: TierPrice) -> ModelPrice {
    ModelPrice {
        base,
        ..ModelPrice::default()
    }
}

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
        by_tokens(TierPrice {
            input: 2_800_000,
            cached_input: Some(280_000),
            output: 5_600_000,
            ..TierPrice::default()
        })
    );
    assert_eq!(document.prices["acme-embed"].base.output, 0);
    assert!(!document.prices.contains_key("sample_spec"));
    assert!(!document.prices.contains_key("acme-image"));
}

#[test]
fn litellm_has_prices_of_long_prompts_and_of_batches() {
    let text = r#"{"acme-long": {"input_cost_per_token": 1e-06, "output_cost_per_token": 4e-06,
        "input_cost_per_token_above_200k_tokens": 2e-06, "output_cost_per_token_above_200k_tokens": 6e-06,
        "cache_read_input_token_cost_above_200k_tokens": 2e-07,
        "input_cost_per_token_batches": 5e-07, "output_cost_per_token_batches": 2.4e-06}}"#;
    let document = parse(PriceFormat::LiteLLM, text).expect("readable");
    let price = &document.prices["acme-long"];
    let long = TierPrice {
        input: 2_000_000,
        cached_input: Some(200_000),
        output: 6_000_000,
        ..TierPrice::default()
    };
    assert_eq!(price.context_tiers, BTreeMap::from([(200_000, long)]));
    assert_eq!(price.batch_discount_percent, Some(40));
    assert_eq!(
        (price.above(199_999), price.above(200_000)),
        (price.base, long)
    );
}

#[test]
fn an_entry_says_all_of_a_price() {
    let text = "entries:\n- {model: m, inputUsdPerMillionTokens: '1', cachedInputUsdPerMillionTokens: '0.1', outputUsdPerMillionTokens: '4', batchDiscountPercent: 50,\n   contextTiers: [{aboveInputTokens: 128000, inputUsdPerMillionTokens: '2', outputUsdPerMillionTokens: '6'}]}\n";
    let document = parse(PriceFormat::Weir, text).expect("readable");
    let price = &document.prices["m"];
    assert_eq!(
        (price.batch_discount_percent, price.above(128_000).input),
        (Some(50), 2_000_000)
    );
    assert_eq!(entry_price(&to_entry("m", price)).as_ref(), Ok(price));
    let mut beyond = to_entry("m", price);
    beyond.batch_discount_percent = Some(101);
    assert!(entry_price(&beyond).is_err());
}

#[test]
fn a_row_that_is_no_price_is_named_and_the_others_are_kept() {
    let document = parse(PriceFormat::LiteLLM, LITELLM).expect("readable");
    assert_eq!(
        document.rejected.keys().collect::<Vec<_>>(),
        ["acme-broken", "acme-image", "acme-text"]
    );
}

#[test]
fn openrouter_prices_are_read_from_strings() {
    let text = r#"{"data": [{"id": "acme/small", "pricing": {"prompt": "0.00000028", "completion": "0.0000011", "input_cache_read": "0.00000003"}}, {"id": "acme/none"}]}"#;
    let document = parse(PriceFormat::OpenRouter, text).expect("readable");
    assert_eq!(
        document.prices["acme/small"],
        by_tokens(TierPrice {
            input: 280_000,
            cached_input: Some(30_000),
            output: 1_100_000,
            ..TierPrice::default()
        })
    );
}

#[test]
fn weirs_own_format_is_yaml_in_usd_per_million_tokens() {
    let text = "entries:\n- {model: m, inputUsdPerMillionTokens: '0.5', outputUsdPerMillionTokens: '1.5'}\n";
    let document = parse(PriceFormat::Weir, text).expect("readable");
    assert_eq!(
        document.prices["m"],
        by_tokens(TierPrice {
            input: 500_000,
            output: 1_500_000,
            ..TierPrice::default()
        })
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

#[test]
fn a_row_with_prices_by_ranges_alone_has_the_first_as_its_price() {
    let text = r#"{"acme/tiered": {"mode": "chat", "tiered_pricing": [
        {"range": [0, 32000], "input_cost_per_token": 4e-07, "output_cost_per_token": 1.2e-06},
        {"range": [32000.0, 128000], "input_cost_per_token": 8e-07, "output_cost_per_token": 2.4e-06}]}}"#;
    let document = parse(PriceFormat::LiteLLM, text).expect("readable");
    let price = &document.prices["acme/tiered"];
    let plain = |input, output| TierPrice {
        input,
        output,
        ..TierPrice::default()
    };
    assert_eq!(price.base, plain(400_000, 1_200_000));
    assert_eq!(price.above(31_999), price.base);
    assert_eq!(price.above(32_000), plain(800_000, 2_400_000));
}

#[rstest]
#[case::no_ranges(
    r#"{"tiered_pricing": [{"max_results": 5, "input_cost_per_token": 1e-6}]}"#,
    "without a range"
)]
#[case::nothing_below(
    r#"{"tiered_pricing": [{"range": [1000, 2000], "input_cost_per_token": 1e-6}]}"#,
    "begins at 1000 tokens"
)]
#[case::images(r#"{"output_cost_per_image": 0.04}"#, "only output_cost_per_image")]
#[case::nothing(r#"{"mode": "chat"}"#, "it has no price")]
#[case::no_answers(
    r#"{"mode": "chat", "input_cost_per_token": 1e-6}"#,
    "output_cost_per_token is missing"
)]
fn a_row_of_no_use_says_why(#[case] row: &str, #[case] why: &str) {
    let text = format!(r#"{{"good": {{"input_cost_per_token": 1e-6}}, "bad": {row}}}"#);
    let document = parse(PriceFormat::LiteLLM, &text).expect("readable");
    assert!(
        document.rejected["bad"].contains(why),
        "{:?}",
        document.rejected
    );
}

#[test]
fn fees_reasoning_and_cache_writes_are_read() {
    let text = r#"{"m": {"input_cost_per_token": 5e-06, "output_cost_per_token": 8e-06, "cache_creation_input_token_cost": 6.25e-06,
        "output_cost_per_reasoning_token": 2e-05, "input_cost_per_request": 0.005, "cache_read_input_token_cost": 0.0,
        "search_context_cost_per_query": {"search_context_size_low": 0.03}, "input_cost_per_image": 0.0}}"#;
    let document = parse(PriceFormat::LiteLLM, text).expect("readable");
    let price = &document.prices["m"];
    assert_eq!(price.base.cache_write, Some(6_250_000));
    assert_eq!(price.base.reasoning, Some(20_000_000));
    assert_eq!(price.per_request, 5_000_000_000);
    assert_eq!(
        price.base.cached_input, None,
        "0 is how catalogues say that there is none"
    );
    assert_eq!(document.uncounted["m"], "search_context_cost_per_query");
    assert_eq!(entry_price(&to_entry("m", price)).as_ref(), Ok(price));
}

#[test]
fn openrouter_has_fees_too() {
    let text = r#"{"data": [{"id": "acme/search", "pricing": {"prompt": "0.000001", "completion": "0.000001", "request": "0.005",
        "image": "0", "web_search": "0.01", "internal_reasoning": "0", "input_cache_write": "0.00000125"}}, {"id": "acme/none"}]}"#;
    let document = parse(PriceFormat::OpenRouter, text).expect("readable");
    let price = &document.prices["acme/search"];
    assert_eq!(
        (price.per_request, price.base.reasoning),
        (5_000_000_000, None)
    );
    assert_eq!(price.base.cache_write, Some(1_250_000));
    assert_eq!(document.uncounted["acme/search"], "web_search");
    assert_eq!(document.rejected["acme/none"], "it has no price");
}

#[test]
fn an_announced_price_is_read_and_one_broken_entry_costs_no_other() {
    let text = "entries:\n- {model: m, inputUsdPerMillionTokens: '1', outputUsdPerMillionTokens: '4',\n   upcoming: [{effectiveFrom: '2026-12-01T00:00:00Z', inputUsdPerMillionTokens: '2', outputUsdPerMillionTokens: '6', usdPerMillionRequests: '10'}]}\n- {model: broken, inputUsdPerMillionTokens: banana, outputUsdPerMillionTokens: '1'}\n- {model: half, inputUsdPerMillionTokens: '1'}\n- {inputUsdPerMillionTokens: '1'}\n";
    let document = parse(PriceFormat::Weir, text).expect("readable");
    let begins: Timestamp = "2026-12-01T00:00:00Z".parse().expect("a time");
    let price = &document.prices["m"];
    assert_eq!(price.at(begins).base.input, 2_000_000);
    assert_eq!(price.at(begins).per_request, 10_000_000);
    let before = begins
        .checked_sub(jiff::SignedDuration::from_secs(1))
        .expect("in range");
    assert_eq!(price.at(before).base.input, 1_000_000);
    assert!(price.at(before).upcoming.is_empty());
    assert_eq!(entry_price(&to_entry("m", price)).as_ref(), Ok(price));
    let rejected: Vec<&str> = document.rejected.keys().map(String::as_str).collect();
    assert_eq!(rejected, ["broken", "entry 4", "half"]);
}

/// A row whose name, value or shape is meant to fill memory.
#[rstest]
#[case::long_name(format!(r#"{{"{}": {{"input_cost_per_token": 1e-6}}, "m": {{"input_cost_per_token": 1e-6}}}}"#, "n".repeat(100_000)))]
#[case::long_text(format!(r#"{{"bad": {{"input_cost_per_token": "{}"}}, "m": {{"input_cost_per_token": 1e-6}}}}"#, "9".repeat(100_000)))]
#[case::deep(format!(r#"{{"bad": {{"input_cost_per_token": {}{}}}, "m": {{"input_cost_per_token": 1e-6}}}}"#, "[".repeat(100), "]".repeat(100)))]
fn what_is_too_long_or_too_deep_is_no_price_and_named_in_short(#[case] text: String) {
    let document = parse(PriceFormat::LiteLLM, &text).expect("readable");
    assert_eq!(document.prices.keys().collect::<Vec<_>>(), ["m"]);
    let (name, reason) = document.rejected.iter().next().expect("is named");
    assert!(
        name.len() <= 256 && reason.len() <= 256,
        "{} {}",
        name.len(),
        reason.len()
    );
}

#[test]
fn more_rows_than_any_catalogue_has_are_refused() {
    let rows: Vec<String> = (0..=MAX_MODELS)
        .map(|row| format!(r#""{row}":{{}}"#))
        .collect();
    let text = format!("{{{}}}", rows.join(","));
    assert_eq!(parse(PriceFormat::LiteLLM, &text), Err(ParseError::TooMany));
}

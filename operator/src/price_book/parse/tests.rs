//! Documents of each format, readable and not.

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
            output: 5_600_000,
            ..ModelPrice::default()
        }
    );
    assert_eq!(document.prices["acme-embed"].output, 0);
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
    };
    assert_eq!(price.context_tiers, BTreeMap::from([(200_000, long)]));
    assert_eq!(price.batch_discount_percent, Some(40));
    assert_eq!(
        (price.above(199_999), price.above(200_000)),
        (price.base(), long)
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
            output: 1_100_000,
            ..ModelPrice::default()
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
            output: 1_500_000,
            ..ModelPrice::default()
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

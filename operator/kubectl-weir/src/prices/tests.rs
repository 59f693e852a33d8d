//! Prices of the command line, of feeds and of books.

use super::*;
use rstest::rstest;
use serde_json::json;

fn objects(book: serde_json::Value) -> Objects {
    let provider = json!({"apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferenceProvider",
        "metadata": {"name": "acme"}, "spec": {"endpoint": "https://acme.example/v1", "priceBookRef": {"name": "b"},
        "models": [{"name": "small", "priceKey": "acme/small"}, {"name": "large"}]}});
    let book = json!({"apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferencePriceBook",
        "metadata": {"name": "b"}, "spec": {"source": book}});
    let mut objects = Objects::default();
    let provider = serde_json::from_value(provider).expect("a provider");
    objects.providers.insert("acme".into(), provider);
    let book = serde_json::from_value(book).expect("a book");
    objects.price_books.insert("b".into(), book);
    objects
}

fn inline() -> serde_json::Value {
    json!({"inline": {"entries": [{"model": "acme/small", "inputUsdPerMillionTokens": "1",
        "cachedInputUsdPerMillionTokens": "0.1", "outputUsdPerMillionTokens": "2"}]}})
}

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000_000).expect("in range")
}

fn price(objects: &Objects, key: &str) -> Option<ModelPrice> {
    known(objects, "acme", key)
}

#[rstest]
#[case("m=0.5:1.5", "m", 500_000, Some(1_500_000))]
#[case("acme/m=$3", "acme/m", 3_000_000, None)]
fn prices_are_read(
    #[case] text: &str,
    #[case] model: &str,
    #[case] input: u64,
    #[case] output: Option<u64>,
) {
    let expected = PriceOverride {
        model: model.to_owned(),
        input,
        output,
    };
    assert_eq!(text.parse(), Ok(expected));
}

#[rstest]
#[case("m")]
#[case("=1")]
#[case("m=one")]
#[case("m=1:")]
#[case("m=-1")]
fn what_is_no_price_is_refused_with_the_form(#[case] text: &str) {
    let error = text.parse::<PriceOverride>().expect_err("is refused");
    assert!(error.contains("MODEL=INPUT"), "{error}");
}

#[test]
fn a_book_that_holds_its_prices_needs_no_cluster() {
    let mut objects = objects(inline());
    read_books(&mut objects, now()).expect("readable");
    assert_eq!(
        price(&objects, "acme/small").map(|price| price.base.output),
        Some(2_000_000)
    );
}

#[test]
fn a_price_book_of_a_config_map_is_read_from_the_files() {
    let mut objects = objects(json!({"configMapRef": {"name": "prices", "key": "p.yaml"}}));
    let map = json!({"metadata": {"name": "prices"}, "data": {"p.yaml":
        "entries: [{model: large, inputUsdPerMillionTokens: '3', outputUsdPerMillionTokens: '15'}]"}});
    let map = serde_json::from_value(map).expect("a ConfigMap");
    objects.config_maps.insert("prices".into(), map);
    read_books(&mut objects, now()).expect("readable");
    assert_eq!(
        price(&objects, "large").map(|price| price.base.input),
        Some(3_000_000)
    );
}

#[rstest]
#[case("small")]
#[case("acme/small")]
fn a_price_is_given_by_model_by_key_or_with_the_provider(#[case] model: &str) {
    let mut objects = objects(inline());
    read_books(&mut objects, now()).expect("readable");
    let given = format!("{model}=0.5").parse().expect("a price");
    let notes = apply_overrides(&mut objects, &[given], now()).expect("known");
    assert_eq!(notes, Vec::<String>::new());
    let price = price(&objects, "acme/small").expect("known");
    assert_eq!(
        (price.base.input, price.base.cached_input, price.base.output),
        (500_000, Some(50_000), 2_000_000)
    );
}

#[test]
fn discounts_and_prices_of_long_prompts_stay_in_proportion() {
    let known = ModelPrice {
        base: TierPrice {
            input: 1_000_000,
            cached_input: Some(100_000),
            cache_write: Some(1_250_000),
            output: 4_000_000,
            reasoning: None,
        },
        per_request: 5_000_000,
        batch_discount_percent: Some(50),
        upcoming: BTreeMap::new(),
        context_tiers: BTreeMap::from([(
            200_000,
            TierPrice {
                input: 2_000_000,
                cached_input: Some(200_000),
                output: 6_000_000,
                ..TierPrice::default()
            },
        )]),
    };
    let price = repriced(Some(known.clone()), 500_000, 4_000_000);
    assert_eq!(price.base.cached_input, Some(50_000));
    assert_eq!(price.base.cache_write, Some(625_000));
    assert_eq!(price.per_request, 5_000_000);
    assert_eq!(price.batch_discount_percent, Some(50));
    let tier = price.context_tiers[&200_000];
    assert_eq!(
        (tier.input, tier.cached_input, tier.output),
        (1_000_000, Some(100_000), 6_000_000)
    );
    assert_eq!(repriced(Some(known.clone()), 1_000_000, 4_000_000), known);
}

#[test]
fn an_unknown_model_and_a_missing_output_price_are_told() {
    let mut objects = objects(inline());
    let apply = |objects: &mut Objects, text: &str| {
        let given = text.parse().expect("a price");
        apply_overrides(objects, &[given], now())
            .expect_err("is refused")
            .to_string()
    };
    assert!(apply(&mut objects, "huge=1").contains("acme/large"));
    assert!(apply(&mut objects, "large=1").contains("--price large=1:OUTPUT"));
}

#[test]
fn a_price_that_the_guard_would_hold_is_used_and_told() {
    let mut objects = objects(inline());
    read_books(&mut objects, now()).expect("readable");
    let feed = Document {
        prices: BTreeMap::from([(
            "acme/small".to_owned(),
            ModelPrice {
                base: TierPrice {
                    input: 100_000,
                    output: 2_000_000,
                    ..TierPrice::default()
                },
                ..ModelPrice::default()
            },
        )]),
        ..Document::default()
    };
    let notes = apply_feed(&mut objects, &feed, now()).expect("applies");
    assert_eq!(notes.len(), 1);
    assert!(notes[0].contains("acme/small"), "{notes:?}");
    assert_eq!(
        price(&objects, "acme/small").map(|price| price.base.input),
        Some(100_000)
    );
}

#[test]
fn other_prices_of_a_stale_book_count_as_confirmed_and_that_is_told() {
    let mut objects = objects(json!({"inline": {"entries": [
        {"model": "acme/small", "inputUsdPerMillionTokens": "1", "outputUsdPerMillionTokens": "2"},
        {"model": "large", "inputUsdPerMillionTokens": "3", "outputUsdPerMillionTokens": "15"}]}}));
    read_books(&mut objects, now()).expect("readable");
    let given: PriceOverride = "small=1:2".parse().expect("a price");
    let later = |hours: i64| now() + SignedDuration::from_hours(hours);
    let mut fresh = objects.clone();
    let notes = apply_overrides(&mut fresh, std::slice::from_ref(&given), later(24));
    assert_eq!(notes, Ok(Vec::new()));
    let notes = apply_overrides(&mut objects, &[given], later(24 * 30)).expect("applies");
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("confirmed 720 hours ago"), "{notes:?}");
}

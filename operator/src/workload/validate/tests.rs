//! What specs are read as, field by field.

use serde_json::{Value, json};
use weir_crds::InferencePlacementPolicySpec;
use weir_crds::price_book::PriceEntry;
use weir_crds::workload::InferenceWorkloadSpec;
use weir_placement::{
    LocalCostBasis, MicroUsd, MicroUsdPerMillionTokens, MoveBudget, Percent, PlacementPolicy,
    PriceBookRef, PriceState, Seconds, Substitution, SwitchingRule, Tokens, WindowState,
};

use super::policy::read_policy;
use super::targets::read_price;
use super::{SpecError, capability, maintenance_window, mode};

fn spec(change: impl Fn(&mut Value)) -> InferenceWorkloadSpec {
    let mut spec = json!({"targets": []});
    change(&mut spec);
    serde_json::from_value(spec).expect("a spec")
}

fn policy(spec: Value) -> PlacementPolicy {
    let spec: InferencePlacementPolicySpec = serde_json::from_value(spec).expect("a spec");
    read_policy(&spec).expect("a policy")
}

#[test]
fn a_policy_without_fields_is_the_built_in_one() {
    assert_eq!(policy(json!({})), PlacementPolicy::default());
}

#[test]
fn costs_switching_and_move_budget_of_a_policy_are_read() {
    let read = policy(json!({
        "localCostBasis": "FullyLoaded",
        "switching": {"warmUp": "1h", "requalificationUsd": "250.5", "payBack": "14d"},
        "moveBudget": {"movesPerHour": 7, "percentPerHour": 5},
    }));
    assert_eq!(read.local_cost_basis, LocalCostBasis::FullyLoaded);
    let switching = SwitchingRule {
        warm_up: Seconds::clamped(3_600),
        requalification: MicroUsd::clamped(250_500_000),
        pay_back: Seconds::clamped(14 * 86_400),
    };
    assert_eq!(read.switching, switching);
    let budget = MoveBudget {
        per_hour: Some(7),
        percent_per_hour: Some(Percent::clamped(5)),
    };
    assert_eq!(read.move_budget, budget);
    assert_eq!(
        policy(json!({"localCostBasis": "Marginal"})).local_cost_basis,
        LocalCostBasis::Marginal
    );
}

#[test]
fn a_maintenance_window_is_read_in_its_time_zone_and_refused_with_a_reason() {
    let window = |schedule: &str, zone: &str| {
        let window = json!({"schedule": schedule, "duration": "4h", "timeZone": zone});
        maintenance_window(&spec(|spec| {
            spec["operations"] = json!({"maintenanceWindow": window});
        }))
    };
    let read = window("0 2 * * 6", "Europe/Berlin").expect("is read");
    let opens = "2026-11-28T01:00:00Z".parse().expect("a time");
    assert_eq!(
        read.map(|window| window.state(opens)),
        Some(WindowState::Open)
    );
    assert_eq!(maintenance_window(&spec(|_| {})), Ok(None));
    for (schedule, zone) in [("0 2 30 2 *", "UTC"), ("0 2 * * 6", "Europe/Atlantis")] {
        let refused = window(schedule, zone).expect_err("refused");
        assert!(matches!(refused, SpecError::Window(_)), "{refused}");
    }
}

#[test]
fn advisory_mode_and_substitution_are_read() {
    let advisory = spec(|spec| spec["placement"] = json!({"mode": "Advisory"}));
    assert_eq!(mode(&advisory), Ok(weir_placement::Mode::Advisory));
    for (text, expected) in [
        ("Forbidden", Substitution::Forbidden),
        ("EquivalentOnly", Substitution::EquivalentOnly),
        ("AnyCapable", Substitution::AnyCapable),
    ] {
        let declared = spec(|spec| spec["capability"] = json!({"substitution": text}));
        let read = capability(&declared).map(|capability| capability.substitution);
        assert_eq!(read, Ok(expected));
    }
}

#[test]
fn a_price_is_read_with_its_tiers_in_order_and_its_fees() {
    let entry = |fee: &str, input: &str| -> PriceEntry {
        serde_json::from_value(json!({
            "model": "m", "inputUsdPerMillionTokens": "1", "outputUsdPerMillionTokens": "4",
            "usdPerMillionRequests": fee, "reasoningUsdPerMillionTokens": "5", "cacheWriteUsdPerMillionTokens": "1.25",
            "contextTiers": [
                {"aboveInputTokens": 200_000, "inputUsdPerMillionTokens": "4", "outputUsdPerMillionTokens": "8"},
                {"aboveInputTokens": 128_000, "inputUsdPerMillionTokens": input, "outputUsdPerMillionTokens": "6",
                    "cachedInputUsdPerMillionTokens": "0.2"},
            ],
        }))
        .expect("an entry")
    };
    let book = || PriceBookRef {
        name: "b".to_owned(),
        revision: "r".to_owned(),
        as_of: None,
    };
    let read = read_price(&entry("5000", "2"), book(), PriceState::Fresh).expect("a price");
    let usd = MicroUsdPerMillionTokens::clamped;
    assert_eq!(
        (read.reasoning, read.cache_write),
        (Some(usd(5_000_000)), Some(usd(1_250_000)))
    );
    assert_eq!(
        read.per_request
            .map(weir_placement::MicroUsdPerMillionRequests::get),
        Some(5_000_000_000)
    );
    let thresholds: Vec<_> = read.context_tiers.iter().map(|tier| tier.above).collect();
    assert_eq!(thresholds, [128_000, 200_000].map(Tokens::clamped));
    assert_eq!(
        read.context_tiers[0].cached_input,
        Some(MicroUsdPerMillionTokens::clamped(200_000))
    );
    for garbled in [entry("-", "2"), entry("50", "-")] {
        assert_eq!(read_price(&garbled, book(), PriceState::Fresh), None);
    }
}

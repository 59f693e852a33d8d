//! Whatever is read, decided or told: the status that comes of it passes its kind's schema, bounds included.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Resource;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde::Serialize;
use serde_json::json;
use weir_crds::model::ModelProfileStatus;
use weir_crds::provider::{Circuit, InferenceProviderStatus};
use weir_crds::tier::{GPUTierStatus, SharedWith};
use weir_crds::{
    GPUTier, InferenceDemand, InferencePriceBook, InferencePriceBookStatus, InferenceProvider,
    InferenceWorkload, ModelProfile,
};
use weir_operator::provider;
use weir_operator::provider::Book;
use weir_operator::workload::{decide, demand_record};
use weir_operator_core::price_book::guard::{self, Limits};
use weir_operator_core::price_book::parse::{Document, ModelPrice, TierPrice};
use weir_operator_core::price_book::status::{self as book, Reading, Rows};
use weir_operator_core::tier::utilization::TierReading;
use weir_operator_core::{model, tier};
use weir_placement as placement;
use weir_schema::Schema;

thread_local! {
    /// The schema of each kind; compiling its rules takes longer than asking it.
    static SCHEMAS: BTreeMap<String, Schema> = {
        let definitions = weir_crds::all();
        let schema = |crd: &CustomResourceDefinition| Schema::of(crd, "v1alpha1").expect("its version");
        definitions.iter().map(|crd| (crd.spec.names.kind.clone(), schema(crd))).collect()
    };
}

/// What the API server would refuse of this status.
fn refused<K>(status: &impl Serialize) -> Vec<String>
where
    K: Resource<DynamicType = ()>,
{
    let kind = K::kind(&());
    let schema = SCHEMAS.with(|all| all[kind.as_ref()].clone());
    let object = json!({
        "apiVersion": "inference.weir.dev/v1alpha1", "kind": kind, "metadata": {"name": "n"},
        "status": status,
    });
    let refused = schema.refused(&object, None).into_iter();
    // The spec is not what is asked about.
    let of_status = refused.filter(|cause| cause.field.starts_with("status"));
    let undeclared = schema.undeclared(&object).into_iter();
    of_status
        .map(|cause| cause.to_string())
        .chain(undeclared)
        .collect()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).expect("in range")
}

/// Anything that comes from outside: short, long, in every script.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,20}",
        "\\PC{0,40}",
        (1usize..6_000).prop_map(|length| "ü".repeat(length)),
        (1usize..6_000).prop_map(|length| "x".repeat(length)),
    ]
}

fn any_amount() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1..100_000_000_u64, 0..1_000_000_000_000_000_u64]
}

fn any_tier() -> impl Strategy<Value = TierPrice> {
    let optional = || option::of(any_amount());
    (
        any_amount(),
        optional(),
        optional(),
        any_amount(),
        optional(),
    )
        .prop_map(
            |(input, cached_input, cache_write, output, reasoning)| TierPrice {
                input,
                cached_input,
                cache_write,
                output,
                reasoning,
            },
        )
}

fn any_price() -> impl Strategy<Value = ModelPrice> {
    let tiers = btree_map(0..100_000_000_u64, any_tier(), 0..=8);
    (any_tier(), any_amount(), option::of(0..=100_u64), tiers).prop_map(
        |(base, per_request, batch_discount_percent, context_tiers)| ModelPrice {
            base,
            per_request,
            batch_discount_percent,
            context_tiers,
            upcoming: BTreeMap::new(),
        },
    )
}

/// A model has a price, a row that cannot be read, or no row.
fn any_document() -> impl Strategy<Value = Document> {
    let model = select(vec!["m".to_owned(), "n".repeat(256), "ü".repeat(256)]);
    let row = prop_oneof![
        3 => any_price().prop_map(Ok),
        1 => any_text().prop_map(Err),
    ];
    btree_map(model, row, 0..=3).prop_map(|rows| {
        let mut document = Document::default();
        for (model, row) in rows {
            match row {
                Ok(price) => {
                    document.prices.insert(model, price);
                }
                Err(reason) => {
                    document.uncounted.insert(model.clone(), reason.clone());
                    document.rejected.insert(model, reason);
                }
            }
        }
        document
    })
}

fn any_reading() -> impl Strategy<Value = Option<Reading>> {
    prop_oneof![
        4 => Just(None),
        1 => any_text().prop_map(|text| Some(Reading::Invalid(text))),
        1 => any_text().prop_map(|message| Some(Reading::Failed { reason: "Unreachable", message })),
        1 => Just(Some(Reading::NotDue)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_price_book_of_any_documents_can_be_written(
        readings in vec((any_document(), any_reading(), 0..100_000_i64), 1..5),
    ) {
        let wanted: BTreeSet<String> = ["m".to_owned(), "n".repeat(256), "ü".repeat(256)].into();
        let limits = Limits {
            max_ratio_micros: 2_000_000,
            confirm_for: SignedDuration::from_hours(1),
        };
        let mut status = InferencePriceBookStatus::default();
        let mut second = 0;
        for (document, instead, later) in readings {
            second += later;
            let before = book::belief(&status);
            let (belief, changes, reading) = match instead {
                Some(reading) => (before, Vec::new(), reading),
                None => {
                    let (belief, changes) = guard::judge(&before, &document, &wanted, limits, at(second));
                    let reading = Reading::Read {
                        rows: Rows::of(&document, &wanted),
                        etag: Some("e".repeat(256)),
                    };
                    (belief, changes, reading)
                }
            };
            let when = (1, SignedDuration::from_hours(24), at(second));
            status = book::render(&status, &belief, &changes, &reading, when);
            prop_assert_eq!(refused::<InferencePriceBook>(&status), Vec::<String>::new());
            prop_assert_eq!(book::belief(&status), belief, "what is held survives the status");
        }
    }

    #[test]
    fn a_tier_of_any_spec_can_be_written(
        resource in any_text(), count in any_text(), cost in any_text(), utilization in option::of(0..=100),
        why in any_text(), shared in any::<i64>(),
    ) {
        let spec = json!({
            "nodeSelector": {"gpu": "l4"}, "resource": {"name": resource, "count": count}, "sharing": "Exclusive",
            "memory": "1Gi", "cost": {"rented": {"usdPerHour": cost}},
        });
        let spec = serde_json::from_value(spec).expect("a spec");
        let seen = tier::Seen {
            nodes: &[],
            shared_with: vec![SharedWith {
                tier: "t".repeat(253),
                free: shared,
                each: shared,
            }],
            reading: TierReading::Lost(why),
            utilization,
            occupancy: utilization,
        };
        let status = tier::status(&spec, &GPUTierStatus::default(), seen, (1, at(0)));
        prop_assert_eq!(refused::<GPUTier>(&status), Vec::<String>::new());
    }

    #[test]
    fn a_provider_of_any_telling_can_be_written(
        why in option::of(any_text()), book in any_text(), ttft in option::of(any::<f64>()),
        errors in option::of(any::<f64>()), circuit in option::of(select(vec![Circuit::Open, Circuit::HalfOpen])),
        unpriced in option::of(vec(any_text(), 0..20)), failure in option::of(any_text()),
        found in option::of(any::<bool>()),
    ) {
        let found = match found {
            Some(true) => Book::Found { unpriced },
            Some(false) => Book::Missing,
            None => Book::NotNamed,
        };
        let spec = json!({"endpoint": "https://a.example/v1", "priceBookRef": {"name": book}, "models": [{"name": "m"}]});
        let spec = serde_json::from_value(spec).expect("a spec");
        let observed = provider::Observation {
            circuit,
            ttft_ms: ttft,
            error_percent: errors,
            unusable: why,
            failure,
        };
        let before = InferenceProviderStatus::default();
        let status = provider::status(&spec, &before, &observed, found, (1, at(0)));
        prop_assert_eq!(refused::<InferenceProvider>(&status), Vec::<String>::new());
    }

    #[test]
    fn a_model_of_any_spec_and_measurements_can_be_written(
        source in any_text(), memory in any_text(), rates in btree_map("[a-z]{1,253}", any::<f64>(), 0..4),
    ) {
        let spec = json!({"source": source, "sha256": "0".repeat(64), "contextTokens": 1, "memory": memory});
        let spec = serde_json::from_value(spec).expect("a spec");
        let measurement = |(tier, rate): (&String, &f64), id: &str| model::throughput::Measurement {
            id: id.to_owned(),
            tier: tier.clone(),
            rate: *rate,
            undisturbed: true,
        };
        let once = rates.iter().map(|of_tier| measurement(of_tier, "a"));
        let again = rates.iter().take(2).map(|of_tier| measurement(of_tier, "b"));
        let measurements: Vec<_> = once.chain(again).collect();
        let before = ModelProfileStatus::default();
        let status = model::status(&spec, &before, &measurements, 3, (1, at(0)));
        prop_assert_eq!(refused::<ModelProfile>(&status), Vec::<String>::new());
    }

    #[test]
    fn recorded_demand_of_any_hours_can_be_written(
        hours in btree_map(0..600_i64, (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()), 0..300),
    ) {
        let mut history = placement::HourHistory::default();
        for (hour, (requests, input_tokens, cached_input_tokens, output_tokens)) in hours {
            let sums = placement::HourSums { requests, input_tokens, cached_input_tokens, output_tokens };
            history.record(placement::Hour::of(at(hour * 3600)), sums);
        }
        let status = demand_record::status(&history);
        prop_assert_eq!(refused::<InferenceDemand>(&status), Vec::<String>::new());
    }

    #[test]
    fn a_decision_of_any_length_can_be_written(message in any_text(), candidates in 0..120_usize, many in 0..40_usize) {
        let candidate = |at: usize| placement::Candidate {
            name: format!("{at}@{}", "m".repeat(250)),
            location: placement::Location::Local,
            verdict: placement::Verdict::Rejected,
            tier: Some("t".repeat(253)),
            replicas: Some(u32::MAX),
            cost: None,
            doubts: Vec::new(),
            rejected_by: vec![placement::Rejection {
                gate: placement::Gate::References,
                reason: placement::RejectionReason::ReferenceMissing,
                message: message.clone(),
            }; many],
            throughput: None,
            throughput_source: None,
            price_book: None,
        };
        let flip = placement::FlipCondition {
            quantity: placement::FlipQuantity::RequestsPerMonth,
            comparison: placement::Comparison::Above,
            threshold: u64::MAX,
            to: "t".repeat(253),
            text: message.clone(),
        };
        let remembered = placement::Remembered {
            id: "d-1".to_owned(),
            trigger: placement::Trigger::Initial,
            outcome: placement::Outcome::Hold,
            reason: placement::Reason::LowerCost,
            message: message.clone(),
            target: Some("t".repeat(63)),
            inputs: placement::DecisionInputs {
                generation: 1,
                policy: None,
                demand: placement::DemandFigures::default(),
                demand_source: placement::DemandOrigin::Unknown,
                demand_confidence: None,
                throughput: None,
                throughput_source: None,
                utilization: None,
                utilization_state: Some(placement::UtilizationState::NotMeasurable),
                price_book: None,
            },
            weighted_targets: Vec::new(),
            confirmation: None,
            bands: (0..many)
                .map(|tier| (format!("t{tier}"), placement::TierBand::default()))
                .collect(),
        };
        let decision = placement::Decision {
            candidates: (0..candidates).map(candidate).collect(),
            flip_conditions: vec![flip; many],
            ..remembered.recall()
        };
        let status = json!({"decision": decide::render(&decision, None, at(0))});
        prop_assert_eq!(refused::<InferenceWorkload>(&status), Vec::<String>::new());
    }
}

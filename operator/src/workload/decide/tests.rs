use serde_json::json;
use weir_crds::InferenceWorkloadStatus;
use weir_placement::{DemandOrigin, Outcome, PeakPercent, Percent, TargetWeight};

use super::*;

fn status(peak: i64) -> InferenceWorkloadStatus {
    let inputs = json!({
        "requestsPerMonth": 400_000, "inputTokens": 900, "outputTokens": 180, "peakToMeanPercent": peak,
        "activeHoursPercent": 16, "demandSource": "Observed", "demandConfidence": "High",
    });
    let decision = json!({
        "id": "d-1", "trigger": "DemandChanged", "outcome": "Keep", "reason": "LowerCost", "message": "m",
        "time": "2026-01-01T00:00:00Z", "inputs": inputs, "candidates": [],
    });
    serde_json::from_value(json!({"decision": decision})).expect("a status")
}

#[test]
fn the_observed_shape_of_demand_is_recalled_as_it_was_recorded() {
    let status = status(625);
    let recalled = recall::recall(&status).expect("a decision");
    let inputs = &recalled.inputs;
    assert_eq!(recalled.outcome, Outcome::Keep);
    assert_eq!(inputs.demand_source, DemandOrigin::Observed);
    assert_eq!(inputs.demand.peak_to_mean.map(PeakPercent::get), Some(625));
    assert_eq!(inputs.demand.active_hours.map(Percent::get), Some(16));
    let rendered = render(&recalled, status.decision.as_ref(), Timestamp::UNIX_EPOCH);
    assert_eq!(
        Some(&rendered.inputs),
        status.decision.as_ref().map(|of| &of.inputs)
    );
}

#[test]
fn a_shape_out_of_range_is_unknown_and_not_guessed_at() {
    for wrong in [99, 0, -1, 2_000_000_000] {
        let recalled = recall::recall(&status(wrong)).expect("a decision");
        assert_eq!(recalled.inputs.demand.peak_to_mean, None);
    }
}

fn input(targets: Value) -> WorkloadInput {
    let input = json!({"generation": 1, "egress": "Allowed", "targets": targets});
    serde_json::from_value(input).expect("an input")
}

#[test]
fn a_target_at_a_provider_is_wished_for_as_what_it_was_decided_for() {
    let external = |model: &str| json!({"External": {"provider": "acme", "model": {"name": model}, "namespaceAllowed": true}});
    let mut input = input(json!([
        {"name": "here", "kind": {"Local": {"tiers": ["t"], "maxReplicas": 1}}},
        {"name": "cloud", "kind": external("mini")},
    ]));
    input.substitutes = serde_json::from_value(json!([
        {"of": "cloud", "target": {"name": "cloud@nano", "kind": external("nano")}},
    ]))
    .expect("substitutes");
    let mut decision = recall::recall(&status(200)).expect("a decision");
    decision.weights = [("here", Some(1)), ("cloud", None), ("cloud@nano", None)]
        .map(|(target, replicas)| TargetWeight {
            target: target.to_owned(),
            weight: Percent::clamped(0),
            replicas,
        })
        .into();
    let feasible = wish(&decision, None, &input).feasible;
    let models: Vec<_> = feasible
        .iter()
        .map(|target| {
            let decided_for = target.decided_for.as_ref();
            decided_for.map(|of| (of.provider.as_str(), of.model.as_str()))
        })
        .collect();
    assert_eq!(
        models,
        [None, Some(("acme", "mini")), Some(("acme", "nano"))]
    );
}

#[test]
fn the_replicas_of_the_hour_replace_those_of_the_decision() {
    let weight = |target: &str, share, replicas| TargetWeight {
        target: target.to_owned(),
        weight: Percent::clamped(share),
        replicas,
    };
    let mut decision = recall::recall(&status(200)).expect("a decision");
    decision.target = Some("local".to_owned());
    decision.weights = vec![
        weight("local", 100, Some(4)),
        weight("spare", 0, Some(1)),
        weight("cloud", 0, None),
    ];
    let split = HourlySplit {
        target: "local".to_owned(),
        replicas: 2,
        overflow: Some("cloud".to_owned()),
    };
    let replicas = |split| -> Vec<_> {
        let feasible = wish(&decision, split, &input(json!([]))).feasible;
        feasible.iter().map(|target| target.replicas).collect()
    };
    assert_eq!(replicas(None), [Some(4), Some(1), None]);
    assert_eq!(replicas(Some(&split)), [Some(2), Some(1), None]);
    let shown = serde_json::to_value(render_split(&split)).expect("JSON");
    assert_eq!(shown, json!({"replicas": 2, "overflowTarget": "cloud"}));
}

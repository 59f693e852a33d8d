use serde_json::json;
use weir_crds::InferenceWorkloadStatus;
use weir_placement::{DemandOrigin, Outcome, PeakPercent, Percent};

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

use serde_json::json;

use super::*;

#[test]
fn the_observed_shape_of_demand_is_shown_where_it_is_known() {
    let shown = |inputs: serde_json::Value| {
        let decision = json!({
            "id": "d-1", "trigger": "DemandChanged", "outcome": "Keep", "reason": "LowerCost", "message": "m",
            "time": "2026-01-01T00:00:00Z", "inputs": inputs, "candidates": [],
        });
        let decision: Decision = serde_json::from_value(decision).expect("a decision");
        super::inputs(&decision, &Objects::default(), decision.time.0)
    };
    let observed = shown(
        json!({"demandSource": "Observed", "peakToMeanPercent": 625, "activeHoursPercent": 16}),
    );
    let row = |name: &str, value: &str| {
        let mut lines = observed.lines();
        lines.any(|line| line.contains(name) && line.contains(value))
    };
    assert!(
        row("busy hour to mean", "625 %") && row("active hours", "16 %"),
        "{observed}"
    );
    assert!(!shown(json!({})).contains("hour"));
}

#[test]
fn the_split_of_the_hour_is_shown_where_there_is_one() {
    let shown = |split: serde_json::Value| {
        let decision = json!({
            "id": "d-1", "trigger": "DemandChanged", "outcome": "Keep", "reason": "LowerCost", "message": "m",
            "time": "2026-01-01T00:00:00Z", "inputs": {}, "candidates": [], "split": split,
        });
        let decision: Decision = serde_json::from_value(decision).expect("a decision");
        outlook(&decision).render()
    };
    let spills = shown(json!({"replicas": 2, "overflowTarget": "cloud"}));
    assert!(
        spills.contains("2 replicas in this hour; the rest goes to cloud"),
        "{spills}"
    );
    let waits = shown(json!({"replicas": 3}));
    assert!(
        waits.contains("3 replicas in this hour; the rest waits"),
        "{waits}"
    );
    assert!(!shown(serde_json::Value::Null).contains("Split"));
}

#[test]
fn what_the_cloud_takes_of_a_local_targets_work_is_shown() {
    let candidate = |overflow: serde_json::Value| -> Candidate {
        let candidate = json!({
            "name": "here", "location": "Local", "feasible": true, "replicas": 1, "monthlyCostUsd": "1765",
            "costBasis": "FullyLoaded", "overflow": overflow,
        });
        serde_json::from_value(candidate).expect("a candidate")
    };
    let overflow = json!({"target": "cloud", "percent": 57, "monthlyCostUsd": "1034.775"});
    let shown = candidates(&[candidate(overflow)], Some("here"));
    let said = "here: cloud takes 57 % of the work for $1,034.78 a month";
    assert!(shown.contains(said), "{shown}");
    let alone = candidates(&[candidate(serde_json::Value::Null)], Some("here"));
    assert!(!alone.contains("of the work"), "{alone}");
}

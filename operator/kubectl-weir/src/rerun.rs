//! Pure: the recorded decision, made again by the operator's code from what is in the cluster now.

use jiff::Timestamp;
use weir_crds::InferenceWorkload;
use weir_crds::decision::{Candidate, Decision};
use weir_operator::workload::decide::{Considered, name_of, render};
use weir_operator::workload::validate;
use weir_placement::Reason;

use crate::facts::facts;
use crate::objects::Objects;

/// How a decision that was made again compares with the recorded one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rerun {
    /// What is not the same, each with both values.
    pub(crate) differences: Vec<String>,
    /// What only gateways know, or other workloads decide, so that it was not repeated.
    pub(crate) unseen: Vec<String>,
}

/// Decides again; `None` while there is no decision, or where the spec cannot be understood.
pub(crate) fn rerun(
    objects: &Objects,
    workload: &InferenceWorkload,
    now: Timestamp,
) -> Option<Rerun> {
    let status = workload.status.as_ref()?;
    let recorded = status.decision.as_ref()?;
    let facts = facts(objects, workload, "", now);
    let validated = validate::validate(&facts).ok()?;
    let again = Considered::new(facts.uid(), &validated, Some(status)).decide_alone(now)?;
    let again = render(&again, Some(recorded), now);
    let mut rerun = Rerun::default();
    let mut compare = |what: &str, before: String, after: String| {
        if before != after {
            rerun
                .differences
                .push(format!("{what}: {before} recorded, {after} now"));
        }
    };
    let shown = |value: Option<i64>| crate::text::cell(value);
    let target = |decision: &Decision| crate::text::cell(decision.target.as_deref());
    let demand = |decision: &Decision| shown(decision.inputs.requests_per_month);
    let even = |decision: &Decision| shown(decision.break_even_requests_per_month);
    let lost = recorded.reason == name_of(Reason::OthersSaveMore);
    if !lost {
        compare("target", target(recorded), target(&again));
    }
    compare("requests a month", demand(recorded), demand(&again));
    compare("break-even", even(recorded), even(&again));
    if lost {
        rerun
            .unseen
            .push("what other workloads save with the same devices".to_owned());
    }
    for before in &recorded.candidates {
        let after = again
            .candidates
            .iter()
            .find(|after| after.name == before.name);
        let name = format!("candidate {}", before.name);
        if before
            .rejected_by
            .iter()
            .any(|rejection| rejection.gate == "SLO")
        {
            rerun
                .unseen
                .push(format!("{name}: the latency that gateways measured"));
            continue;
        }
        if lost && before.rejected_by.iter().any(|it| it.gate == "Capacity") {
            continue;
        }
        let after = after.map_or_else(|| "gone".to_owned(), summary);
        let before = summary(before);
        if before != after {
            rerun
                .differences
                .push(format!("{name}: {before} recorded, {after} now"));
        }
    }
    for after in &again.candidates {
        if recorded
            .candidates
            .iter()
            .all(|before| before.name != after.name)
        {
            rerun
                .differences
                .push(format!("candidate {}: new, {}", after.name, summary(after)));
        }
    }
    Some(rerun)
}

/// Cost and replicas of a candidate, or the gates that it failed.
fn summary(candidate: &Candidate) -> String {
    if !candidate.rejected_by.is_empty() {
        let gates = candidate.rejected_by.iter();
        let gates: Vec<String> = gates
            .map(|rejection| format!("{}/{}", rejection.gate, rejection.reason))
            .collect();
        return format!("rejected by {}", gates.join(", "));
    }
    let replicas = match candidate.replicas {
        Some(replicas) => format!(" for {replicas} replicas"),
        None => String::new(),
    };
    match &candidate.monthly_cost_usd {
        Some(cost) => format!("${cost} a month{replicas}"),
        None => "of unknown cost".to_owned(),
    }
}

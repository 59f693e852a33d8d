//! Pure: the whole decision of a workload as people read it.

use jiff::Timestamp;
use kube::ResourceExt;
use weir_crds::InferenceWorkload;
use weir_crds::decision::{Candidate, Decision};
use weir_crds::placement::{Phase, Placement};

use crate::objects::Objects;
use crate::rerun::Rerun;
use crate::text::{Table, UNKNOWN, age, cell, count, dollars, when, wrapped};

const WIDTH: usize = 80;

/// The whole decision; `None` of `rerun` where it was not decided again.
pub(crate) fn explain(
    workload: &InferenceWorkload,
    objects: &Objects,
    rerun: Option<&Rerun>,
    now: Timestamp,
) -> String {
    let title = format!(
        "{} (namespace {})",
        workload.name_any(),
        workload.namespace().unwrap_or_default()
    );
    let status = workload.status.clone().unwrap_or_default();
    let Some(decision) = &status.decision else {
        let reason = status
            .conditions
            .iter()
            .find(|condition| condition.status == "False")
            .map_or("no operator has looked at it yet", |condition| {
                &condition.message
            });
        return format!("{title}: no decision yet\n{}", wrapped(reason, 2, WIDTH));
    };
    let target = decision.target.as_deref().unwrap_or("no target");
    let mut text = format!(
        "{title}: {} {target}, {}\n",
        decision.outcome, decision.reason
    );
    text.push_str(&wrapped(&decision.message, 2, WIDTH));
    text.push('\n');
    let mut facts = Table::list();
    facts.row([
        "Decision".to_owned(),
        format!(
            "{}, by {}, taken {}",
            decision.id,
            decision.trigger,
            when(decision.time.0, now)
        ),
    ]);
    if let Some(placement) = &status.placement {
        placed(&mut facts, placement, now);
    }
    if status.observed_generation != workload.metadata.generation {
        let seen = cell(status.observed_generation);
        let row = format!("of generation {seen}; the spec is newer, so another decision is due");
        facts.row(["Status".to_owned(), row]);
    }
    text.push_str(&facts.render());
    text.push_str("\nInputs\n");
    text.push_str(&inputs(decision, objects, now));
    text.push_str("\nCandidates\n");
    text.push_str(&candidates(
        &decision.candidates,
        decision.target.as_deref(),
    ));
    text.push('\n');
    let mut outlook = outlook(decision);
    holds(&mut outlook, decision, now);
    text.push_str(&outlook.render());
    if let Some(rerun) = rerun {
        text.push('\n');
        text.push_str(&rerun_lines(rerun));
    }
    text
}

fn placed(facts: &mut Table, placement: &Placement, now: Timestamp) {
    let on = format!(
        "{} ({}), since {}",
        placement.target,
        place(placement.location.as_str(), placement.tier.as_deref()),
        when(placement.since.0, now)
    );
    facts.row(["Placement".to_owned(), on]);
    if let Some(ongoing) = &placement.r#move {
        let step = format!(
            "{:?} from {} to {}, begun {}",
            placement.phase,
            ongoing.from,
            ongoing.to,
            when(ongoing.started.0, now)
        );
        facts.row(["Move".to_owned(), step]);
    } else if placement.phase != Phase::Steady {
        facts.row(["Move".to_owned(), format!("{:?}", placement.phase)]);
    }
    let shares = placement.weights.iter().filter(|weight| weight.weight > 0);
    let shares: Vec<String> = shares
        .map(|weight| format!("{} {} %", weight.target, weight.weight))
        .collect();
    if !shares.is_empty() {
        facts.row(["Traffic".to_owned(), shares.join(", ")]);
    }
    if let Some(rolled_back) = &placement.rolled_back {
        let row = format!(
            "{} {}: {}",
            rolled_back.target,
            when(rolled_back.time.0, now),
            rolled_back.reason
        );
        facts.row(["Rolled back".to_owned(), row]);
    }
}

fn place(location: &str, tier: Option<&str>) -> String {
    match tier {
        Some(tier) => format!("{location}, tier {tier}"),
        None => location.to_owned(),
    }
}

/// The numbers that went in, with where each comes from and how old it is.
fn inputs(decision: &Decision, objects: &Objects, now: Timestamp) -> String {
    let inputs = &decision.inputs;
    let mut table = Table::new(["INPUT", "VALUE", "ORIGIN"]).indented();
    let mut row = |name: &str, value: Option<String>, origin: String| {
        table.row([name.to_owned(), cell(value), origin]);
    };
    let demand = match (&inputs.demand_source, &inputs.demand_confidence) {
        (Some(source), Some(confidence)) => format!("{source}, confidence {confidence}"),
        (Some(source), None) => source.clone(),
        (None, _) => "unknown".to_owned(),
    };
    let dated = format!("{demand}, decided {} ago", age(decision.time.0, now));
    row(
        "requests a month",
        inputs.requests_per_month.map(count),
        dated,
    );
    row(
        "prompt tokens",
        inputs.input_tokens.map(count),
        demand.clone(),
    );
    row(
        "answer tokens",
        inputs.output_tokens.map(count),
        demand.clone(),
    );
    let shape = [
        ("busy hour to mean", inputs.peak_to_mean_percent),
        ("active hours", inputs.active_hours_percent),
    ];
    for (name, percent) in shape {
        if let Some(percent) = percent {
            row(name, Some(format!("{percent} %")), demand.clone());
        }
    }
    let cached = inputs
        .cached_input_percent
        .map(|percent| format!("{percent} %"));
    if cached.is_some() {
        row(
            "cached prompt share",
            cached,
            "prompt cache of the provider".to_owned(),
        );
    }
    let local = local_candidate(decision);
    let tier = local.and_then(|candidate| candidate.tier.as_deref());
    if let Some(local) = local {
        let source = inputs.throughput_source.as_deref().unwrap_or("unknown");
        let origin = format!("{source}{}", measured(objects, local, tier, now));
        let rate = inputs
            .tokens_per_second
            .map(|rate| format!("{} tok/s", count(rate)));
        row("replica throughput", rate, origin);
        let utilization = inputs
            .utilization_percent
            .map(|percent| format!("{percent} %"));
        let of_tier = tier.map_or_else(|| UNKNOWN.to_owned(), |tier| tier_origin(objects, tier));
        row("tier utilization", utilization, of_tier);
    }
    if let Some(book) = &inputs.price_book {
        let confirmed = book.as_of.as_ref().map(|as_of| age(as_of.0, now));
        let origin = match confirmed {
            Some(age) => format!("revision {}, confirmed {age} ago", book.revision),
            None => format!("revision {}, never confirmed", book.revision),
        };
        row("price book", Some(book.name.clone()), origin);
    }
    table.render()
}

/// The local candidate whose numbers are on record: the wished one, or else the cheapest.
fn local_candidate(decision: &Decision) -> Option<&Candidate> {
    let local = || {
        let candidates = decision.candidates.iter();
        candidates.filter(|candidate| candidate.location.as_str() == "Local")
    };
    let cost = |candidate: &&Candidate| {
        let monthly = candidate.monthly_cost_usd.as_deref();
        monthly
            .and_then(|cost| weir_crds::quantity::micros(cost).ok())
            .unwrap_or(u64::MAX)
    };
    local()
        .find(|candidate| Some(&candidate.name) == decision.target.as_ref())
        .or_else(|| local().min_by_key(cost))
}

fn measured(objects: &Objects, local: &Candidate, tier: Option<&str>, now: Timestamp) -> String {
    let Some(tier) = tier else {
        return String::new();
    };
    let workloads = objects.workloads.iter();
    let mut targets = workloads.filter_map(|workload| workload.spec.target(&local.name));
    let model = targets.next().and_then(|target| target.local);
    let Some(model) = model.map(|local| local.model_ref.name) else {
        return format!(" on tier {tier}");
    };
    let status = objects
        .models
        .get(&model)
        .and_then(|model| model.status.as_ref());
    let mut figures = status.iter().flat_map(|status| &status.measured);
    let reported = figures.find(|measured| measured.tier == tier);
    match reported {
        Some(reported) => format!(
            " on tier {tier} (ModelProfile {model}, reported {} ago)",
            age(reported.observed.0, now)
        ),
        None => format!(" on tier {tier} (ModelProfile {model})"),
    }
}

fn tier_origin(objects: &Objects, tier: &str) -> String {
    let status = objects
        .tiers
        .get(tier)
        .and_then(|tier| tier.status.as_ref());
    let now = status.and_then(|status| status.utilization_percent);
    match (status, now) {
        (Some(_), Some(now)) => format!("GPUTier {tier}, now {now} %"),
        (Some(_), None) => format!("GPUTier {tier}, no telemetry now"),
        (None, _) => format!("GPUTier {tier}"),
    }
}

/// Every target with its cost, or with what rejected it.
pub(crate) fn candidates(candidates: &[Candidate], target: Option<&str>) -> String {
    let header = [
        "", "TARGET", "LOCATION", "TIER", "REPLICAS", "$/MONTH", "$/1M", "BASIS",
    ];
    let mut table = Table::new(header);
    let mut notes = String::new();
    for candidate in candidates {
        let wished = target == Some(candidate.name.as_str());
        let basis = match (&candidate.cost_basis, candidate.feasible) {
            (Some(basis), _) => basis.clone(),
            (None, true) => "cost unknown".to_owned(),
            (None, false) => "not possible".to_owned(),
        };
        table.row([
            if wished { "*" } else { "" }.to_owned(),
            candidate.name.clone(),
            candidate.location.as_str().to_owned(),
            cell(candidate.tier.as_ref()),
            cell(candidate.replicas),
            cell(candidate.monthly_cost_usd.as_deref().map(dollars)),
            cell(
                candidate
                    .cost_per_million_tokens_usd
                    .as_deref()
                    .map(|cost| format!("${cost}")),
            ),
            basis,
        ]);
        if let Some(overflow) = &candidate.overflow {
            let line = format!(
                "{}: {} takes {} % of the work for {} a month",
                candidate.name,
                overflow.target,
                overflow.percent,
                dollars(&overflow.monthly_cost_usd)
            );
            notes.push_str(&wrapped(&line, 4, WIDTH));
        }
        for rejection in &candidate.rejected_by {
            let line = format!(
                "{}: {} rejects it ({}): {}",
                candidate.name, rejection.gate, rejection.reason, rejection.message
            );
            notes.push_str(&wrapped(&line, 4, WIDTH));
        }
    }
    table.render() + &notes
}

/// Break-even, savings and what would flip the decision.
pub(crate) fn outlook(decision: &Decision) -> Table {
    let mut table = Table::default();
    let even = match decision.break_even_requests_per_month {
        Some(requests) => format!(
            "{} requests a month{}",
            count(requests),
            times(decision, requests)
        ),
        None => "none: only one side is possible, or its cost is unknown".to_owned(),
    };
    table.row(["Break-even".to_owned(), even]);
    if let Some(percent) = decision.savings_percent {
        let savings = format!("{percent} % against the best target of the other side");
        table.row(["Savings".to_owned(), savings]);
    }
    if let Some(split) = &decision.split {
        let overflow = split.overflow_target.as_deref();
        let rest = overflow.map_or_else(
            || "the rest waits".to_owned(),
            |to| format!("the rest goes to {to}"),
        );
        let split = format!("{} replicas in this hour; {rest}", split.replicas);
        table.row(["Split".to_owned(), split]);
    }
    let mut name = "Flips when";
    for condition in &decision.flip_conditions {
        table.row([std::mem::take(&mut name).to_owned(), condition.clone()]);
    }
    if decision.flip_conditions.is_empty() {
        table.row([
            name.to_owned(),
            "no volume or price is known to flip it".to_owned(),
        ]);
    }
    table
}

/// How the demand compares with the break-even, in hundredths.
fn times(decision: &Decision, requests: i64) -> String {
    let Some(demand) = decision.inputs.requests_per_month.filter(|_| requests > 0) else {
        return String::new();
    };
    let hundredths = i128::from(demand) * 100 / i128::from(requests);
    format!(
        "; demand is {}.{:02} times that",
        hundredths / 100,
        hundredths % 100
    )
}

/// What holds a wish to move, and until when.
fn holds(table: &mut Table, decision: &Decision, now: Timestamp) {
    let held = decision.outcome == "Hold";
    let until = decision.hold_until.as_ref().map(|until| when(until.0, now));
    let row = match (held, until) {
        (_, Some(until)) => format!("{}, until {until}", decision.reason),
        (true, None) => format!("{}, until that changes", decision.reason),
        (false, None) => "nothing".to_owned(),
    };
    table.row(["Held by".to_owned(), row]);
    if let Some(confirmation) = &decision.confirmation {
        let row = format!(
            "{} wished for {} times in a row, first {}, last {}",
            confirmation.target,
            confirmation.count,
            when(confirmation.since.0, now),
            when(confirmation.last.0, now)
        );
        table.row(["Confirmation".to_owned(), row]);
    }
    let next = match &decision.next_evaluation_time {
        Some(next) if next.0 > now => when(next.0, now),
        Some(next) => format!("due since {}", when(next.0, now)),
        None => "when an input changes".to_owned(),
    };
    table.row(["Next look".to_owned(), next]);
}

fn rerun_lines(rerun: &Rerun) -> String {
    let line = match rerun.differences.len() {
        0 => "Decided again from the recorded demand and the live objects: the same.".to_owned(),
        _ => {
            "Decided again from the recorded demand and the live objects: not the same.".to_owned()
        }
    };
    let mut text = format!("{line}\n");
    for difference in &rerun.differences {
        text.push_str(&wrapped(&format!("- {difference}"), 2, WIDTH));
    }
    for unseen in &rerun.unseen {
        text.push_str(&wrapped(&format!("- not repeated: {unseen}"), 2, WIDTH));
    }
    text
}

#[cfg(test)]
mod tests;

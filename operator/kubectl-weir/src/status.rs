//! Pure: where workloads run, one line each, and one workload in full.

use jiff::Timestamp;
use kube::ResourceExt;
use weir_crds::InferenceWorkload;
use weir_crds::condition::types;
use weir_crds::decision::HistoryEntry;
use weir_crds::usage::Usage;

use crate::text::{Table, age_cell, cell, count, when, wrapped};

/// One line a workload.
pub(crate) fn lines(workloads: &[InferenceWorkload], namespaces: bool, now: Timestamp) -> String {
    let header = [
        "NAME",
        "READY",
        "PLACEMENT",
        "TARGET",
        "TIER",
        "$/1M",
        "BREAKEVEN",
        "SAVINGS%",
        "REASON",
        "SINCE",
    ];
    let mut table = Table::default();
    let with_namespace = |namespace: String, cells: Vec<String>| {
        let namespace = namespaces.then_some(namespace);
        namespace.into_iter().chain(cells).collect::<Vec<_>>()
    };
    let header = header.map(str::to_owned).to_vec();
    table.row(with_namespace("NAMESPACE".to_owned(), header));
    for workload in workloads {
        let namespace = workload.namespace().unwrap_or_default();
        table.row(with_namespace(namespace, line(workload, now)));
    }
    table.render()
}

fn line(workload: &InferenceWorkload, now: Timestamp) -> Vec<String> {
    let status = workload.status.as_ref();
    let placement = status.and_then(|status| status.placement.as_ref());
    let decision = status.and_then(|status| status.decision.as_ref());
    let ready = status.and_then(|status| {
        let mut conditions = status.conditions.iter();
        conditions.find(|condition| condition.type_ == types::READY)
    });
    let target = placement.map(|placement| match &placement.r#move {
        Some(ongoing) => format!("{}>{}", ongoing.from, ongoing.to),
        None => placement.target.clone(),
    });
    vec![
        workload.name_any(),
        cell(ready.map(|ready| &ready.status)),
        cell(placement.map(|placement| placement.location.as_str())),
        cell(target),
        cell(placement.and_then(|placement| placement.tier.as_ref())),
        cell(decision.and_then(|decision| decision.cost_per_million_tokens_usd.as_ref())),
        cell(decision.and_then(|decision| decision.break_even_requests_per_month)),
        cell(decision.and_then(|decision| decision.savings_percent)),
        cell(decision.map(|decision| &decision.reason)),
        age_cell(placement.map(|placement| &placement.since), now),
    ]
}

/// One workload: its line, conditions, moves and usage.
pub(crate) fn one(workload: &InferenceWorkload, now: Timestamp) -> String {
    let mut text = lines(std::slice::from_ref(workload), false, now);
    let status = workload.status.clone().unwrap_or_default();
    if let Some(decision) = &status.decision {
        text.push('\n');
        text.push_str(&wrapped(&decision.message, 0, 80));
    }
    if let Some(endpoint) = &status.endpoint {
        text.push_str(&format!(
            "\nEndpoint   {} (model {})\n",
            endpoint.url, endpoint.model
        ));
        if let Some(key) = &status.client_key {
            text.push_str(&format!("Key        Secret {}\n", key.secret_name));
        }
    }
    let mut conditions = Table::new(["CONDITION", "STATUS", "SINCE", "REASON", "MESSAGE"]);
    for condition in &status.conditions {
        conditions.row([
            condition.type_.clone(),
            condition.status.clone(),
            age_cell(Some(&condition.last_transition_time), now),
            condition.reason.clone(),
            condition.message.clone(),
        ]);
    }
    if status.conditions.is_empty() {
        text.push_str("\nNo conditions yet: no operator has looked at it.\n");
    } else {
        text.push('\n');
        text.push_str(&conditions.render());
    }
    text.push('\n');
    text.push_str(&moves(&status.history, now));
    text.push('\n');
    text.push_str(&usage(status.usage.as_ref(), now));
    text
}

fn moves(history: &[HistoryEntry], now: Timestamp) -> String {
    if history.is_empty() {
        return "No moves yet.\n".to_owned();
    }
    let mut table = Table::new(["MOVED", "FROM", "TO", "REASON", "DECISION"]);
    for entry in history {
        table.row([
            age_cell(Some(&entry.time), now),
            cell(entry.from.as_ref()),
            entry.to.clone(),
            entry.reason.clone(),
            entry.id.clone(),
        ]);
    }
    table.render()
}

fn usage(usage: Option<&Usage>, now: Timestamp) -> String {
    let Some(usage) = usage else {
        return "No requests yet.\n".to_owned();
    };
    let mut table = Table::default();
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    if let Some(since) = &usage.since {
        row("Metered since", when(since.0, now));
    }
    if let Some(updated) = &usage.updated {
        row("As of", when(updated.0, now));
    }
    row(
        "Requests",
        format!("{}, {} failed", count(usage.requests), count(usage.errors)),
    );
    row(
        "Tokens",
        format!(
            "{} of prompts ({} cached), {} of answers",
            count(usage.input_tokens),
            count(usage.cached_input_tokens),
            count(usage.output_tokens)
        ),
    );
    row(
        "Served locally",
        cell(
            usage
                .local_share_percent
                .map(|percent| format!("{percent} %")),
        ),
    );
    table.render()
}

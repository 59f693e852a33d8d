//! Pure: tiers by what is free and what they cost, workloads by what they cost.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use kube::ResourceExt;
use weir_crds::quantity::micros;
use weir_crds::{GPUTier, InferenceWorkload};

use crate::text::{Table, cell, dollars_of};

/// Both tables; the second alone where tiers may not be read.
pub(crate) fn top(
    tiers: Option<&BTreeMap<String, GPUTier>>,
    workloads: &[InferenceWorkload],
) -> String {
    match tiers {
        Some(tiers) => format!("{}\n{}", tier_lines(tiers), workload_lines(workloads)),
        None => workload_lines(workloads),
    }
}

fn tier_lines(tiers: &BTreeMap<String, GPUTier>) -> String {
    if tiers.is_empty() {
        return "No GPUTier in this cluster.\n".to_owned();
    }
    let mut table = Table::new([
        "TIER",
        "SHARING",
        "NODES",
        "DEVICES",
        "FREE",
        "UTIL%",
        "$/H-DEVICE",
        "$/H-TIER",
    ]);
    for (name, tier) in tiers {
        let status = tier.status.clone().unwrap_or_default();
        let hourly = status
            .hourly_cost_usd
            .as_deref()
            .and_then(|cost| micros(cost).ok());
        let devices = status
            .devices
            .and_then(|devices| u128::try_from(devices).ok());
        let whole = hourly
            .zip(devices)
            .map(|(hourly, devices)| u128::from(hourly) * devices);
        table.row([
            name.clone(),
            format!("{:?}", tier.spec.sharing),
            cell(status.nodes),
            cell(status.devices),
            cell(status.free),
            cell(status.utilization_percent),
            cell(
                status
                    .hourly_cost_usd
                    .as_ref()
                    .map(|cost| format!("${cost}")),
            ),
            cell(whole.map(dollars_of)),
        ]);
    }
    table.render()
}

fn workload_lines(workloads: &[InferenceWorkload]) -> String {
    if workloads.is_empty() {
        return "No InferenceWorkload here; -A looks in every namespace.\n".to_owned();
    }
    let mut rows: Vec<(&InferenceWorkload, Option<u64>)> = workloads
        .iter()
        .map(|workload| (workload, monthly(workload)))
        .collect();
    rows.sort_by_key(|(workload, cost)| {
        (Reverse(*cost), workload.namespace(), workload.name_any())
    });
    let mut table = Table::new([
        "NAMESPACE",
        "NAME",
        "TARGET",
        "PLACEMENT",
        "TIER",
        "REPLICAS",
        "REQ/MONTH",
        "$/MONTH",
        "SAVINGS%",
    ]);
    for (workload, cost) in &rows {
        let status = workload.status.as_ref();
        let placement = status.and_then(|status| status.placement.as_ref());
        let decision = status.and_then(|status| status.decision.as_ref());
        let replicas = placement.map(|placement| {
            let weights = placement.weights.iter();
            weights.filter_map(|weight| weight.replicas).sum::<i32>()
        });
        table.row([
            workload.namespace().unwrap_or_default(),
            workload.name_any(),
            cell(placement.map(|placement| &placement.target)),
            cell(placement.map(|placement| placement.location.as_str())),
            cell(placement.and_then(|placement| placement.tier.as_ref())),
            cell(replicas),
            cell(decision.and_then(|decision| decision.inputs.requests_per_month)),
            cell(cost.map(|cost| dollars_of(cost.into()))),
            cell(decision.and_then(|decision| decision.savings_percent)),
        ]);
    }
    let known = rows.iter().filter_map(|(_, cost)| *cost).map(u128::from);
    let unknown = rows.iter().filter(|(_, cost)| cost.is_none()).count();
    let total = dollars_of(known.sum());
    let rest = match unknown {
        0 => String::new(),
        unknown => format!(", and {unknown} of unknown cost"),
    };
    format!("{}Together {total} a month{rest}.\n", table.render())
}

/// What the target costs that the workload is on, by the last decision.
fn monthly(workload: &InferenceWorkload) -> Option<u64> {
    let status = workload.status.as_ref()?;
    let target = &status.placement.as_ref()?.target;
    let mut candidates = status.decision.as_ref()?.candidates.iter();
    let candidate = candidates.find(|candidate| candidate.name == *target)?;
    micros(candidate.monthly_cost_usd.as_deref()?).ok()
}

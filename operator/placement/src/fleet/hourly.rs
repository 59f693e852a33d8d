//! Replicas on owned GPUs for the coming hour, from what earlier hours taught.
//!
//! Savings of every replica are forecast for twelve hours, a GPU-hour is priced at the first saving that finds no GPU, and
//! the replicas that are worth most at these prices hold the GPUs. Each replica's worth depends on the others through
//! prices alone, so the order of workloads does not matter, and deciding again from the decision changes nothing.

use std::collections::BTreeMap;

use super::chain::{index, prices};
use super::learned::Learned;
use crate::quantity::NonNegative;
use crate::snapshot::WorkloadId;

/// Replicas by workload; a workload that holds none is absent.
pub type Replicas = BTreeMap<WorkloadId, u32>;

/// The GPUs and what it takes to use one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnedFleet {
    /// GPUs that are there anyway; a replica takes one.
    pub gpus: u32,
    /// Share of its first hour in which a replica that was added does not serve.
    pub warm_hours: NonNegative,
}

/// Replicas for the hour after the last one observed, of the workloads in `offered`, where `held` ran in the hour before.
///
/// At most `gpus` in all and `learned.max_replicas()` each. A replica that is expected to save nothing is not started.
pub fn decide_hour<'a>(
    learned: &Learned,
    fleet: OwnedFleet,
    offered: impl IntoIterator<Item = &'a WorkloadId>,
    held: &Replicas,
) -> Replicas {
    let mut workloads: Vec<&WorkloadId> = offered.into_iter().collect();
    workloads.sort_unstable();
    workloads.dedup();
    let forecasts = learned.forecasts(workloads.iter().copied());
    let prices = prices(&forecasts, fleet.gpus as usize);
    let each = learned.max_replicas() as usize;
    let mut ranked = Vec::with_capacity(forecasts.len());
    for (row, forecast) in forecasts.iter().enumerate() {
        let (workload, replica) = (workloads[row / each], row % each);
        let holds = held.get(workload).copied().unwrap_or(0) as usize > replica;
        if holds || forecast.iter().any(|saving| *saving > 0.0) {
            let worth = index(forecast, &prices, fleet.warm_hours.get(), holds);
            ranked.push((worth, holds, row));
        }
    }
    // Where two are worth the same, what runs stays; then the order of names decides, so that the order of arrival does not.
    ranked.sort_unstable_by(|a, b| {
        let by_worth = b.0.total_cmp(&a.0);
        by_worth.then(b.1.cmp(&a.1)).then(a.2.cmp(&b.2))
    });
    let mut replicas = Replicas::new();
    for (_, _, row) in ranked.into_iter().take(fleet.gpus as usize) {
        *replicas.entry(workloads[row / each].clone()).or_insert(0) += 1;
    }
    replicas
}

//! What a plan says of workloads that compete for devices.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::snapshot::WorkloadId;
use crate::units::MicroUsd;

/// Workloads that competed for free devices of the same tiers, directly or through others, and how good their plan is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Competition {
    /// What was sought for.
    pub goal: Goal,
    /// Who competed, in order.
    pub workloads: Vec<WorkloadId>,
    /// The tiers that were short, with the devices that were free.
    pub tiers: BTreeMap<String, u32>,
    /// What the plan reaches; see `Goal`.
    pub value: MicroUsd,
    /// No plan reaches more.
    pub bound: MicroUsd,
    /// How much of the bound the plan may miss, in parts per million, rounded up; zero means that no plan is better.
    pub gap_parts_per_million: u64,
}

/// What is sought for when devices are given away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Goal {
    /// Among workloads that can only run in the cluster, the most that are served, at the least cost: ten million
    /// dollars for each that is served, less what it costs in a month.
    Serve,
    /// Among workloads that have another place, the largest savings of a month against each one's next best place, less
    /// what moving costs. One whose other place cannot serve now counts as in `Serve`.
    Save,
}

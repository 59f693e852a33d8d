//! What governs decisions: the effective policies of the fleet.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::units::{MicroUsd, Percent, Seconds};

/// The policies of a fleet. A workload names one or takes the default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// For workloads that name none.
    #[serde(default)]
    pub default: PlacementPolicy,
    /// By the name that `WorkloadInput::policy` carries.
    #[serde(default)]
    pub named: BTreeMap<String, PlacementPolicy>,
}

impl Policy {
    /// One policy for every workload.
    pub fn of(default: PlacementPolicy) -> Self {
        Self {
            default,
            named: BTreeMap::new(),
        }
    }

    /// The policy that governs a workload; `None` when it names one that does not exist.
    pub fn effective(&self, name: Option<&str>) -> Option<&PlacementPolicy> {
        match name {
            None => Some(&self.default),
            Some(name) => self.named.get(name),
        }
    }
}

/// How moves of a workload are governed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PlacementPolicy {
    /// Whether cloud providers can be reached at all.
    pub connectivity: Connectivity,
    /// How much cheaper another target must be before a move is wished for.
    pub min_savings_percent: Percent,
    /// How long a workload stays on a target before cost may move it.
    pub min_dwell: Seconds,
    /// How long demand must have been observed before it replaces the declared prior.
    pub min_observation: Seconds,
    /// How often a wish to move must have been seen before it is acted on.
    pub confirmation: ConfirmationRule,
    /// Cost of operating one hosted workload, added to local targets unless `selfHosting` is Free.
    pub operations_cost_per_month: MicroUsd,
    /// Which costs of local targets are counted.
    pub local_cost_basis: LocalCostBasis,
    /// What a move costs, and within which time it must have paid for itself.
    pub switching: SwitchingRule,
    /// How many of the policy's workloads cost may move in an hour.
    pub move_budget: MoveBudget,
    /// How full tiers may be; `None`: nothing moves for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub utilization_band: Option<UtilizationBand>,
}

impl Default for PlacementPolicy {
    /// What an InferencePlacementPolicy without any field says: 15 % savings, half an hour of dwell, an hour of
    /// observation, three confirmations a minute apart, $200 a month for operating a hosted workload.
    fn default() -> Self {
        Self {
            connectivity: Connectivity::Connected,
            min_savings_percent: Percent::clamped(15),
            min_dwell: Seconds::clamped(1_800),
            min_observation: Seconds::clamped(3_600),
            confirmation: ConfirmationRule::default(),
            operations_cost_per_month: MicroUsd::clamped(200_000_000),
            local_cost_basis: LocalCostBasis::Auto,
            switching: SwitchingRule::default(),
            move_budget: MoveBudget::default(),
            utilization_band: None,
        }
    }
}

/// How full a tier may be. One that was above the band for its window is busy, and one that is busy is so until it was below
/// the band for its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UtilizationBand {
    /// Utilization from which on workloads leave.
    pub spill_above: Percent,
    /// Utilization down from which they may come back; less than the other.
    pub pull_back_below: Percent,
    /// How long it must be so without a break.
    pub window: Seconds,
}

/// What a move costs, and within which time it must have paid for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SwitchingRule {
    /// How long a new local replica costs before it serves.
    pub warm_up: Seconds,
    /// What qualifying a workload for another model costs, each time; models of one equivalence group are the same.
    pub requalification: MicroUsd,
    /// The time in which the saving must make up for both.
    pub pay_back: Seconds,
}

impl Default for SwitchingRule {
    /// Ten minutes of warm-up, no fee, thirty days to pay back.
    fn default() -> Self {
        Self {
            warm_up: Seconds::clamped(600),
            requalification: MicroUsd::MIN,
            pay_back: Seconds::clamped(30 * 86_400),
        }
    }
}

/// How many of a policy's workloads cost may move in an hour. Moves for other reasons are counted and never held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MoveBudget {
    /// So many; `None` is no limit.
    #[serde(default)]
    pub per_hour: Option<u32>,
    /// So much of the policy's workloads, rounded up; `None` is no limit. The smaller of both holds.
    #[serde(default)]
    pub percent_per_hour: Option<Percent>,
}

impl MoveBudget {
    /// Most moves in an hour of so many workloads.
    pub fn most(&self, workloads: usize) -> Option<usize> {
        let share = |percent: Percent| {
            let percent = usize::try_from(percent.get()).unwrap_or(100);
            workloads.saturating_mul(percent).div_ceil(100)
        };
        let count = self
            .per_hour
            .map(|most| usize::try_from(most).unwrap_or(usize::MAX));
        let share = self.percent_per_hour.map(share);
        count.into_iter().chain(share).min()
    }
}

/// Whether cloud providers can be reached at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Connectivity {
    /// They can.
    #[default]
    Connected,
    /// They cannot: every external target is rejected.
    Disconnected,
}

/// Which costs of local targets are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum LocalCostBasis {
    /// Of owned and committed devices that are otherwise idle what running them adds; of others everything.
    #[default]
    Auto,
    /// Of owned and committed devices what running them adds, idle or not.
    Marginal,
    /// Everything, used or not.
    FullyLoaded,
}

/// How often a wish to move must have been seen before it is acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfirmationRule {
    /// Evaluations in a row that must wish for the same target; 0 and 1 both mean the first.
    pub count: u32,
    /// Evaluations closer together than this count once.
    pub interval: Seconds,
}

impl Default for ConfirmationRule {
    fn default() -> Self {
        Self {
            count: 3,
            interval: Seconds::clamped(60),
        }
    }
}

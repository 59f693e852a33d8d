//! Which tier a local target would use, and whether there is room for it.

use std::collections::BTreeMap;

use crate::explain;
use crate::gates::rejection;
use crate::plan::{Gate, Rejection, RejectionReason};
use crate::snapshot::{CurrentPlacement, FleetSnapshot, LocalTarget, TierState};

/// Devices that this plan has not given away yet, by tier; absent when unknown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    free: BTreeMap<String, u32>,
}

impl Ledger {
    pub(crate) fn new(snapshot: &FleetSnapshot) -> Self {
        let free = |(name, tier): (&String, &TierState)| Some((name.clone(), tier.free_devices?));
        Self {
            free: snapshot.tiers.iter().filter_map(free).collect(),
        }
    }

    /// Takes what is there of `devices`.
    pub(crate) fn take(&mut self, tier: &str, devices: u32) {
        if let Some(free) = self.free.get_mut(tier) {
            *free = free.saturating_sub(devices);
        }
    }

    /// Devices that are left; `None` when unknown.
    pub(crate) fn free(&self, tier: &str) -> Option<u32> {
        self.free.get(tier).copied()
    }
}

/// Why devices that are free are not for a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rivals {
    /// Others save more with them.
    SaveMore,
    /// Others can only run here as well.
    OnlyRunHere,
}

/// The devices that one workload may count on: what is free, but for tiers whose devices go to others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room<'a> {
    ledger: &'a Ledger,
    lost: &'a [String],
    rivals: Rivals,
}

impl<'a> Room<'a> {
    /// All that is free.
    pub(crate) fn all(ledger: &'a Ledger) -> Self {
        Self::without(ledger, &[], Rivals::SaveMore)
    }

    /// What is free but for the tiers that are `lost` to others.
    pub(crate) fn without(ledger: &'a Ledger, lost: &'a [String], rivals: Rivals) -> Self {
        Self {
            ledger,
            lost,
            rivals,
        }
    }

    /// Devices that the workload may count on; `None` when unknown.
    pub(crate) fn free(&self, tier: &str) -> Option<u32> {
        let free = self.ledger.free(tier)?;
        Some(if self.is_lost(tier) { 0 } else { free })
    }

    fn is_lost(&self, tier: &str) -> bool {
        self.lost.iter().any(|lost| lost == tier)
    }
}

/// The tier for a local target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TierChoice {
    /// The tier that it uses or waits for; `None` when it fits into none.
    pub(crate) tier: Option<String>,
    /// Why tiers are out: Memory rejects the target when `tier` is `None`, Capacity makes it unavailable.
    pub(crate) failed: Vec<Rejection>,
}

/// The tier where the target is already, while it has a place there; else the first in the spec's order with room; else
/// the one to wait for. Unknown memory and unknown free devices do not speak against a tier: the scheduler and the
/// engine will, with typed reasons.
pub(crate) fn choose(
    tiers: &BTreeMap<String, TierState>,
    room: Room<'_>,
    target: &LocalTarget,
    name: &str,
    current: Option<&CurrentPlacement>,
) -> TierChoice {
    let mut too_small = Vec::new();
    let mut fitting = Vec::new();
    for tier in &target.tiers {
        match does_not_fit(target, tier, tiers.get(tier)) {
            Some(rejection) => too_small.push(rejection),
            None => fitting.push(tier.as_str()),
        }
    }
    if fitting.is_empty() {
        return TierChoice {
            tier: None,
            failed: too_small,
        };
    }
    let settled = current
        .and_then(|current| settled_tier(current, name))
        .filter(|tier| fitting.contains(tier));
    let held = |tier: &str| {
        current
            .and_then(|current| current.held.get(tier))
            .is_some_and(|held| *held > 0)
    };
    let preference = || settled.into_iter().chain(fitting.iter().copied());
    let mut failed = Vec::new();
    for tier in preference() {
        match no_room(tier, tiers.get(tier), room) {
            Some(_) if Some(tier) == settled && held(tier) => return found(tier),
            Some(rejection) if !failed.contains(&rejection) => failed.push(rejection),
            Some(_) => {}
            None => return found(tier),
        }
    }
    let with_nodes = |tier: &&str| tiers.get(*tier).is_some_and(|state| state.nodes > 0);
    let waits_for = settled
        .or_else(|| fitting.iter().copied().find(with_nodes))
        .unwrap_or(fitting[0]);
    TierChoice {
        tier: Some(waits_for.to_owned()),
        failed,
    }
}

fn found(tier: &str) -> TierChoice {
    TierChoice {
        tier: Some(tier.to_owned()),
        failed: Vec::new(),
    }
}

/// The tier that the target was given, by a placement or by a move in progress.
fn settled_tier<'a>(current: &'a CurrentPlacement, name: &str) -> Option<&'a str> {
    if current.target == name {
        return current.tier.as_deref();
    }
    let pending = current
        .pending
        .as_ref()
        .filter(|pending| pending.to == name)?;
    pending.tier.as_deref()
}

fn does_not_fit(target: &LocalTarget, tier: &str, state: Option<&TierState>) -> Option<Rejection> {
    let (needed, device) = (target.memory?, state?.device_memory?);
    (needed > device).then(|| {
        let message =
            format!("the model needs {needed} of memory; a replica on tier {tier} has {device}");
        rejection(Gate::Memory, RejectionReason::MemoryTooSmall, message)
    })
}

fn no_room(tier: &str, state: Option<&TierState>, room: Room<'_>) -> Option<Rejection> {
    let (reason, message) = match state {
        None => (
            RejectionReason::TierMissing,
            format!("tier {tier} does not exist"),
        ),
        Some(state) if state.nodes == 0 => {
            (RejectionReason::NoNode, format!("tier {tier} has 0 nodes"))
        }
        Some(_) if room.is_lost(tier) => {
            let free = room.ledger.free(tier).unwrap_or(0);
            match room.rivals {
                Rivals::SaveMore => (
                    RejectionReason::OthersSaveMore,
                    explain::lost_to_savings(tier, free),
                ),
                Rivals::OnlyRunHere => (
                    RejectionReason::NoCapacity,
                    explain::lost_to_need(tier, free),
                ),
            }
        }
        Some(state) if room.free(tier) == Some(0) => {
            let nodes = state.nodes;
            (
                RejectionReason::NoCapacity,
                format!("tier {tier} has 0 free devices on {nodes} nodes"),
            )
        }
        Some(_) => return None,
    };
    Some(rejection(Gate::Capacity, reason, message))
}

//! Which tier a local target would use, and whether there is room for it.

use std::collections::{BTreeMap, BTreeSet};

use crate::explain;
use crate::gates::rejection;
use crate::plan::{Gate, Rejection, RejectionReason};
use crate::snapshot::{CurrentPlacement, FleetSnapshot, LocalTarget, SharedDevices, TierState};

/// Devices that this plan has not given away yet, by tier; unknown where nobody counted them.
#[derive(Debug, Clone)]
pub(crate) struct Ledger<'a> {
    tiers: &'a BTreeMap<String, TierState>,
    taken: BTreeMap<&'a str, u32>,
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(snapshot: &'a FleetSnapshot) -> Self {
        Self {
            tiers: &snapshot.tiers,
            taken: BTreeMap::new(),
        }
    }

    /// Takes what is there of `devices`.
    pub(crate) fn take(&mut self, tier: &str, devices: u32) {
        let devices = self.free(tier).map_or(devices, |free| free.min(devices));
        if let Some((tier, _)) = self.tiers.get_key_value(tier) {
            let taken = self.taken.entry(tier).or_default();
            *taken = taken.saturating_add(devices);
        }
    }

    /// Devices that are left; `None` when unknown. What is taken of a tier that shares nodes with this one may have been
    /// on those, wherever the scheduler puts its pods, and counts so; and what was promised there must stay to be had.
    pub(crate) fn free(&self, tier: &str) -> Option<u32> {
        let own = self.left(tier)?;
        let others = self
            .shared_with(tier)
            .filter(|(other, _)| self.taken(other) > 0);
        let spared = others.map(|(other, _)| self.spared_by(other, tier));
        Some(spared.fold(own, u32::min))
    }

    fn taken(&self, tier: &str) -> u32 {
        self.taken.get(tier).copied().unwrap_or(0)
    }

    /// How many of a tier's devices those of another one that were taken may be.
    fn taken_by(&self, other: &str, shared: SharedDevices) -> u32 {
        self.taken(other)
            .saturating_mul(shared.each)
            .min(shared.free)
    }

    /// What is surely left of a tier for those that were promised devices of it, and for others.
    fn left(&self, tier: &str) -> Option<u32> {
        let by_others = self.shared_with(tier);
        let by_others = by_others.map(|(other, shared)| self.taken_by(other, shared));
        let gone = by_others.fold(self.taken(tier), u32::saturating_add);
        Some(self.counted(tier)?.saturating_sub(gone))
    }

    /// How many further devices of `tier` may go before a pod of `other` may not find the one that it was promised.
    fn spared_by(&self, other: &str, tier: &str) -> u32 {
        let mut shared = self.shared_with(other);
        let shared = shared.find_map(|(name, shared)| (name == tier).then_some(shared));
        let (Some(shared), Some(left)) = (shared, self.left(other)) else {
            return u32::MAX;
        };
        let most = self.taken_by(tier, shared).saturating_add(left);
        if shared.free <= most {
            return u32::MAX;
        }
        let devices = most / shared.each.max(1);
        devices.saturating_sub(self.taken(tier))
    }

    /// Devices that were left before this plan gave any away; `None` when unknown.
    fn counted(&self, tier: &str) -> Option<u32> {
        self.tiers.get(tier)?.available()
    }

    /// Whether this plan gave away any of the tier's devices.
    pub(crate) fn has_given(&self, tier: &str) -> bool {
        self.free(tier) != self.counted(tier)
    }

    /// What is left, with the figures that it comes from where that is not what was counted.
    pub(crate) fn described(&self, tier: &str) -> Devices {
        let state = self.tiers.get(tier);
        let left = self.free(tier).unwrap_or(0);
        Devices {
            left,
            free: state.and_then(|state| state.free_devices).unwrap_or(0),
            to_come: state.map_or(0, TierState::to_come),
        }
    }

    /// The tier, those that have nodes in common with it, those that have some in common with these, and so on.
    pub(crate) fn connected(&self, tier: &str) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        let mut open: Vec<&'a str> = Vec::new();
        open.extend(
            self.tiers
                .get_key_value(tier)
                .map(|(name, _)| name.as_str()),
        );
        while let Some(tier) = open.pop() {
            if found.insert(tier) {
                open.extend(self.shared_with(tier).map(|(other, _)| other));
            }
        }
        found
    }

    /// Tiers that have nodes in common with this one.
    pub(crate) fn shared_with(
        &self,
        tier: &str,
    ) -> impl Iterator<Item = (&'a str, SharedDevices)> + use<'a> {
        let state = self.tiers.get(tier);
        let shared = state.into_iter().flat_map(|state| &state.shared);
        shared.map(|(other, shared)| (other.as_str(), *shared))
    }
}

/// Devices of a tier that can be counted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Devices {
    /// That this plan has left.
    pub(crate) left: u32,
    /// That no pod holds.
    pub(crate) free: u32,
    /// That can be provisioned.
    pub(crate) to_come: u32,
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
    ledger: &'a Ledger<'a>,
    lost: &'a [String],
    rivals: Rivals,
    /// Whether what this plan gave to others counts as free.
    as_counted: bool,
}

impl<'a> Room<'a> {
    /// All that is free.
    pub(crate) fn all(ledger: &'a Ledger<'a>) -> Self {
        Self::without(ledger, &[], Rivals::SaveMore)
    }

    /// What is free but for the tiers that are `lost` to others.
    pub(crate) fn without(ledger: &'a Ledger<'a>, lost: &'a [String], rivals: Rivals) -> Self {
        Self {
            ledger,
            lost,
            rivals,
            as_counted: false,
        }
    }

    /// The room that there would be if this plan had given nothing away.
    pub(crate) fn as_counted(self) -> Self {
        Self {
            as_counted: true,
            ..self
        }
    }

    /// Whether devices of the tier are promised to others that would else be there.
    pub(crate) fn is_promised(&self, tier: &str) -> bool {
        !self.is_lost(tier) && self.ledger.has_given(tier)
    }

    /// Devices that the workload may count on; `None` when unknown.
    pub(crate) fn free(&self, tier: &str) -> Option<u32> {
        if self.is_lost(tier) {
            return self.ledger.free(tier).and(Some(0));
        }
        if self.as_counted {
            self.ledger.counted(tier)
        } else {
            self.ledger.free(tier)
        }
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
    /// Whether it runs there already, so that its growth waits for devices and asks for no other place.
    pub(crate) at_home: bool,
}

/// The tier where the target is already, while it has a place there; else the first in the spec's order with room; else
/// the one to wait for. Unknown memory and unknown free devices do not speak against a tier: the scheduler and the
/// engine will, with typed reasons. `need` says how many devices of a tier the target lacks before it can serve there.
pub(crate) fn choose(
    tiers: &BTreeMap<String, TierState>,
    room: Room<'_>,
    (name, target): (&str, &LocalTarget),
    current: Option<&CurrentPlacement>,
    need: impl Fn(&str) -> u32,
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
            at_home: false,
        };
    }
    let settled = current
        .and_then(|current| settled_tier(current, name))
        .filter(|tier| fitting.contains(tier));
    let at_home = |tier: &str| {
        let holds = |current: &CurrentPlacement| current.held_for(name, tier) > 0;
        Some(tier) == settled && current.is_some_and(holds)
    };
    let found = |tier: &str| TierChoice {
        tier: Some(tier.to_owned()),
        failed: Vec::new(),
        at_home: at_home(tier),
    };
    let preference = || settled.into_iter().chain(fitting.iter().copied());
    let mut failed = Vec::new();
    for tier in preference() {
        match no_room(tier, tiers.get(tier), room, need(tier)) {
            Some(_) if at_home(tier) => return found(tier),
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
        at_home: false,
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

fn no_room(tier: &str, state: Option<&TierState>, room: Room<'_>, need: u32) -> Option<Rejection> {
    let (reason, message) = match state {
        None => (
            RejectionReason::TierMissing,
            format!("tier {tier} does not exist"),
        ),
        Some(state) if state.nodes == 0 && state.to_come() == 0 => {
            (RejectionReason::NoNode, format!("tier {tier} has 0 nodes"))
        }
        Some(_) if need == 0 => return None,
        Some(_) if room.is_lost(tier) => {
            let free = room.ledger.described(tier);
            match room.rivals {
                Rivals::SaveMore => (
                    RejectionReason::OthersSaveMore,
                    explain::lost_to_savings(tier, &free),
                ),
                Rivals::OnlyRunHere => (
                    RejectionReason::NoCapacity,
                    explain::lost_to_need(tier, &free),
                ),
            }
        }
        Some(state) if room.free(tier).is_some_and(|free| free < need) => (
            RejectionReason::NoCapacity,
            explain::too_few(tier, state.nodes, &room.ledger.described(tier), need),
        ),
        Some(_) => return None,
    };
    Some(rejection(Gate::Capacity, reason, message))
}

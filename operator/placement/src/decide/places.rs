//! The places of one workload in the order of its own choice: where it would go, where if that is given to others, and so
//! on to the place that takes no device that is free.

use super::competition::Arena;
use super::turn::{Prepared, Takings};
use crate::candidate::{Curve, Evaluated};
use crate::capacity::Room;
use crate::choose::Choice;
use crate::units::MicroUsd;

/// What serving a workload is worth that has no other place, in micro-USD: more than others save, and little enough for
/// a plan's value to stay a sum of them.
const SERVED: u128 = 10_000_000_000_000;

/// A workload with its places.
pub(super) struct Places<'a> {
    pub(super) prepared: Prepared<'a>,
    /// At least one.
    pub(super) places: Vec<Place>,
}

/// A place, as chosen once the places before it are given to others.
pub(super) struct Place {
    pub(super) evaluated: Vec<Evaluated>,
    pub(super) choice: Choice,
    /// Devices that it takes of those that are free, where their number is known.
    pub(super) takes: Option<Takes>,
}

/// Devices of a tier.
pub(super) struct Takes {
    pub(super) tier: String,
    /// What the replicas need beyond what the workload holds.
    pub(super) needed: u32,
    /// What they would get: all that they need, or all that is free.
    pub(super) devices: u32,
}

impl Place {
    /// What is chosen where the devices of tiers are `lost` to others.
    fn choose(
        prepared: &Prepared<'_>,
        arena: Arena<'_>,
        lost: &[String],
        first: Option<&Self>,
    ) -> Self {
        let room = Room::without(arena.ledger, lost, arena.rivals());
        let confirmed = first.and_then(|first| first.choice.confirmation.as_ref());
        let (evaluated, choice) = prepared.choose(arena.pass, room, confirmed);
        let takings = Takings::of_choice(prepared.workload, &evaluated, &choice).devices();
        let takes = takings.and_then(|(tier, needed)| {
            let free = room.free(tier).filter(|free| *free > 0)?;
            Some(Takes {
                tier: tier.to_owned(),
                needed,
                devices: needed.min(free),
            })
        });
        Self {
            evaluated,
            choice,
            takes,
        }
    }

    fn chosen(&self) -> Option<&Evaluated> {
        self.choice.target.map(|at| &self.evaluated[at])
    }

    /// Of a month, in micro-USD; `None` where it cannot be relied on.
    fn cost(&self) -> Option<u128> {
        let chosen = self.chosen()?;
        let known = chosen.exact.filter(|_| chosen.unknown_cost().is_none());
        Some(known?.to_micro_usd().get().into())
    }
}

impl<'a> Places<'a> {
    /// With the first place alone.
    pub(super) fn new(prepared: Prepared<'a>, arena: Arena<'_>) -> Self {
        let first = Place::choose(&prepared, arena, &[], None);
        Self {
            prepared,
            places: vec![first],
        }
    }

    /// Whether the last place is known, the one that takes nothing.
    pub(super) fn is_complete(&self) -> bool {
        self.places.last().is_none_or(|last| last.takes.is_none())
    }

    /// Adds the places that follow. Each one before the last takes devices of another tier, so they end.
    pub(super) fn complete(&mut self, arena: Arena<'_>) {
        while !self.is_complete() {
            let lost: Vec<String> = self.takes().map(|takes| takes.tier.clone()).collect();
            let next = Place::choose(&self.prepared, arena, &lost, self.places.first());
            self.places.push(next);
        }
    }

    /// Devices that its places take, in its order.
    pub(super) fn takes(&self) -> impl Iterator<Item = &Takes> {
        self.places.iter().filter_map(|place| place.takes.as_ref())
    }

    /// How many places come before the one on `tier`; before the last one if it was given no tier.
    pub(super) fn lost_before(&self, tier: Option<&str>) -> usize {
        let on_tier = |place: &Place| place.takes.as_ref().map(|takes| takes.tier.as_str()) == tier;
        let at = self.places.iter().position(on_tier);
        at.unwrap_or(self.places.len().saturating_sub(1))
    }

    /// What each place saves in a month against the last one, less what moving there costs more; with too few devices
    /// for all replicas, what fewer save where the rest overflows, else their share of it. The workload's own order stands: a place is worth less than the one before,
    /// and at least a micro-USD, so that no device stays free that somebody wishes for. What is unknown is worth no more.
    pub(super) fn worth(&self) -> Vec<(&Takes, MicroUsd)> {
        let Some(last) = self.places.last() else {
            return Vec::new();
        };
        let mut at_least = self.takes().count() as u128;
        let mut at_most = u128::MAX;
        let mut worth = Vec::new();
        for place in &self.places {
            let Some(takes) = &place.takes else {
                continue;
            };
            let share = match self.cost_of_fewer(place, takes) {
                Some(cost) => self.saving(place, Some(cost), last),
                None => {
                    let whole = self.saving(place, place.cost(), last);
                    whole * u128::from(takes.devices) / u128::from(takes.needed.max(1))
                }
            };
            let saving = share.max(at_least).min(at_most);
            worth.push((takes, MicroUsd::clamped(saving)));
            at_least = at_least.saturating_sub(1);
            at_most = saving.saturating_sub(1);
        }
        worth
    }

    /// What the place costs in a month with the devices that it would get, in micro-USD; `None` where it gets all that it
    /// needs, or nobody takes what fewer replicas leave.
    fn cost_of_fewer(&self, place: &Place, takes: &Takes) -> Option<u128> {
        let chosen = place.chosen().filter(|_| takes.devices < takes.needed)?;
        let Some(Curve::Mixed(mix)) = &chosen.curve else {
            return None;
        };
        let all = chosen.candidate.replicas?;
        let most = all.saturating_sub(takes.needed - takes.devices);
        let cost = mix.cost(most, self.prepared.requests()?);
        Some(cost.to_micro_usd().get().into())
    }

    /// What `place` saves at a cost against the last one.
    fn saving(&self, place: &Place, own: Option<u128>, last: &Place) -> u128 {
        let own = own.map(|own| own.saturating_add(self.moving(place)));
        match last.chosen().filter(|last| last.feasible()) {
            None => SERVED - own.unwrap_or(SERVED).min(SERVED / 2),
            Some(_) => match (own, last.cost()) {
                (Some(own), Some(other)) => {
                    other.saturating_add(self.moving(last)).saturating_sub(own)
                }
                _ => 0,
            },
        }
    }

    /// What going there costs once, in micro-USD.
    fn moving(&self, place: &Place) -> u128 {
        let Some(chosen) = place.chosen() else {
            return 0;
        };
        let current = self.prepared.workload.current.as_ref();
        let at = current.and_then(|current| {
            let mut all = place.evaluated.iter();
            all.find(|each| each.name() == current.target)
        });
        match at {
            Some(at) if at.name() == chosen.name() => 0,
            Some(at) => at.hurdle(chosen, self.prepared.policy).once(chosen.warm_up),
            None => chosen.warm_up,
        }
    }
}

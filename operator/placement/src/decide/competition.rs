//! Who gets devices that are short: a workload's places in the order of its own choice, and the assignment that gives
//! away what is free where it is worth most.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use super::Pass;
use super::places::{Places, Takes};
use super::turn::{Prepared, Turn};
use crate::capacity::{Ledger, Rivals};
use crate::explain;
use crate::fleet::assignment::{Competitor, Component, Offer, Problem, Solution, solve};
use crate::plan::{Competition, Goal, Outcome, Reason};
use crate::snapshot::WorkloadId;
use crate::units::MicroUsd;

/// Where workloads meet that want devices: what is free, and what is sought for.
#[derive(Clone, Copy)]
pub(super) struct Arena<'a> {
    pub(super) pass: Pass<'a>,
    pub(super) ledger: &'a Ledger<'a>,
    pub(super) goal: Goal,
}

impl Arena<'_> {
    pub(super) fn rivals(self) -> Rivals {
        match self.goal {
            Goal::Serve => Rivals::OnlyRunHere,
            Goal::Save => Rivals::SaveMore,
        }
    }
}

/// Chooses for all workloads that want devices of the same tiers, with who competed. Where a tier has room for all that
/// may ask for it, each gets what it wishes for.
pub(super) fn assign<'a>(
    arena: Arena<'_>,
    mut all: Vec<Places<'a>>,
) -> (Vec<Given<'a>>, Vec<Competition>) {
    let scarce = find_scarce(arena, &mut all);
    let competes = |places: &Places<'_>| places.takes().any(|takes| scarce.contains(&takes.tier));
    let mut problem = Problem::default();
    for places in all.iter().filter(|places| competes(places)) {
        let id = places.prepared.id.clone();
        problem.workloads.insert(id, competitor(places));
        for takes in places.takes() {
            let free = arena.ledger.free(&takes.tier).unwrap_or(0);
            problem.capacity.insert(takes.tier.clone(), free);
        }
    }
    let solution = solve(&problem);
    let given = all.into_iter().map(|places| {
        if !problem.workloads.contains_key(places.prepared.id) {
            return Given {
                worth: MicroUsd::MIN,
                turn: turn(arena, places, 0),
            };
        }
        let given = solution.placements.get(places.prepared.id);
        let lost = places.lost_before(given.map(|given| given.tier.as_str()));
        let worth = places.worth().get(lost).map(|(_, saving)| *saving);
        Given {
            worth: worth.unwrap_or(MicroUsd::MIN),
            turn: turn(arena, places, lost),
        }
    });
    (given.collect(), competitions(arena.goal, &solution))
}

/// A workload with what is chosen for it, before that is known to fit beside the others.
pub(super) struct Given<'a> {
    /// What its place saves in a month.
    worth: MicroUsd,
    turn: Turn<'a>,
}

/// Takes the devices that were given, what is worth most first. Who is given devices that another was given under the name
/// of another tier comes back, to choose again from what is left, and these competed as well.
pub(super) fn take<'a>(
    ledger: &mut Ledger<'_>,
    mut given: Vec<Given<'a>>,
    goal: Goal,
) -> (Vec<Turn<'a>>, Vec<Prepared<'a>>, Vec<Competition>) {
    given.sort_by_key(|given| Reverse(given.worth));
    let before = ledger.clone();
    let (mut taken, mut again) = (Vec::new(), Vec::new());
    let mut tangled: BTreeMap<BTreeSet<&str>, Tangle> = BTreeMap::new();
    for Given { worth, turn } in given {
        let mut fits = true;
        if let Some((tier, needed)) = turn.takings().devices() {
            let promised = before.free(tier).map(|free| free.min(needed));
            fits = promised.is_none_or(|promised| ledger.free(tier) >= Some(promised));
            let tiers = before.connected(tier);
            if tiers.len() > 1 {
                let tangle = tangled.entry(tiers).or_default();
                tangle.add(turn.prepared.id, u128::from(worth.get()), fits);
            }
        }
        if fits {
            turn.takings().take_from(ledger);
            taken.push(turn);
        } else {
            again.push(turn.prepared);
        }
    }
    let competed = tangled.into_iter();
    let competed = competed.filter(|(_, tangle)| tangle.bound > tangle.value);
    let competed = competed.map(|(tiers, tangle)| tangle.competition(goal, &tiers, &before));
    (taken, again, competed.collect())
}

/// Workloads that were given devices of tiers which have nodes in common.
#[derive(Default)]
struct Tangle {
    workloads: BTreeSet<WorkloadId>,
    value: u128,
    bound: u128,
}

impl Tangle {
    fn add(&mut self, id: &WorkloadId, worth: u128, fits: bool) {
        self.workloads.insert(id.clone());
        self.bound += worth.max(1);
        self.value += if fits { worth.max(1) } else { 0 };
    }

    fn competition(self, goal: Goal, tiers: &BTreeSet<&str>, ledger: &Ledger<'_>) -> Competition {
        let free = |tier: &&str| Some(((*tier).to_owned(), ledger.free(tier)?));
        let gap = (self.bound - self.value) * 1_000_000 / self.bound.max(1);
        Competition {
            goal,
            workloads: self.workloads.into_iter().collect(),
            tiers: tiers.iter().filter_map(free).collect(),
            value: MicroUsd::clamped(self.value),
            bound: MicroUsd::clamped(self.bound),
            gap_parts_per_million: u64::try_from(gap).unwrap_or(u64::MAX),
        }
    }
}

/// The tiers that have too few devices for all that may ask for them. Whoever wishes for one of these says where else it
/// would go, which may make further tiers short.
fn find_scarce(arena: Arena<'_>, all: &mut [Places<'_>]) -> BTreeSet<String> {
    let mut asked: BTreeMap<String, u64> = BTreeMap::new();
    let mut ask = |takes: &Takes| {
        let devices = asked.entry(takes.tier.clone()).or_default();
        *devices += u64::from(takes.needed);
        short_of(arena.ledger, &asked, &takes.tier)
    };
    let mut scarce = BTreeSet::new();
    for places in all.iter() {
        scarce.extend(places.takes().flat_map(&mut ask));
    }
    loop {
        let mut found = BTreeSet::new();
        for places in all.iter_mut().filter(|places| !places.is_complete()) {
            if !places.takes().any(|takes| scarce.contains(&takes.tier)) {
                continue;
            }
            let known = places.takes().count();
            places.complete(arena);
            found.extend(places.takes().skip(known).flat_map(&mut ask));
        }
        if found.is_subset(&scarce) {
            return scarce;
        }
        scarce.append(&mut found);
    }
}

/// Those of a tier and the ones that have nodes in common with it that are asked for more than they have, each with those
/// that it has nodes in common with.
fn short_of(ledger: &Ledger<'_>, asked: &BTreeMap<String, u64>, tier: &str) -> BTreeSet<String> {
    let asked = |tier: &str| asked.get(tier).copied().unwrap_or(0);
    let is_short = |tier: &str| {
        let by_others = ledger.shared_with(tier).map(|(other, shared)| {
            let most = asked(other).saturating_mul(shared.each.into());
            most.min(shared.free.into())
        });
        let all = by_others.fold(asked(tier), u64::saturating_add);
        all > u64::from(ledger.free(tier).unwrap_or(0))
    };
    let with_shared = |tier: &str| {
        let others = ledger.shared_with(tier).map(|(other, _)| other.to_owned());
        others.chain([tier.to_owned()]).collect::<Vec<_>>()
    };
    let near = with_shared(tier).into_iter();
    near.filter(|tier| asked(tier) > 0 && is_short(tier))
        .flat_map(|tier| with_shared(&tier))
        .collect()
}

fn competitor(places: &Places<'_>) -> Competitor {
    let offers = places.worth().into_iter().filter_map(|(takes, saving)| {
        let offer = Offer {
            units: NonZeroU32::new(takes.devices)?,
            savings: vec![saving],
            enter: MicroUsd::MIN,
        };
        Some((takes.tier.clone(), offer))
    });
    Competitor {
        offers: offers.collect(),
        held: None,
        leave: MicroUsd::MIN,
    }
}

fn competitions(goal: Goal, solution: &Solution) -> Vec<Competition> {
    let money = |value: i128| MicroUsd::clamped(u128::try_from(value).unwrap_or(0));
    let short = |part: &&Component| !part.tiers.is_empty();
    let parts = solution.components.iter().filter(short);
    let parts = parts.map(|part| Competition {
        goal,
        workloads: part.workloads.clone(),
        tiers: part.tiers.clone(),
        value: money(part.value),
        bound: money(part.bound),
        gap_parts_per_million: part.gap_parts_per_million(),
    });
    parts.collect()
}

/// The place after those that are `lost`. What was confirmed for the first stays confirmed, so that losing devices to
/// others costs a workload neither its turn nor its next best place.
fn turn<'a>(arena: Arena<'_>, places: Places<'a>, lost: usize) -> Turn<'a> {
    let Places {
        prepared,
        mut places,
    } = places;
    let (first, why) = if lost == 0 {
        (None, String::new())
    } else {
        let first = &places[0];
        let wished = first.choice.target.map(|at| first.evaluated[at].name());
        let lost = places[..lost].iter().filter_map(|place| {
            let takes = place.takes.as_ref()?;
            let free = &arena.ledger.described(&takes.tier);
            Some(match arena.goal {
                Goal::Serve => explain::lost_to_need(&takes.tier, free),
                Goal::Save => explain::lost_to_savings(&takes.tier, free),
            })
        });
        let lost: Vec<_> = lost.collect();
        let why = format!(
            "wishes for {}, but {}",
            wished.unwrap_or_default(),
            lost.join(" and ")
        );
        (Some(first.choice.confirmation.clone()), why)
    };
    let place = places.swap_remove(lost);
    let mut choice = place.choice;
    if let Some(confirmation) = first {
        choice.confirmation = confirmation;
        choice.message = format!("{why}; {}", choice.message);
        let waits = choice.reason == Reason::WaitingForGpu;
        match (arena.goal, choice.outcome) {
            (Goal::Save, Outcome::Place) if !waits && place.takes.is_none() => {
                choice.reason = Reason::OthersSaveMore;
            }
            (Goal::Save, Outcome::Keep) if !waits => {
                choice.outcome = Outcome::Hold;
                choice.reason = Reason::OthersSaveMore;
            }
            _ => {}
        }
    }
    Turn {
        prepared,
        evaluated: place.evaluated,
        choice,
    }
}

/// Competitions of the previous plan of which nothing was reached.
pub(super) fn standing<'b>(
    previous: &'b [Competition],
    goal: Goal,
    unreached: &[Prepared<'_>],
) -> impl Iterator<Item = Competition> + use<'b> {
    let ids: BTreeSet<WorkloadId> = if previous.is_empty() {
        BTreeSet::new()
    } else {
        unreached.iter().map(|each| each.id.clone()).collect()
    };
    let stands = move |competition: &&Competition| {
        competition.goal == goal && competition.workloads.iter().all(|id| ids.contains(id))
    };
    previous.iter().filter(stands).cloned()
}

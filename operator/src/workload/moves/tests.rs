//! The state machine step by step, and over histories that chance writes.

mod histories;
mod retries;
mod steps;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use weir_crds::decision::HistoryEntry;
use weir_crds::placement::{DecidedFor, Location, Phase, Placement};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("in range")
}

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

/// Two local targets and an external one; a canary of 20 and 50 percent with pauses of five seconds.
fn rules() -> Rules {
    let local = |name: &str| TargetRules {
        name: name.to_owned(),
        location: Location::Local,
        min_replicas: 0,
        max_replicas: 4,
        idle_after: seconds(10),
    };
    let external = TargetRules {
        name: "cloud".to_owned(),
        location: Location::External,
        min_replicas: 0,
        max_replicas: 0,
        idle_after: SignedDuration::ZERO,
    };
    Rules {
        targets: vec![local("a"), local("b"), external],
        canary: vec![(20, seconds(5)), (50, seconds(5))],
        max_error_micro_percent: 1_000_000,
        drain: seconds(60),
        suspend: false,
    }
}

fn wish(target: Option<&str>, moves: bool, feasible: &[&str]) -> Wish {
    let wished = |name: &&str| WishedTarget {
        name: (*name).to_owned(),
        location: if *name == "cloud" {
            Location::External
        } else {
            Location::Local
        },
        replicas: (*name != "cloud").then(|| i32::from(Some(*name) == target)),
        tier: (*name != "cloud").then(|| format!("tier-{name}")),
        decided_for: (*name == "cloud").then(|| DecidedFor {
            provider: "acme".to_owned(),
            model: "mini".to_owned(),
        }),
    };
    Wish {
        decision_id: format!("d-{}", target.unwrap_or("none")),
        target: target.map(str::to_owned),
        reason: "LowerCost".to_owned(),
        moves,
        feasible: feasible.iter().map(wished).collect(),
    }
}

const ALL: [&str; 3] = ["a", "b", "cloud"];

/// A world with one workload: the placement in its status, its Deployments, and what its gateways have.
struct World {
    placement: Option<Placement>,
    history: Vec<HistoryEntry>,
    deployments: BTreeMap<String, i32>,
    observed: Observed,
    wish: Wish,
    rules: Rules,
    generation: i64,
    now: Timestamp,
    witnessed: Witnessed,
    told: Vec<Transition>,
    deadline: Option<Timestamp>,
}

impl World {
    /// Everything is ready, and every gateway has what was ordered.
    fn new() -> Self {
        let usable = |name: &str| {
            let seen = TargetObserved {
                usable: Usable::Yes,
                in_flight: Some(0),
                ..TargetObserved::default()
            };
            (name.to_owned(), seen)
        };
        Self {
            placement: None,
            history: Vec::new(),
            deployments: BTreeMap::new(),
            observed: Observed {
                targets: ALL.map(usable).into(),
                acknowledged: Acknowledgement::All,
                settled: Acknowledgement::All,
            },
            wish: wish(Some("a"), false, &ALL),
            rules: rules(),
            generation: 1,
            now: at(0),
            witnessed: Witnessed::default(),
            told: Vec::new(),
            deadline: None,
        }
    }

    fn seen(&mut self, target: &str) -> &mut TargetObserved {
        self.observed.targets.entry(target.to_owned()).or_default()
    }

    fn advance(&self) -> Advance {
        advance(self.view(self.placement.as_ref()))
    }

    fn view<'a>(&'a self, previous: Option<&'a Placement>) -> View<'a> {
        View {
            previous,
            wish: &self.wish,
            rules: &self.rules,
            observed: &self.observed,
            history: &self.history,
            generation: self.generation,
            now: self.now,
            witnessed: &self.witnessed,
            not_before: None,
        }
    }

    /// One reconcile: history, placement, Deployments, in that order. `writes` of them happen before the process ends.
    fn reconcile_until(&mut self, mut writes: usize) -> bool {
        let advance = self.advance();
        let mut write = || {
            let may = writes > 0;
            writes = writes.saturating_sub(1);
            may
        };
        if let Some(entry) = &advance.history {
            if !write() {
                return false;
            }
            self.history.insert(0, entry.clone());
        }
        let previous = self.placement.clone();
        if advance.placement != previous {
            if !write() {
                return false;
            }
            self.placement = advance.placement.clone();
            self.told.extend(advance.transitions.clone());
        }
        self.deadline = advance.deadline;
        let Some(placement) = self.placement.clone() else {
            return true;
        };
        for target in ["a", "b"] {
            let existing = self.deployments.get(target).copied();
            let view = self.view(previous.as_ref());
            let free = released(view, &placement, target);
            let wanted = replicas(&placement, target, existing, &self.observed, free);
            let (Some(wanted), before) = (wanted, existing) else {
                continue;
            };
            if Some(wanted) == before || (wanted == 0 && before.is_none()) {
                continue;
            }
            if !write() {
                return false;
            }
            self.deployments.insert(target.to_owned(), wanted);
            self.seen(target).replicas = Some(wanted);
        }
        true
    }

    fn reconcile(&mut self) -> &Placement {
        self.reconcile_until(usize::MAX);
        self.placement.as_ref().expect("a placement")
    }

    fn pass(&mut self, by: i64) -> &Placement {
        self.now = after(self.now, seconds(by));
        self.reconcile()
    }

    fn shares(&self) -> Vec<(String, i32)> {
        let weights = self
            .placement
            .iter()
            .flat_map(|placement| &placement.weights);
        weights
            .filter(|weight| weight.weight > 0)
            .map(|weight| (weight.target.clone(), weight.weight))
            .collect()
    }

    fn phase(&self) -> Phase {
        self.placement.as_ref().expect("a placement").phase
    }

    /// Goes on until the phase is reached, with reconciles a second apart.
    fn until(&mut self, phase: Phase) {
        for _ in 0..200 {
            if self.phase() == phase {
                return;
            }
            self.pass(1);
        }
        panic!("{phase:?} was not reached: {:?}", self.placement);
    }
}

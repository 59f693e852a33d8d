//! Histories that chance writes: gateways that lag, targets that fail, processes that end between two writes.

use proptest::prelude::*;

use super::*;

const LOCALS: [&str; 2] = ["a", "b"];

/// What may happen.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Time(u8),
    Acknowledge(usize),
    Ready(usize, Usable),
    Wish(usize, bool),
    Feasible(u8),
    InFlight(usize, u8),
    Errors(usize, bool),
    Suspend(bool),
    Generation,
    Reconcile,
    Crash(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    prop_oneof![
        3 => (1_u8..30).prop_map(Time),
        4 => (0_usize..3).prop_map(Acknowledge),
        2 => (0_usize..3, prop::sample::select(vec![Usable::Yes, Usable::Unreached, Usable::No])).prop_map(|(at, ready)| Ready(at, ready)),
        2 => (0_usize..3, any::<bool>()).prop_map(|(at, moves)| Wish(at, moves)),
        1 => (0_u8..8).prop_map(Feasible),
        1 => (0_usize..3, 0_u8..3).prop_map(|(at, count)| InFlight(at, count)),
        1 => (0_usize..3, any::<bool>()).prop_map(|(at, fails)| Errors(at, fails)),
        1 => any::<bool>().prop_map(Suspend),
        1 => Just(Generation),
        6 => Just(Reconcile),
        1 => (0_usize..3).prop_map(Crash),
    ]
}

/// What a gateway has in force.
#[derive(Clone, Debug, Default)]
struct Gateway {
    step: i64,
    shares: Vec<(String, i32)>,
}

struct Run {
    world: World,
    gateways: [Gateway; 3],
    feasible: u8,
    wished: (usize, bool),
}

impl Run {
    fn new() -> Self {
        let mut run = Self {
            world: World::new(),
            gateways: Default::default(),
            feasible: 7,
            wished: (0, false),
        };
        run.decide();
        run
    }

    /// Wishes only for what may serve, and for something whenever anything may.
    fn decide(&mut self) {
        let may = |at: &usize| self.feasible & (1 << at) != 0;
        let feasible: Vec<&str> = (0..3).filter(may).map(|at| ALL[at]).collect();
        let (at, moves) = self.wished;
        let target = Some(at).filter(may).or_else(|| (0..3).find(may));
        self.world.wish = wish(target.map(|at| ALL[at]), moves, &feasible);
    }

    fn listen(&mut self) {
        let ordered = self
            .world
            .placement
            .as_ref()
            .map_or(0, |placement| placement.step);
        let lag: Vec<String> = self
            .gateways
            .iter()
            .enumerate()
            .filter(|(_, gateway)| gateway.step < ordered)
            .map(|(at, _)| format!("gateway-{at}"))
            .collect();
        // The third gateway is terminating: it need not be waited for by a canary, but by a release.
        let ready: Vec<String> = lag
            .iter()
            .filter(|name| *name != "gateway-2")
            .cloned()
            .collect();
        let told = |waiting: Vec<String>| match waiting.is_empty() {
            true => Acknowledgement::All,
            false => Acknowledgement::Waiting(waiting),
        };
        self.world.observed.acknowledged = told(ready);
        self.world.observed.settled = told(lag);
    }

    fn happen(&mut self, happening: Happening) {
        let world = &mut self.world;
        match happening {
            Happening::Time(by) => world.now = after(world.now, seconds(by.into())),
            Happening::Acknowledge(at) => {
                if let Some(placement) = &world.placement {
                    let step = placement.step;
                    let shares = world.shares();
                    self.gateways[at] = Gateway { step, shares };
                }
            }
            Happening::Ready(at, ready) => {
                world.seen(ALL[at]).usable = ready;
            }
            Happening::Wish(at, moves) => self.wished = (at, moves),
            Happening::Feasible(mask) => self.feasible = mask,
            Happening::InFlight(at, count) => world.seen(ALL[at]).in_flight = Some(count.into()),
            Happening::Errors(at, fails) => {
                world.seen(ALL[at]).requests = 100;
                world.seen(ALL[at]).errors = if fails { 50 } else { 0 };
            }
            Happening::Suspend(suspend) => world.rules.suspend = suspend,
            Happening::Generation => world.generation += 1,
            Happening::Reconcile | Happening::Crash(_) => {}
        }
        self.decide();
        self.listen();
        match happening {
            Happening::Reconcile => self.reconcile(usize::MAX),
            Happening::Crash(writes) => self.reconcile(writes),
            _ => {}
        }
        self.listen();
    }

    fn reconcile(&mut self, writes: usize) {
        let before = self.world.placement.clone();
        self.world.reconcile_until(writes);
        self.check_step(before.as_ref());
    }

    fn check_step(&self, before: Option<&Placement>) {
        let Some(placement) = &self.world.placement else {
            return;
        };
        let sum: i32 = placement.weights.iter().map(|weight| weight.weight).sum();
        assert!(
            sum == 100 || placement.weights.is_empty(),
            "weights come to {sum}: {placement:?}"
        );
        for weight in &placement.weights {
            assert!((0..=100).contains(&weight.weight), "{placement:?}");
        }
        if Some(placement) != before {
            for weight in &placement.weights {
                assert!(self.world.wish.allows(&weight.target), "{placement:?}");
            }
        }
        if let Some(before) = before {
            let routes = |placement: &Placement| -> Vec<_> {
                let weights = placement.weights.iter();
                weights
                    .map(|weight| (weight.target.clone(), weight.weight))
                    .collect()
            };
            let same = routes(before) == routes(placement);
            assert!(
                same || placement.step == before.step + 1,
                "{before:?}\n{placement:?}"
            );
            assert!(placement.step - before.step <= 1 && placement.step >= before.step);
        }
        assert_eq!(
            placement.phase == Phase::Steady,
            placement.r#move.is_none(),
            "{placement:?}"
        );
    }

    /// Whatever a gateway may still send to has pods.
    fn check_pods(&self) {
        for gateway in self.gateways.iter().filter(|gateway| gateway.step > 0) {
            for (target, _) in &gateway.shares {
                if LOCALS.contains(&target.as_str()) {
                    let pods = self.world.deployments.get(target).copied().unwrap_or(0);
                    assert!(
                        pods > 0,
                        "{target} has no pods, and a gateway at step {} sends to it: {:?}",
                        gateway.step,
                        self.world.placement
                    );
                }
            }
        }
    }
}

#[test]
fn an_abandoned_target_that_a_gateway_still_uses_keeps_its_pods() {
    use Happening::{Acknowledge, Feasible, Reconcile, Time, Wish};
    let mut run = Run::new();
    run.happen(Reconcile);
    for happening in [
        Wish(1, true),
        Time(1),
        Acknowledge(0),
        Feasible(5),
        Feasible(3),
        Wish(2, false),
    ] {
        run.happen(happening);
        run.happen(Reconcile);
        run.check_pods();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_gateway_ever_sends_to_a_target_whose_pods_were_released(
        happenings in prop::collection::vec(happening(), 1..120)
    ) {
        let mut run = Run::new();
        run.happen(Happening::Reconcile);
        for happening in happenings {
            run.happen(happening);
            if !matches!(happening, Happening::Crash(_)) {
                // What a crash cut off is made up for by the next reconcile.
                run.happen(Happening::Reconcile);
                run.check_pods();
            }
        }
    }

    #[test]
    fn once_the_world_is_quiet_the_wish_comes_true_and_nothing_more_is_written(
        happenings in prop::collection::vec(happening(), 1..80), wished in 0_usize..3
    ) {
        let mut run = Run::new();
        run.happen(Happening::Reconcile);
        for happening in happenings {
            run.happen(happening);
        }
        run.feasible = 7;
        run.wished = (wished, true);
        run.world.rules.suspend = false;
        for target in ALL {
            let seen = run.world.seen(target);
            let replicas = seen.replicas;
            *seen = TargetObserved { usable: Usable::Yes, in_flight: Some(0), replicas, ..TargetObserved::default() };
        }
        for _ in 0..400 {
            for gateway in 0..3 {
                run.happen(Happening::Acknowledge(gateway));
            }
            run.happen(Happening::Time(120));
            run.happen(Happening::Reconcile);
        }
        let settled = run.world.placement.clone().expect("placed");
        prop_assert_eq!(settled.target.as_str(), ALL[wished]);
        prop_assert_eq!(settled.phase, Phase::Steady);
        run.happen(Happening::Time(250));
        run.happen(Happening::Reconcile);
        prop_assert_eq!(run.world.placement.as_ref(), Some(&settled));
        for local in LOCALS {
            let pods = run.world.deployments.get(local).copied().unwrap_or(0);
            prop_assert_eq!(pods > 0, local == ALL[wished]);
        }
    }
}

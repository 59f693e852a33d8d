//! What holds for every workload, over random ones.

use proptest::prelude::*;
use weir_placement::{Egress, Learned, Split, StepMarket};

use crate::builders::{Replay, amount, market, need, price, terms};

const MODELS: [&str; 3] = ["large", "mini", "nano"];

/// One random step: the need, the rent, and a price for each model that is offered.
#[derive(Debug, Clone)]
struct Step {
    need: f64,
    rent: f64,
    prices: [Option<f64>; 3],
}

#[derive(Debug, Clone)]
struct Workload {
    forbidden: bool,
    most: u32,
    declared: f64,
    fee: f64,
    steps: Vec<Step>,
}

fn step() -> impl Strategy<Value = Step> {
    let need = prop_oneof![1 => Just(0.0), 4 => 0.0..3.5_f64];
    let price = || proptest::option::weighted(0.9, 0.0..6.0_f64);
    (need, 0.5..2.0_f64, [price(), price(), price()]).prop_map(|(need, rent, prices)| Step {
        need,
        rent,
        prices,
    })
}

fn workload() -> impl Strategy<Value = Workload> {
    (
        proptest::bool::weighted(0.2),
        0..5_u32,
        0.0..3.0_f64,
        prop_oneof![Just(0.0), 0.0..8.0_f64],
        proptest::collection::vec(step(), 1..60),
    )
        .prop_map(|(forbidden, most, declared, fee, steps)| Workload {
            forbidden,
            most,
            declared,
            fee,
            steps,
        })
}

fn step_market(index: usize, step: &Step) -> StepMarket {
    let offers: Vec<(&str, f64)> = MODELS
        .iter()
        .zip(step.prices)
        .filter_map(|(name, usd)| Some((*name, usd?)))
        .collect();
    StepMarket {
        replica_usd_per_hour: amount(step.rent),
        ..market(index, &offers)
    }
}

impl Workload {
    fn start(&self) -> Replay {
        let mut terms = terms(self.declared);
        terms.max_replicas = self.most;
        terms.qualification_usd = amount(self.fee);
        if self.forbidden {
            terms.egress = Egress::Forbidden;
        }
        Replay::new(terms)
    }

    /// All steps but the last are over.
    fn replay(&self) -> (Replay, StepMarket) {
        let mut replay = self.start();
        let last = self.steps.len() - 1;
        for (index, step) in self.steps[..last].iter().enumerate() {
            replay.step(&step_market(index, step), need(step.need));
        }
        (replay, step_market(last, &self.steps[last]))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn what_was_decided_stands_when_it_is_decided_again(workload in workload()) {
        let (mut replay, now) = workload.replay();
        let decided = replay.decide(&now);
        prop_assert_eq!(&replay.decide(&now), &decided);
        replay.held = Split { model: decided.model.clone().or(replay.held.model), ..decided.clone() };
        prop_assert_eq!(replay.decide(&now), decided);
    }

    #[test]
    fn observing_a_step_again_changes_nothing(workload in workload()) {
        let (mut replay, _) = workload.replay();
        let before = replay.learned.clone();
        for step in &replay.seen {
            replay.learned.observe(&replay.terms, &replay.parameters, step);
        }
        prop_assert_eq!(replay.learned, before);
    }

    #[test]
    fn what_is_learned_step_by_step_is_learned_again_from_history(workload in workload()) {
        let (replay, _) = workload.replay();
        prop_assert_eq!(replay.relearned(), replay.learned);
    }

    #[test]
    fn what_is_learned_survives_being_written_and_read(workload in workload()) {
        let (replay, _) = workload.replay();
        let text = serde_json::to_string(&replay.learned).expect("it serializes");
        let read: Learned = serde_json::from_str(&text).expect("it deserializes");
        prop_assert_eq!(read, replay.learned);
    }

    #[test]
    fn only_an_offered_model_is_named_and_replicas_stay_within_the_most(workload in workload()) {
        let mut replay = workload.start();
        for (index, step) in workload.steps.iter().enumerate() {
            let market = step_market(index, step);
            let decided = replay.step(&market, need(step.need));
            prop_assert!(decided.replicas <= workload.most);
            match decided.model {
                Some(model) => {
                    prop_assert!(!workload.forbidden);
                    prop_assert!(market.offers.contains_key(&model));
                }
                None => prop_assert!(workload.forbidden || market.offers.is_empty()),
            }
        }
    }

    #[test]
    fn egress_forbidden_decides_as_if_no_model_existed(workload in workload()) {
        let mut workload = workload;
        workload.forbidden = true;
        let (replay, now) = workload.replay();
        for step in &mut workload.steps {
            step.prices = [None; 3];
        }
        let (without, bare) = workload.replay();
        prop_assert_eq!(replay.decide(&now), without.decide(&bare));
    }

    #[test]
    fn a_dearer_cloud_never_lowers_the_replicas(workload in workload(), usd in 0.0..6.0_f64, more in 0.0..6.0_f64) {
        let (replay, mut now) = workload.replay();
        let model = replay.held.model.clone().unwrap_or_else(|| "mini".to_owned());
        now.offers = [(model.clone(), price(usd))].into();
        let cheap = replay.decide(&now);
        now.offers.insert(model, price(usd + more));
        let dear = replay.decide(&now);
        prop_assert!(dear.replicas >= cheap.replicas, "{cheap:?} {dear:?}");
    }

    #[test]
    fn more_replicas_held_never_lower_the_replicas(workload in workload(), held in 0..4_u32) {
        let (mut replay, now) = workload.replay();
        replay.held.replicas = held;
        let few = replay.decide(&now);
        replay.held.replicas = held + 1;
        prop_assert!(replay.decide(&now).replicas >= few.replicas);
    }

    #[test]
    fn the_future_changes_no_decision(workload in workload(), other in proptest::collection::vec(step(), 60), from in 0..60_usize) {
        let from = from.min(workload.steps.len());
        let (mut one, mut two) = (workload.start(), workload.start());
        for (index, step) in workload.steps.iter().enumerate() {
            let future = if index < from { step } else { &other[index] };
            let market = step_market(index, if index <= from { step } else { future });
            let decided = two.step(&market, need(future.need));
            let expected = one.step(&step_market(index, step), need(step.need));
            if index <= from {
                prop_assert_eq!(decided, expected);
            }
        }
    }

    #[test]
    fn without_traffic_there_are_no_replicas(workload in workload(), idle in 1..30_usize) {
        let mut replay = workload.start();
        for (index, step) in workload.steps.iter().enumerate().take(idle) {
            let decided = replay.step(&step_market(index, step), need(0.0));
            prop_assert!(index == 0 || decided.replicas == 0);
        }
    }
}

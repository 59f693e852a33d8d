//! Workloads, markets and replays for the tests of the split.

use std::collections::BTreeMap;

use weir_placement::{
    DeclaredTokens, Egress, HourTokens, Learned, NonNegative, ObservedStep, ReplicaCapacity, Split,
    SplitParameters, SplitTerms, StepHours, StepMarket, Timestamp, TokenPrice, decide_split,
};

/// Output tokens that a replica serves in an hour: a need of one replica is a million of them.
pub const TOKENS: f64 = 1e6;

pub fn amount(value: f64) -> NonNegative {
    NonNegative::new(value).expect("an amount")
}

/// A workload without input tokens, so that need and tokens are proportional.
pub fn terms(declared_need: f64) -> SplitTerms {
    SplitTerms {
        egress: Egress::Allowed,
        capacity: ReplicaCapacity::new(amount(TOKENS), amount(0.3)).expect("a capacity"),
        max_replicas: 3,
        warm_hours: amount(0.25),
        qualification_usd: amount(25.0),
        declared: DeclaredTokens {
            input_per_month: NonNegative::ZERO,
            output_per_month: amount(declared_need * TOKENS * 730.0),
        },
    }
}

pub fn need(replicas: f64) -> HourTokens {
    HourTokens {
        input: NonNegative::ZERO,
        output: amount(replicas * TOKENS),
    }
}

pub fn price(usd: f64) -> TokenPrice {
    TokenPrice {
        input: amount(usd),
        output: amount(usd),
    }
}

/// The `index`-th hour, with a rent of a dollar; a model at a price of 2.5 costs 2.5 rents for a replica's work.
pub fn market(index: usize, offers: &[(&str, f64)]) -> StepMarket {
    StepMarket {
        time: time(index),
        hours: StepHours::new(1).expect("an hour"),
        replica_usd_per_hour: amount(1.0),
        offers: offers
            .iter()
            .map(|(name, usd)| ((*name).to_owned(), price(*usd)))
            .collect::<BTreeMap<_, _>>(),
    }
}

pub fn time(index: usize) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + 3_600 * index as i64).expect("a time")
}

/// A workload that is decided, then observed, step by step.
pub struct Replay {
    pub terms: SplitTerms,
    pub parameters: SplitParameters,
    pub learned: Learned,
    pub held: Split,
    pub seen: Vec<ObservedStep>,
}

impl Replay {
    pub fn new(terms: SplitTerms) -> Self {
        Self {
            terms,
            parameters: SplitParameters::default(),
            learned: Learned::default(),
            held: Split::default(),
            seen: Vec::new(),
        }
    }

    pub fn decide(&self, market: &StepMarket) -> Split {
        decide_split(
            &self.terms,
            &self.parameters,
            &self.learned,
            &self.held,
            market,
        )
    }

    /// Decides a step, holds that, and observes what came.
    pub fn step(&mut self, market: &StepMarket, demand: HourTokens) -> Split {
        let decided = self.decide(market);
        let hours = market.hours.get() as usize;
        let step = ObservedStep {
            market: market.clone(),
            held: decided.clone(),
            demand: vec![demand; hours],
        };
        self.learned.observe(&self.terms, &self.parameters, &step);
        self.seen.push(step);
        self.held = Split {
            replicas: decided.replicas,
            model: decided.model.clone().or_else(|| self.held.model.take()),
        };
        decided
    }

    /// The same needs, hour by hour, at one market.
    pub fn run(&mut self, offers: &[(&str, f64)], needs: impl IntoIterator<Item = f64>) {
        for replicas in needs {
            self.step(&market(self.seen.len(), offers), need(replicas));
        }
    }

    /// What is learned from the observed steps, from nothing.
    pub fn relearned(&self) -> Learned {
        let mut learned = Learned::default();
        for step in &self.seen {
            learned.observe(&self.terms, &self.parameters, step);
        }
        learned
    }
}

//! What a step costs: rent for the replicas, and the price of the work that is beyond them.

use super::Learned;
use super::terms::{HourTokens, SplitTerms, StepMarket, TokenPrice};
use crate::snapshot::Egress;

/// Rents that an hour's missing replica costs where the work has to wait: nowhere else is it served.
const WAITING_RENTS: f64 = 10.0;

/// More dollars an hour than anything costs, and more hours than anything takes: keeps sums of costs finite whatever the price.
const MOST: f64 = 1e12;

/// Tokens that make up the work of one replica for one hour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct TokensPerNeed {
    input: f64,
    output: f64,
}

impl TokensPerNeed {
    /// The mix of these tokens; `None` where they are no work.
    pub(super) fn of(terms: &SplitTerms, tokens: HourTokens) -> Option<Self> {
        let (input, output) = (tokens.input.get(), tokens.output.get());
        let need = terms.capacity.replicas_for(input, output);
        (need > 0.0).then(|| Self {
            input: input / need,
            output: output / need,
        })
    }

    pub(super) fn from_sums(input: f64, output: f64, need: f64) -> Option<Self> {
        (need > 0.0).then(|| Self {
            input: input / need,
            output: output / need,
        })
    }

    /// Dollars for a replica-hour of work at this price.
    fn at(self, price: &TokenPrice) -> f64 {
        let usd = (self.input * price.input.get() + self.output * price.output.get()) / 1e6;
        usd.min(MOST)
    }
}

/// Dollars for a replica-hour of work that no replica serves.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct PricePerNeed(pub(super) f64);

impl PricePerNeed {
    /// At the price of `model`, or that of waiting where it is `None`.
    pub(super) fn of(
        terms: &SplitTerms,
        learned: &Learned,
        market: &StepMarket,
        model: Option<&str>,
    ) -> Self {
        let price = model
            .filter(|_| terms.egress == Egress::Allowed)
            .and_then(|name| market.offers.get(name));
        match (price, learned.tokens_per_need(terms)) {
            (Some(price), Some(mix)) => Self(mix.at(price)),
            // Neither declared nor observed work: nothing overflows.
            (Some(_), None) => Self(0.0),
            (None, _) => Self(WAITING_RENTS * rent(market)),
        }
    }
}

/// Dollars for an hour of a replica.
fn rent(market: &StepMarket) -> f64 {
    market.replica_usd_per_hour.get().min(MOST)
}

/// Cost of an hour of a step, on average, by replicas and mean need.
#[derive(Debug, Clone)]
pub(super) struct StepCost {
    /// Need of each hour as a share of the mean.
    shape: Vec<f64>,
    /// Dollars for an hour of a replica.
    pub(super) rent: f64,
    /// Dollars for adding a replica, spread over the hours of the step.
    pub(super) entry: f64,
    /// Dollars for a replica-hour of work beyond the replicas.
    pub(super) overflow: f64,
    /// Most replicas that can be held.
    pub(super) most: u32,
}

impl StepCost {
    pub(super) fn new(
        terms: &SplitTerms,
        market: &StepMarket,
        shape: Vec<f64>,
        overflow: PricePerNeed,
    ) -> Self {
        let rent = rent(market);
        Self {
            shape,
            rent,
            entry: terms.warm_hours.get().min(MOST) * rent / f64::from(market.hours.get()),
            overflow: overflow.0,
            most: terms.max_replicas,
        }
    }

    pub(super) fn with_overflow(&self, overflow: PricePerNeed) -> Self {
        Self {
            overflow: overflow.0,
            ..self.clone()
        }
    }

    /// Share of an hour that a replica beyond `replicas` others works, on average over the step.
    pub(super) fn fill(&self, need: f64, replicas: u32) -> f64 {
        let below = f64::from(replicas);
        let filled = |share: &f64| (need * share - below).clamp(0.0, 1.0);
        self.shape.iter().map(filled).sum::<f64>() / self.shape.len() as f64
    }

    /// Replicas that would have been best for this need, the cost of adding them aside. Each further replica is worth less.
    pub(super) fn best(&self, need: f64) -> u32 {
        let pays = |replicas: &u32| self.overflow * self.fill(need, *replicas) > self.rent;
        (0..self.most).take_while(pays).count() as u32
    }

    /// Dollars for an hour, on average over the step.
    pub(super) fn at(&self, need: f64, replicas: u32) -> f64 {
        let held = f64::from(replicas);
        let beyond = |share: &f64| (need * share - held).max(0.0);
        let beyond = self.shape.iter().map(beyond).sum::<f64>() / self.shape.len() as f64;
        self.rent * held + self.overflow * beyond
    }

    /// Dollars for an hour with the replicas that are best for it.
    pub(super) fn least(&self, need: f64) -> f64 {
        self.at(need, self.best(need))
    }
}

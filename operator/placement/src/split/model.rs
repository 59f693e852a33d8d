//! Which cloud model the overflow goes to. Chosen for what a split *with* it costs: where replicas serve the load, a
//! cheaper model saves nothing.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Split;
use super::cost::{PricePerNeed, StepCost};
use super::learned::Learned;
use super::parameters::SplitParameters;
use super::terms::{SplitTerms, StepMarket};
use crate::snapshot::Egress;

/// What other models would have saved since the model in use was chosen.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Forgone {
    /// The model in use.
    against: Option<String>,
    /// Dollars, by model. Never below zero: a model that was dearer for long starts anew when it gets cheaper.
    usd: BTreeMap<String, f64>,
}

impl Forgone {
    /// Adds what each offered model would have saved in a step of this need. A model that is not offered is forgotten.
    pub(super) fn observe(
        &mut self,
        terms: &SplitTerms,
        learned: &Learned,
        market: &StepMarket,
        (model, need): (&str, f64),
    ) {
        if self.against.as_deref() != Some(model) {
            *self = Self {
                against: Some(model.to_owned()),
                usd: BTreeMap::new(),
            };
        }
        let hours = f64::from(market.hours.get());
        let cost = StepCost::new(
            terms,
            market,
            learned.shape(market.hours),
            PricePerNeed::of(terms, learned, market, Some(model)),
        );
        let paid = cost.least(need);
        let saved = |name: &String| {
            let price = PricePerNeed::of(terms, learned, market, Some(name));
            let before = self.usd.get(name).copied().unwrap_or(0.0);
            let saving = hours * (paid - cost.with_overflow(price).least(need));
            (before + saving).max(0.0)
        };
        let others = market.offers.keys().filter(|name| *name != model);
        self.usd = others.map(|name| (name.clone(), saved(name))).collect();
    }

    fn usd(&self, model: &str, instead_of: &str) -> f64 {
        if self.against.as_deref() != Some(instead_of) {
            return 0.0;
        }
        self.usd.get(model).copied().unwrap_or(0.0)
    }
}

/// The model for the step. The first one, and one after a withdrawal, is the cheapest for the mix of tokens. Another is
/// changed to when the change pays back within the parameters' time at the demand of the last season, and when what it
/// would have saved already equals the fee, as in the ski-rental problem: regret is at most twice the least possible
/// (Karlin et al., Competitive snoopy caching, 1988).
pub(super) fn choose(
    terms: &SplitTerms,
    parameters: &SplitParameters,
    learned: &Learned,
    held: &Split,
    market: &StepMarket,
) -> Option<String> {
    if terms.egress == Egress::Forbidden {
        return None;
    }
    let price = |name: &str| PricePerNeed::of(terms, learned, market, Some(name));
    let held = held
        .model
        .as_ref()
        .filter(|name| market.offers.contains_key(*name));
    let Some(held) = held else {
        let cheaper = |a: &&String, b: &&String| ascending(price(a).0, price(b).0);
        return market.offers.keys().min_by(cheaper).cloned();
    };
    let fee = terms.qualification_usd.get();
    let cost = StepCost::new(terms, market, learned.shape(market.hours), price(held));
    let saving = |name: &String| {
        let other = cost.with_overflow(price(name));
        learned.recent_mean(market.hours, |need| cost.least(need) - other.least(need))
    };
    let best = market
        .offers
        .keys()
        .filter(|name| *name != held && learned.forgone().usd(name, held) >= fee)
        .filter_map(|name| Some((name, saving(name)?)))
        .filter(|(_, saving)| *saving > 0.0 && saving * parameters.payback_hours.get() >= fee)
        .max_by(|a, b| ascending(a.1, b.1).then_with(|| b.0.cmp(a.0)));
    Some(best.map_or(held, |(name, _)| name).clone())
}

fn ascending(a: f64, b: f64) -> Ordering {
    a.total_cmp(&b)
}

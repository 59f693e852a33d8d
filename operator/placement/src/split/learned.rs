//! What is learned of a workload from the steps that are over: a value, keyed by the time of observation, of bounded size.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::cost::{PricePerNeed, StepCost, TokensPerNeed};
use super::forecast::{FORECASTERS, Forecasts};
use super::history::{History, Slot};
use super::model::Forgone;
use super::parameters::SplitParameters;
use super::regression::Regression;
use super::terms::{ObservedStep, SplitTerms, StepHours, StepMarket};
use crate::quantity::NonNegative;

/// Share of the memory of a step's shape that is left after one step.
const SHAPE_RETENTION: f64 = 0.7;

/// What is learned of a workload. Observing a step twice changes nothing the second time, and observing the recorded steps
/// anew, in order, gives the same value: it can be kept, or learned again from history.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Learned {
    /// End of the newest step that was observed.
    observed_until: Option<Timestamp>,
    history: History,
    losses: [f64; FORECASTERS],
    regression: Regression,
    mix: Mix,
    /// Faded sum of the needs of each hour of a step; empty for steps of an hour.
    hours: Vec<f64>,
    forgone: Forgone,
}

/// Faded sums of tokens and of the need that they made.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Mix {
    input: f64,
    output: f64,
    need: f64,
}

impl Learned {
    /// Learns from a step that is over. Steps come in order; one that began before the end of the newest is known already
    /// and ignored, and so is one whose demand is not known for each of its hours.
    pub fn observe(
        &mut self,
        terms: &SplitTerms,
        parameters: &SplitParameters,
        step: &ObservedStep,
    ) {
        let market = &step.market;
        let known = step.demand.len() == market.hours.get() as usize;
        let seen = self.observed_until.is_some_and(|end| market.time < end);
        if !known || seen {
            return;
        }
        self.history.skip(self.unobserved_steps(market));
        let needs: Vec<f64> = step
            .demand
            .iter()
            .map(|hour| {
                terms
                    .capacity
                    .replicas_for(hour.input.get(), hour.output.get())
            })
            .collect();
        let need = needs.iter().sum::<f64>() / needs.len() as f64;
        self.remember_mix(parameters, step, need);
        self.charge_forecasts(terms, parameters, step, need);
        if let Some(model) = used(terms, step) {
            let mut forgone = std::mem::take(&mut self.forgone);
            forgone.observe(terms, self, market, (model, need));
            self.forgone = forgone;
        }
        self.remember_hours(&needs);
        self.observed_until = end(market);
    }

    fn remember_mix(&mut self, parameters: &SplitParameters, step: &ObservedStep, need: f64) {
        let fade =
            |sum: f64, new: f64| (sum * parameters.mix_retention.get() + new).min(f64::MAX / 4.0);
        let hours = step.demand.len() as f64;
        let mean = |of: fn(&super::HourTokens) -> NonNegative| {
            step.demand.iter().map(|hour| of(hour).get() / hours).sum()
        };
        self.mix = Mix {
            input: fade(self.mix.input, mean(|hour| hour.input)),
            output: fade(self.mix.output, mean(|hour| hour.output)),
            need: fade(self.mix.need, need),
        };
    }

    /// Weighs the forecasters by what they said of this step, then keeps it.
    fn charge_forecasts(
        &mut self,
        terms: &SplitTerms,
        parameters: &SplitParameters,
        step: &ObservedStep,
        need: f64,
    ) {
        let market = &step.market;
        let forecasts = self.forecasts(parameters, market.hours);
        let forecast = forecasts.combined(&self.losses, parameters.learning_rate.get());
        let price = PricePerNeed::of(terms, self, market, used(terms, step));
        let cost = StepCost::new(terms, market, self.shape(market.hours), price);
        let scale = self
            .recent_mean(market.hours, |need| need)
            .unwrap_or(0.0)
            .max(1.0);
        let least = cost.least(need);
        let loss = |said: f64| {
            let regret = cost.at(need, cost.best(said)) - least;
            let regret = if price.0 > 0.0 { regret / price.0 } else { 0.0 };
            let share = parameters.regret_share.get();
            (share * regret + (1.0 - share) * (said - need).abs()) / scale
        };
        forecasts.charge(&mut self.losses, parameters.loss_retention.get(), loss);
        if let (Some(signals), Some(last)) = (forecasts.signals, self.history.need(1)) {
            self.regression
                .observe(&signals, need - last, parameters.regression_retention.get());
        }
        self.history.push(Some(Slot {
            need: NonNegative::new(need).unwrap_or(NonNegative::ZERO),
            forecast: forecast.and_then(|forecast| NonNegative::new(forecast).ok()),
        }));
    }

    fn remember_hours(&mut self, needs: &[f64]) {
        if needs.len() == 1 {
            self.hours.clear();
            return;
        }
        self.hours.resize(needs.len(), 0.0);
        for (sum, need) in self.hours.iter_mut().zip(needs) {
            *sum = *sum * SHAPE_RETENTION + need;
        }
    }

    pub(super) fn forecast(&self, parameters: &SplitParameters, hours: StepHours) -> Option<f64> {
        self.forecasts(parameters, hours)
            .combined(&self.losses, parameters.learning_rate.get())
    }

    fn forecasts(&self, parameters: &SplitParameters, hours: StepHours) -> Forecasts {
        Forecasts::of(&self.history, &self.regression, hours, parameters)
    }

    pub(super) fn observed_any(&self) -> bool {
        self.observed_until.is_some()
    }

    /// Whole steps between the newest that was observed and `market`.
    pub(super) fn unobserved_steps(&self, market: &StepMarket) -> u64 {
        let Some(until) = self.observed_until else {
            return 0;
        };
        let gap = market.time.as_second().saturating_sub(until.as_second());
        u64::try_from(gap / market.hours.seconds()).unwrap_or(0)
    }

    pub(super) fn history(&self) -> &History {
        &self.history
    }

    pub(super) fn forgone(&self) -> &Forgone {
        &self.forgone
    }

    /// Need of each hour of a step as a share of the step's mean; flat until known.
    pub(super) fn shape(&self, hours: StepHours) -> Vec<f64> {
        let mean = self.hours.iter().sum::<f64>() / self.hours.len().max(1) as f64;
        if self.hours.len() == hours.get() as usize && mean > 0.0 {
            self.hours.iter().map(|need| need / mean).collect()
        } else {
            vec![1.0]
        }
    }

    /// Tokens of a replica-hour of work: as observed, or as declared where there was no work yet.
    pub(super) fn tokens_per_need(&self, terms: &SplitTerms) -> Option<TokensPerNeed> {
        let Mix {
            input,
            output,
            need,
        } = self.mix;
        TokensPerNeed::from_sums(input, output, need)
            .or_else(|| TokensPerNeed::of(terms, terms.declared.mean_hour()))
    }

    /// Mean of `of` the needs of the last season; `None` where none of its steps is known.
    pub(super) fn recent_mean(&self, hours: StepHours, of: impl Fn(f64) -> f64) -> Option<f64> {
        let (count, sum) = self
            .history
            .newest(hours.season())
            .fold((0_u32, 0.0), |(count, sum), (_, slot)| {
                (count + 1, sum + of(slot.need.get()))
            });
        (count > 0).then(|| sum / f64::from(count))
    }
}

/// The model that was used in a step.
fn used<'a>(terms: &SplitTerms, step: &'a ObservedStep) -> Option<&'a str> {
    step.held.model.as_deref().filter(|name| {
        terms.egress == crate::Egress::Allowed && step.market.offers.contains_key(*name)
    })
}

/// When a step ends; `None` at the end of time.
fn end(market: &StepMarket) -> Option<Timestamp> {
    Timestamp::from_second(
        market
            .time
            .as_second()
            .checked_add(market.hours.seconds())?,
    )
    .ok()
}

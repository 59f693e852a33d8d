//! The distribution of the next step's mean need: the forecast plus what past forecasts were off by.

use super::Learned;
use super::history::Slot;
use super::parameters::SplitParameters;
use super::terms::{SplitTerms, StepMarket};

/// Past residuals that are looked at: three days of hours. Older ones weigh next to nothing.
const MOST_RESIDUALS: usize = 72;

/// What is known of the next step's demand.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outlook {
    /// The step before was not observed.
    Unknown,
    /// A distribution.
    Demand(Distribution),
}

/// Mean needs and their probabilities, which sum to 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Distribution {
    points: Vec<(f64, f64)>,
}

impl Outlook {
    pub(super) fn of(
        terms: &SplitTerms,
        parameters: &SplitParameters,
        learned: &Learned,
        market: &StepMarket,
    ) -> Self {
        if !learned.observed_any() {
            let hour = terms.declared.mean_hour();
            let need = terms
                .capacity
                .replicas_for(hour.input.get(), hour.output.get());
            return Self::Demand(Distribution::point(need));
        }
        if learned.unobserved_steps(market) > 0 {
            return Self::Unknown;
        }
        match learned.forecast(parameters, market.hours) {
            Some(forecast) => Self::Demand(Distribution::around(
                forecast,
                learned,
                parameters,
                market.hours.season(),
            )),
            None => Self::Unknown,
        }
    }
}

impl Distribution {
    fn point(need: f64) -> Self {
        Self {
            points: vec![(need, 1.0)],
        }
    }

    fn around(
        forecast: f64,
        learned: &Learned,
        parameters: &SplitParameters,
        season: usize,
    ) -> Self {
        let width = parameters.level_bandwidth.get() * (forecast + parameters.level_floor.get());
        let width = width.max(f64::MIN_POSITIVE);
        let weigh = |(ago, slot): (usize, Slot)| {
            let said = slot.forecast?.get();
            let age = parameters.residual_retention.get().powi(ago as i32 - 1);
            let distance = (said - forecast).abs() / width;
            let alike = (-distance - parameters.phase_decay.get() * phase(ago, season)).exp();
            Some(((forecast + slot.need.get() - said).max(0.0), age * alike))
        };
        let residuals = learned.history().newest(MOST_RESIDUALS).filter_map(weigh);
        let mut points: Vec<(f64, f64)> =
            std::iter::once((forecast, parameters.forecast_weight.get()))
                .chain(residuals)
                .collect();
        let total: f64 = points.iter().map(|(_, weight)| weight).sum();
        if total == 0.0 {
            return Self::point(forecast);
        }
        for (_, weight) in &mut points {
            *weight /= total;
        }
        Self { points }
    }

    /// Expected value of `of` the need.
    pub(super) fn expected(&self, of: impl Fn(f64) -> f64) -> f64 {
        self.points
            .iter()
            .map(|(need, weight)| weight * of(*need))
            .sum()
    }
}

/// How far apart in the season two steps are: 0 at the same time of it, 1 at the opposite one.
fn phase(ago: usize, season: usize) -> f64 {
    let apart = ago % season;
    2.0 * apart.min(season - apart) as f64 / season as f64
}

//! Forecasts of the next step's mean need: several cheap ones, weighted by how well each did lately.
//! (Exponentially weighted average forecaster with discounted losses: Cesa-Bianchi and Lugosi, Prediction, Learning, and
//! Games, 2006, §2.11.)

use super::history::{History, MOST_SLOTS};
use super::parameters::SplitParameters;
use super::regression::{Regression, SIGNALS, Signals};
use super::terms::StepHours;

/// Forecasters, in the order of their losses.
pub(super) const FORECASTERS: usize = 8;

/// Steps of the fast average whose distance is a signal.
const FAST_STEPS: usize = 8;
/// Added to both sides of a ratio of seasons, in replicas, so that next to nothing does not multiply.
const RATIO_FLOOR: f64 = 0.02;
/// Most that a ratio of seasons multiplies by in a step.
const MOST_RATIO: f64 = 10.0;

/// What each forecaster says; `None` where the steps that it needs are unknown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Forecasts {
    values: [Option<f64>; FORECASTERS],
    /// Signals of the regression; known where the last step is.
    pub(super) signals: Option<Signals>,
}

impl Forecasts {
    /// For the step after the newest of `history`.
    pub(super) fn of(
        history: &History,
        regression: &Regression,
        hours: StepHours,
        parameters: &SplitParameters,
    ) -> Self {
        let season = hours.season();
        let last = history.need(1);
        let profile = Profile::of(history, season, parameters.season_retention.get());
        let before = history.need(2).or(last);
        let trend = last
            .zip(before)
            .map(|(last, before)| last + 0.5 * (last - before));
        let day = history.need(season);
        let moved = |from: Option<f64>, to: Option<f64>| Some(last? + to? - from?);
        let week = hours
            .week()
            .and_then(|week| moved(history.need(week + 1), history.need(week)));
        let signals = last.map(|last| signals(history, last, &profile));
        let regressed = signals
            .and_then(|signals| regression.change(&signals, parameters.regression_ridge.get()))
            .and_then(|change| Some(last? + change));
        let values = [
            last,
            trend,
            day,
            moved(history.need(season + 1), day),
            last.and_then(|last| profile.moved(last)),
            last.and_then(|last| profile.scaled(last)),
            regressed,
            week,
        ];
        Self {
            values: values.map(|value| value.map(|value| value.max(0.0))),
            signals,
        }
    }

    /// The weighted average; `None` where nothing can be said.
    pub(super) fn combined(&self, losses: &[f64; FORECASTERS], rate: f64) -> Option<f64> {
        let known = || {
            self.values
                .iter()
                .zip(losses)
                .filter_map(|(value, loss)| Some(((*value)?, *loss)))
        };
        let least = known().map(|(_, loss)| loss).fold(f64::INFINITY, f64::min);
        let weigh = |(value, loss): (f64, f64)| {
            let weight = (-rate * (loss - least)).exp();
            (weight, weight * value)
        };
        let (weight, sum) = known().map(weigh).fold((0.0, 0.0), |total, each| {
            (total.0 + each.0, total.1 + each.1)
        });
        (weight > 0.0).then(|| sum / weight)
    }

    /// The losses after a step: those before, faded, plus what each forecast of it lost. A forecaster that said nothing
    /// loses what the others lost on average, so that it joins as one of them.
    pub(super) fn charge(
        &self,
        losses: &mut [f64; FORECASTERS],
        retention: f64,
        loss: impl Fn(f64) -> f64,
    ) {
        let lost = self.values.map(|value| value.map(&loss));
        let count = lost.iter().flatten().count();
        if count == 0 {
            return;
        }
        let mean = lost.iter().flatten().sum::<f64>() / count as f64;
        for (total, lost) in losses.iter_mut().zip(lost) {
            *total = *total * retention + lost.unwrap_or(mean);
        }
    }
}

/// Averages of the same step of earlier seasons, and of the step before it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Profile {
    now: Option<f64>,
    /// Averages over the same seasons.
    before_and_now: Option<(f64, f64)>,
}

impl Profile {
    fn of(history: &History, season: usize, retention: f64) -> Self {
        let mut weight = 1.0;
        let mut now = (0.0, 0.0);
        let mut pair = (0.0, 0.0, 0.0);
        for ago in (season..=MOST_SLOTS.min(history.len())).step_by(season) {
            if let Some(then) = history.need(ago) {
                now = (now.0 + weight, now.1 + weight * then);
                if let Some(before) = history.need(ago + 1) {
                    pair = (
                        pair.0 + weight,
                        pair.1 + weight * before,
                        pair.2 + weight * then,
                    );
                }
            }
            weight *= retention;
        }
        Self {
            now: (now.0 > 0.0).then(|| now.1 / now.0),
            before_and_now: (pair.0 > 0.0).then(|| (pair.1 / pair.0, pair.2 / pair.0)),
        }
    }

    fn moved(&self, last: f64) -> Option<f64> {
        self.before_and_now.map(|(before, now)| last + now - before)
    }

    fn scaled(&self, last: f64) -> Option<f64> {
        let (before, now) = self.before_and_now?;
        let ratio = (now + RATIO_FLOOR) / (before + RATIO_FLOOR);
        Some(last * ratio.clamp(1.0 / MOST_RATIO, MOST_RATIO))
    }
}

/// What may announce a change: the last change, the season's, and the distances to the profile and to the fast average.
fn signals(history: &History, last: f64, profile: &Profile) -> Signals {
    let distance = |to: Option<f64>| to.map_or(0.0, |to| to - last);
    let signals: [f64; SIGNALS] = [
        history.need(2).map_or(0.0, |before| last - before),
        distance(profile.moved(last)),
        distance(profile.now),
        distance(profile.scaled(last)),
        distance(fast_average(history)),
    ];
    signals
}

/// Average in which each step counts half of the one after it.
fn fast_average(history: &History) -> Option<f64> {
    let halved = |(ago, slot): (usize, super::history::Slot)| {
        let weight = 0.5_f64.powi(ago as i32);
        (weight, weight * slot.need.get())
    };
    let (weight, sum) = history
        .newest(FAST_STEPS)
        .map(halved)
        .fold((0.0, 0.0), |total, each| {
            (total.0 + each.0, total.1 + each.1)
        });
    (weight > 0.0).then(|| sum / weight)
}

//! What recorded hours teach: the steps that they make, as if each had just ended.

use jiff::Timestamp;

use super::terms::{HourTokens, ObservedStep, StepHours, StepMarket};
use super::{Learned, Split, SplitParameters, SplitTerms};
use crate::hours::{Hour, HourHistory, HourSums};
use crate::quantity::NonNegative;

impl HourHistory {
    /// The steps of so many hours whose every hour is known, oldest first. Steps begin at multiples of their length.
    ///
    /// `of` gives what hours do not hold: the market of a step and what was held for it; `None` leaves the step out.
    pub fn steps(
        &self,
        hours: StepHours,
        of: impl Fn(Timestamp) -> Option<(StepMarket, Split)>,
    ) -> Vec<ObservedStep> {
        let length = i64::from(hours.get());
        let begins = self
            .iter()
            .map(|(hour, _)| hour)
            .filter(|hour| hour.number().rem_euclid(length) == 0);
        let step = |begin: Hour| {
            let known = (0..length).map(|ahead| self.get(begin.plus(ahead)).map(tokens));
            let demand = known.collect::<Option<Vec<HourTokens>>>()?;
            let (market, held) = of(begin.start())?;
            Some(ObservedStep {
                market,
                held,
                demand,
            })
        };
        begins.filter_map(step).collect()
    }
}

impl Learned {
    /// What these steps teach from nothing: the same as observing each when it ended.
    pub fn from_steps(
        terms: &SplitTerms,
        parameters: &SplitParameters,
        steps: &[ObservedStep],
    ) -> Self {
        let mut learned = Self::default();
        for step in steps {
            learned.observe(terms, parameters, step);
        }
        learned
    }
}

fn tokens(sums: &HourSums) -> HourTokens {
    let amount = |tokens: u64| NonNegative::new(tokens as f64).unwrap_or(NonNegative::ZERO);
    HourTokens {
        input: amount(sums.input_tokens),
        output: amount(sums.output_tokens),
    }
}

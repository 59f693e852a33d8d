//! Everything that is counted for one workload.

use crate::metering::counters::Counters;
use crate::metering::minutes::MinuteRing;
use crate::metering::outcome::Observation;
use crate::metering::served::ServedBy;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Steps whose counters are kept for each target; the operator has read older ones long ago.
pub(crate) const STEPS_KEPT: usize = 16;

/// Everything that is counted for a workload.
#[derive(Clone, Debug, Default)]
pub struct Metering {
    /// By target and step.
    pub by_step: BTreeMap<(Arc<str>, i64), Counters>,
    /// Answers by what served them, for metrics.
    pub(crate) served: ServedBy,
    /// The last minutes.
    pub minutes: MinuteRing,
}

impl Metering {
    /// A client sent a request.
    pub(crate) fn record_request(&mut self, minute: u64) {
        self.minutes.record_request(minute);
    }

    /// A request was sent to a target.
    pub(crate) fn record_start(&mut self, target: &Arc<str>, step: i64) {
        self.counters(target, step).in_flight += 1;
    }

    /// A request that was sent is over.
    pub(crate) fn record_end(
        &mut self,
        target: &Arc<str>,
        step: i64,
        observation: &Observation,
        minute: u64,
    ) {
        let counters = self.counters(target, step);
        counters.in_flight = counters.in_flight.saturating_sub(1);
        counters.add(observation);
        self.served.add(observation);
        self.minutes.add(minute, observation);
    }

    /// Requests that have no end yet.
    pub(crate) fn in_flight(&self) -> u64 {
        self.by_step
            .values()
            .map(|counters| counters.in_flight)
            .sum()
    }

    fn counters(&mut self, target: &Arc<str>, step: i64) -> &mut Counters {
        let key = (Arc::clone(target), step);
        if !self.by_step.contains_key(&key) {
            let of_target = (Arc::clone(target), i64::MIN)..=(Arc::clone(target), i64::MAX);
            let known = self.by_step.range(of_target.clone()).count();
            let oldest = self
                .by_step
                .range(of_target)
                .find(|(_, counters)| counters.in_flight == 0);
            if known >= STEPS_KEPT
                && let Some(oldest) = oldest.map(|(key, _)| key.clone())
            {
                self.by_step.remove(&oldest);
            }
        }
        self.by_step.entry(key).or_default()
    }
}

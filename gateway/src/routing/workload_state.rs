//! What outlives a table of one workload: its rotation, its counters, its targets.

use crate::lock::lock;
use crate::metering::outcome::Observation;
use crate::metering::workload::Metering;
use crate::routing::swrr::Rotation;
use crate::routing::target_state::TargetState;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Counters and rotation of one workload, by UID.
#[derive(Debug, Default)]
pub struct WorkloadState {
    rotation: Mutex<Rotation>,
    targets: Mutex<BTreeMap<Arc<str>, Arc<TargetState>>>,
    metering: Mutex<Metering>,
    changed: AtomicU64,
    woken: Mutex<Option<Instant>>,
}

impl WorkloadState {
    /// The index of the target whose turn it is.
    pub(crate) fn pick(&self, weights: impl Iterator<Item = u32> + Clone) -> Option<usize> {
        lock(&self.rotation).pick(weights)
    }

    /// The standing of a target by name; the same one for the workload's life.
    pub fn target(&self, name: &str) -> Arc<TargetState> {
        let mut targets = lock(&self.targets);
        if let Some(state) = targets.get(name) {
            return Arc::clone(state);
        }
        let state = Arc::new(TargetState::default());
        targets.insert(name.into(), Arc::clone(&state));
        state
    }

    /// A client sent a request.
    pub(crate) fn record_request(&self, minute: u64) {
        lock(&self.metering).record_request(minute);
    }

    /// A request was sent to a target.
    pub fn record_start(&self, target: &Arc<str>, step: i64) {
        lock(&self.metering).record_start(target, step);
        self.changed.fetch_add(1, Ordering::Relaxed);
    }

    /// A request that was sent is over.
    pub(crate) fn record_end(
        &self,
        target: &Arc<str>,
        step: i64,
        observation: &Observation,
        minute: u64,
    ) {
        lock(&self.metering).record_end(target, step, observation, minute);
        self.changed.fetch_add(1, Ordering::Relaxed);
    }

    /// A copy of everything that is counted.
    pub fn metering(&self) -> Metering {
        lock(&self.metering).clone()
    }

    /// How often something was counted; another value than before means that there is news.
    pub(crate) fn changed(&self) -> u64 {
        self.changed.load(Ordering::Relaxed)
    }

    /// Whether a wake-up may be reported now: at most one in a second.
    pub(crate) fn may_wake(&self, now: Instant) -> bool {
        let mut woken = lock(&self.woken);
        if woken.is_some_and(|last| now.duration_since(last) < Duration::from_secs(1)) {
            return false;
        }
        *woken = Some(now);
        true
    }

    /// Requests that have no end yet.
    pub(crate) fn in_flight(&self) -> u64 {
        lock(&self.metering).in_flight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metering::workload::STEPS_KEPT;

    #[test]
    fn counters_of_old_steps_are_dropped_and_of_open_requests_kept() {
        let state = WorkloadState::default();
        let target: Arc<str> = "a".into();
        state.record_start(&target, 0);
        for step in 1..100 {
            state.record_start(&target, step);
            state.record_end(&target, step, &Observation::default(), 0);
        }
        let metering = state.metering();
        assert_eq!(metering.by_step.len(), STEPS_KEPT);
        assert!(
            metering.by_step.contains_key(&(Arc::clone(&target), 0)),
            "its request is still open"
        );
        assert!(metering.by_step.contains_key(&(target, 99)));
        assert_eq!(state.in_flight(), 1);
    }
}

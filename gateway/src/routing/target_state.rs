//! What outlives a table of one target: whether it is left out, how long it lets wait, its engines.

use crate::lock::lock;
use crate::policy::FailoverPolicy;
use crate::routing::choose::Standing;
use crate::routing::engines::{Engines, KnownEngines};
use crate::upstream::breaker::{Breaker, Circuit};
use crate::upstream::place::Location;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A hint of the engine about its queue is believed for this long.
const HINT_LIFE: Duration = Duration::from_secs(5);
/// A target that has not answered yet is tried again after this time.
const STARTING_EJECTION: Duration = Duration::from_secs(1);

/// The standing of one target of one workload.
#[derive(Debug, Default)]
pub struct TargetState {
    breaker: Mutex<Breaker>,
    latency: Mutex<Latency>,
    engines: Mutex<KnownEngines>,
    in_flight: AtomicU64,
    answered: AtomicBool,
}

#[derive(Debug, Default)]
struct Latency {
    hint: Option<(Duration, Instant)>,
    mean: Option<(Duration, Instant)>,
    least: Option<Duration>,
}

impl TargetState {
    /// What a choice sees of the target.
    pub(crate) fn standing(&self, location: Location, asleep: bool, now: Instant) -> Standing {
        let ejected = match lock(&self.breaker).circuit(now) {
            Circuit::Open(until) => Some(until),
            Circuit::Closed | Circuit::HalfOpen => None,
        };
        Standing {
            location,
            asleep: asleep && location == Location::Local,
            untried: location == Location::Local && !self.has_answered(),
            ejected,
            queue_wait: (location == Location::Local)
                .then(|| self.queue_wait(now))
                .flatten(),
        }
    }

    /// The engines of a local target at these addresses. With the first one the target is tried at once, whatever was
    /// held against it while it had none.
    pub fn engines_at(&self, addresses: &[SocketAddr]) -> Engines {
        let mut known = lock(&self.engines);
        if known.is_empty() && !addresses.is_empty() {
            *lock(&self.breaker) = Breaker::default();
        }
        known.at(addresses)
    }

    /// Whether the target has answered since it was last asleep.
    pub(crate) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// The target was put to sleep: its next failure to connect is a cold start.
    pub(crate) fn record_sleep(&self) {
        self.answered.store(false, Ordering::Relaxed);
        *lock(&self.breaker) = Breaker::default();
        *lock(&self.latency) = Latency::default();
    }

    /// A request is about to be sent.
    pub fn record_start(&self, now: Instant) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        lock(&self.breaker).record_start(now);
    }

    /// A request that was sent is over.
    pub(crate) fn record_end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// The target answered; `ttft` where it was a stream.
    pub fn record_success(&self, ttft: Option<Duration>, now: Instant) {
        self.answered.store(true, Ordering::Relaxed);
        lock(&self.breaker).record_success();
        let Some(sample) = ttft else { return };
        let mut latency = lock(&self.latency);
        // The floor rises by two percent with each sample, so that an old one is forgotten.
        latency.least = Some(
            latency
                .least
                .map_or(sample, |least| (least + least / 50).min(sample)),
        );
        let mean = latency
            .mean
            .map_or(sample, |(mean, _)| (mean * 7 + sample * 3) / 10);
        latency.mean = Some((mean, now));
    }

    /// The target failed; true when it is left out from now on. A local target that is starting is left out for a
    /// moment only.
    pub fn record_failure(
        &self,
        location: Location,
        policy: &FailoverPolicy,
        now: Instant,
    ) -> bool {
        let starting = location == Location::Local && !self.has_answered();
        let (limit, eject_for) = if starting {
            (1, policy.eject_for.min(STARTING_EJECTION))
        } else {
            (policy.consecutive_failures, policy.eject_for)
        };
        lock(&self.breaker).record_failure(now, limit, eject_for)
    }

    /// The client left before the target had answered.
    pub(crate) fn record_abandonment(&self) {
        lock(&self.breaker).record_abandonment();
    }

    /// The engine said how long its queue is.
    pub(crate) fn record_queue_wait(&self, wait: Duration, now: Instant) {
        lock(&self.latency).hint = Some((wait, now));
    }

    /// How long a request would wait: what the engine last said, else how far the time to the first token is above its
    /// floor. Unknown without a recent sample; nothing when nothing is in flight.
    fn queue_wait(&self, now: Instant) -> Option<Duration> {
        if self.in_flight.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let latency = lock(&self.latency);
        if let Some((wait, at)) = latency.hint
            && now.duration_since(at) < HINT_LIFE
        {
            return Some(wait);
        }
        let (mean, at) = latency.mean?;
        (now.duration_since(at) < HINT_LIFE)
            .then(|| mean.saturating_sub(latency.least.unwrap_or(mean)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::TrafficPolicy;

    #[test]
    fn the_wait_is_what_the_engine_says_while_that_is_fresh() {
        let now = Instant::now();
        let state = TargetState::default();
        state.record_queue_wait(Duration::from_millis(900), now);
        assert_eq!(
            state.queue_wait(now),
            None,
            "nothing waits where nothing is in flight"
        );
        state.record_start(now);
        assert_eq!(state.queue_wait(now), Some(Duration::from_millis(900)));
        assert_eq!(state.queue_wait(now + HINT_LIFE), None);
    }

    #[test]
    fn a_time_to_first_token_above_its_floor_is_a_wait() {
        let now = Instant::now();
        let state = TargetState::default();
        state.record_start(now);
        state.record_success(Some(Duration::from_millis(100)), now);
        assert_eq!(state.queue_wait(now), Some(Duration::ZERO));
        for _ in 0..20 {
            state.record_success(Some(Duration::from_millis(1100)), now);
        }
        assert!(
            state
                .queue_wait(now)
                .is_some_and(|wait| wait > Duration::from_millis(800))
        );
    }

    #[test]
    fn a_target_that_failed_without_an_engine_is_tried_as_soon_as_it_has_one() {
        let now = Instant::now();
        let state = TargetState::default();
        state.engines_at(&[]);
        let policy = FailoverPolicy {
            consecutive_failures: 1,
            ..TrafficPolicy::default().failover
        };
        let ejected = || {
            state
                .standing(Location::Local, false, now)
                .ejected
                .is_some()
        };
        assert!(state.record_failure(Location::Local, &policy, now) && ejected());
        state.engines_at(&[([10, 0, 0, 1], 8000).into()]);
        assert!(!ejected());
        state.record_failure(Location::Local, &policy, now);
        state.engines_at(&[([10, 0, 0, 1], 8000).into(), ([10, 0, 0, 2], 8000).into()]);
        assert!(ejected(), "one more engine is no reason to try again");
    }
}

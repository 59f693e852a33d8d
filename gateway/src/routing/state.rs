//! What outlives a table: counters of a workload, and the standing of its targets.

use crate::lock::lock;
use crate::metering::{Counters, MinuteRing, Observation, ServedBy};
use crate::policy::FailoverPolicy;
use crate::routing::choose::Standing;
use crate::routing::engines::{Engines, Known};
use crate::routing::swrr::Rotation;
use crate::upstream::breaker::{Breaker, Circuit};
use crate::upstream::place::Location;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Steps whose counters are kept for each target; the operator has read older ones long ago.
const STEPS_KEPT: usize = 16;
/// A hint of the engine about its queue is believed for this long.
const HINT_LIFE: Duration = Duration::from_secs(5);
/// A target that has not answered yet is tried again after this time.
const STARTING_EJECTION: Duration = Duration::from_secs(1);

/// Counters and rotation of one workload, by UID.
#[derive(Debug, Default)]
pub struct WorkloadState {
    rotation: Mutex<Rotation>,
    targets: Mutex<BTreeMap<Arc<str>, Arc<TargetState>>>,
    books: Mutex<Books>,
    changed: AtomicU64,
    woken: Mutex<Option<Instant>>,
}

/// Everything that is counted for a workload.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// By target and step.
    pub by_step: BTreeMap<(Arc<str>, i64), Counters>,
    /// Answers by what served them, for metrics.
    pub served: ServedBy,
    /// The last minutes.
    pub minutes: MinuteRing,
}

impl WorkloadState {
    /// The index of the target whose turn it is.
    pub fn pick(&self, weights: impl Iterator<Item = u32> + Clone) -> Option<usize> {
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

    /// A client asked for something.
    pub fn asked(&self, minute: u64) {
        lock(&self.books).minutes.asked(minute);
    }

    /// A request was sent to a target.
    pub fn began(&self, target: &Arc<str>, step: i64) {
        let mut books = lock(&self.books);
        books.counters(target, step).in_flight += 1;
        drop(books);
        self.changed.fetch_add(1, Ordering::Relaxed);
    }

    /// A request that was sent is over.
    pub fn ended(&self, target: &Arc<str>, step: i64, observation: &Observation, minute: u64) {
        let mut books = lock(&self.books);
        let counters = books.counters(target, step);
        counters.in_flight = counters.in_flight.saturating_sub(1);
        counters.add(observation);
        books.served.add(observation);
        books.minutes.add(minute, observation);
        drop(books);
        self.changed.fetch_add(1, Ordering::Relaxed);
    }

    /// A copy of everything that is counted.
    pub fn books(&self) -> Books {
        lock(&self.books).clone()
    }

    /// How often something was counted; another value than before means that there is news.
    pub fn changed(&self) -> u64 {
        self.changed.load(Ordering::Relaxed)
    }

    /// Whether a wake-up may be reported now: at most one in a second.
    pub fn may_wake(&self, now: Instant) -> bool {
        let mut woken = lock(&self.woken);
        if woken.is_some_and(|last| now.duration_since(last) < Duration::from_secs(1)) {
            return false;
        }
        *woken = Some(now);
        true
    }

    /// Requests that have no end yet.
    pub fn in_flight(&self) -> u64 {
        lock(&self.books)
            .by_step
            .values()
            .map(|counters| counters.in_flight)
            .sum()
    }
}

impl Books {
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

/// The standing of one target of one workload.
#[derive(Debug, Default)]
pub struct TargetState {
    breaker: Mutex<Breaker>,
    latency: Mutex<Latency>,
    engines: Mutex<Known>,
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
    pub fn standing(&self, location: Location, asleep: bool, now: Instant) -> Standing {
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
    pub fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// The target was put to sleep: its next failure to connect is a cold start.
    pub fn fell_asleep(&self) {
        self.answered.store(false, Ordering::Relaxed);
        *lock(&self.breaker) = Breaker::default();
        *lock(&self.latency) = Latency::default();
    }

    /// A request is about to be sent.
    pub fn began(&self, now: Instant) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        lock(&self.breaker).begin(now);
    }

    /// A request that was sent is over.
    pub fn ended(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// The target answered; `ttft` where it was a stream.
    pub fn succeeded(&self, ttft: Option<Duration>, now: Instant) {
        self.answered.store(true, Ordering::Relaxed);
        lock(&self.breaker).succeeded();
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
    pub fn failed(&self, location: Location, policy: &FailoverPolicy, now: Instant) -> bool {
        let starting = location == Location::Local && !self.has_answered();
        let (limit, eject_for) = if starting {
            (1, policy.eject_for.min(STARTING_EJECTION))
        } else {
            (policy.consecutive_failures, policy.eject_for)
        };
        lock(&self.breaker).failed(now, limit, eject_for)
    }

    /// The client left before the target had answered.
    pub fn abandoned(&self) {
        lock(&self.breaker).abandoned();
    }

    /// The engine said how long its queue is.
    pub fn hinted(&self, wait: Duration, now: Instant) {
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
        state.hinted(Duration::from_millis(900), now);
        assert_eq!(
            state.queue_wait(now),
            None,
            "nothing waits where nothing is in flight"
        );
        state.began(now);
        assert_eq!(state.queue_wait(now), Some(Duration::from_millis(900)));
        assert_eq!(state.queue_wait(now + HINT_LIFE), None);
    }

    #[test]
    fn a_time_to_first_token_above_its_floor_is_a_wait() {
        let now = Instant::now();
        let state = TargetState::default();
        state.began(now);
        state.succeeded(Some(Duration::from_millis(100)), now);
        assert_eq!(state.queue_wait(now), Some(Duration::ZERO));
        for _ in 0..20 {
            state.succeeded(Some(Duration::from_millis(1100)), now);
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
        assert!(state.failed(Location::Local, &policy, now) && ejected());
        state.engines_at(&[([10, 0, 0, 1], 8000).into()]);
        assert!(!ejected());
        state.failed(Location::Local, &policy, now);
        state.engines_at(&[([10, 0, 0, 1], 8000).into(), ([10, 0, 0, 2], 8000).into()]);
        assert!(ejected(), "one more engine is no reason to try again");
    }

    #[test]
    fn counters_of_old_steps_are_dropped_and_of_open_requests_kept() {
        let state = WorkloadState::default();
        let target: Arc<str> = "a".into();
        state.began(&target, 0);
        for step in 1..100 {
            state.began(&target, step);
            state.ended(&target, step, &Observation::default(), 0);
        }
        let books = state.books();
        assert_eq!(books.by_step.len(), STEPS_KEPT);
        assert!(
            books.by_step.contains_key(&(Arc::clone(&target), 0)),
            "its request is still open"
        );
        assert!(books.by_step.contains_key(&(target, 99)));
        assert_eq!(state.in_flight(), 1);
    }
}

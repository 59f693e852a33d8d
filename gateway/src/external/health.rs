//! What is observed of a provider: its circuit, its time to first token, its errors.

use crate::breaker::{Breaker, Circuit};
use crate::hub::unix_now;
use crate::state::lock;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Failures in a row that open a provider's circuit.
const OPENS_AFTER: u32 = 5;
/// How long an open circuit lets nothing through.
const OPEN_FOR: Duration = Duration::from_secs(15);
/// The errors of this many minutes make the rate.
const RATE_MINUTES: u64 = 5;

/// The health of one provider, seen by this gateway.
#[derive(Debug, Default)]
pub struct ProviderHealth(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    breaker: Breaker,
    ttft_ms: Option<f64>,
    last_contact: Option<i64>,
    last_used: Option<Instant>,
    minutes: VecDeque<(u64, u64, u64)>,
}

/// What is reported.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthReport {
    /// Whether requests are sent.
    pub circuit: CircuitState,
    /// Mean time to first token.
    pub ttft_ms: Option<f64>,
    /// Share of failed requests in the last minutes.
    pub error_percent: Option<f64>,
    /// Unix time of the last answer.
    pub last_contact: Option<i64>,
}

/// A circuit without its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitState {
    /// Requests are sent.
    Closed,
    /// Requests are not sent.
    Open,
    /// One request is sent.
    HalfOpen,
}

impl ProviderHealth {
    /// Until when nothing is sent, if so.
    pub fn open_until(&self, now: Instant) -> Option<Instant> {
        match lock(&self.0).breaker.circuit(now) {
            Circuit::Open(until) => Some(until),
            Circuit::Closed | Circuit::HalfOpen => None,
        }
    }

    /// A request is about to be sent.
    pub fn began(&self, now: Instant) {
        let mut inner = lock(&self.0);
        inner.breaker.begin(now);
        inner.last_used = Some(now);
    }

    /// The provider answered.
    pub fn succeeded(&self, ttft: Option<Duration>) {
        let mut inner = lock(&self.0);
        inner.breaker.succeeded();
        inner.count(false);
        inner.last_contact = i64::try_from(unix_now().as_secs()).ok();
        if let Some(sample) = ttft.map(|ttft| ttft.as_secs_f64() * 1000.0) {
            inner.ttft_ms = Some(
                inner
                    .ttft_ms
                    .map_or(sample, |mean| mean * 0.8 + sample * 0.2),
            );
        }
    }

    /// The provider failed; true when the circuit opens.
    pub fn failed(&self, now: Instant) -> bool {
        let mut inner = lock(&self.0);
        inner.count(true);
        inner.breaker.failed(now, OPENS_AFTER, OPEN_FOR)
    }

    /// The client left before there was an answer.
    pub fn abandoned(&self) {
        lock(&self.0).breaker.abandoned();
    }

    /// Whether nothing was sent for a while.
    pub fn is_idle(&self, now: Instant, idle: Duration) -> bool {
        lock(&self.0)
            .last_used
            .is_none_or(|last| now.duration_since(last) >= idle)
    }

    /// What is reported.
    pub fn report(&self, now: Instant) -> HealthReport {
        let inner = lock(&self.0);
        let since = minute().saturating_sub(RATE_MINUTES);
        let (requests, errors) = inner
            .minutes
            .iter()
            .filter(|(minute, _, _)| *minute > since)
            .fold((0, 0), |(requests, errors), (_, more, failed)| {
                (requests + more, errors + failed)
            });
        HealthReport {
            circuit: match inner.breaker.circuit(now) {
                Circuit::Closed => CircuitState::Closed,
                Circuit::Open(_) => CircuitState::Open,
                Circuit::HalfOpen => CircuitState::HalfOpen,
            },
            ttft_ms: inner.ttft_ms,
            error_percent: (requests > 0).then(|| errors as f64 * 100.0 / requests as f64),
            last_contact: inner.last_contact,
        }
    }
}

impl Inner {
    fn count(&mut self, failed: bool) {
        let minute = minute();
        if self
            .minutes
            .back()
            .is_none_or(|(newest, _, _)| *newest < minute)
        {
            self.minutes.push_back((minute, 0, 0));
            if self.minutes.len() > RATE_MINUTES as usize {
                self.minutes.pop_front();
            }
        }
        if let Some((_, requests, errors)) = self.minutes.back_mut() {
            *requests += 1;
            *errors += u64::from(failed);
        }
    }
}

fn minute() -> u64 {
    unix_now().as_secs() / 60
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circuit_opens_after_failures_in_a_row_and_closes_with_an_answer() {
        let health = ProviderHealth::default();
        let now = Instant::now();
        assert_eq!(
            health.report(now).error_percent,
            None,
            "nothing is known before the first request"
        );
        for _ in 0..OPENS_AFTER {
            health.began(now);
            health.failed(now);
        }
        assert_eq!(health.report(now).circuit, CircuitState::Open);
        assert_eq!(health.report(now).error_percent, Some(100.0));
        let later = now + OPEN_FOR;
        assert_eq!(health.report(later).circuit, CircuitState::HalfOpen);
        health.began(later);
        health.succeeded(Some(Duration::from_millis(40)));
        assert_eq!(health.report(later).circuit, CircuitState::Closed);
        assert_eq!(health.report(later).ttft_ms, Some(40.0));
    }
}

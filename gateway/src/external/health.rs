//! What is observed of a provider: its circuit, its time to first token, its errors.

use super::cause::Cause;
use crate::clock::{unix_minute, unix_now};
use crate::lock::lock;
use crate::upstream::breaker::{Breaker, Circuit};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Failures in a row that open a provider's circuit.
const OPENS_AFTER: u32 = 5;
/// How long an open circuit lets nothing through.
const OPEN_FOR: Duration = Duration::from_secs(15);
/// A provider of which nothing is known yet is asked this often.
const UNKNOWN_PROBED_EVERY: Duration = Duration::from_secs(4);
/// A provider that got no request for this long is asked.
const IDLE: Duration = Duration::from_secs(30);
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
    /// It has answered, so that a closed circuit means something.
    answered: bool,
    /// Why it did not answer last.
    cause: Option<Cause>,
}

/// What is reported.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthReport {
    /// Whether requests are sent; `None` before the first verdict: an answer, or failures in a row.
    pub circuit: Option<CircuitState>,
    /// Why it did not answer last; `None` when it did.
    pub cause: Option<Cause>,
    /// Mean time to first token.
    pub ttft_ms: Option<f64>,
    /// Share of failed requests in the last minutes.
    pub error_percent: Option<f64>,
    /// Unix time of the last answer.
    pub last_contact: Option<i64>,
}

/// A circuit without its times. While one request tries whether a provider is back, it is still open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitState {
    /// Requests are sent.
    Closed,
    /// Requests are not sent.
    Open,
}

impl ProviderHealth {
    /// Until when nothing is sent, if so.
    pub(crate) fn open_until(&self, now: Instant) -> Option<Instant> {
        match lock(&self.0).breaker.circuit(now) {
            Circuit::Open(until) => Some(until),
            Circuit::Closed | Circuit::HalfOpen => None,
        }
    }

    /// A request is about to be sent.
    pub fn record_start(&self, now: Instant) {
        let mut inner = lock(&self.0);
        inner.breaker.record_start(now);
        inner.last_used = Some(now);
    }

    /// The provider answered.
    pub fn record_success(&self, ttft: Option<Duration>) {
        let mut inner = lock(&self.0);
        inner.breaker.record_success();
        inner.answered = true;
        inner.cause = None;
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
    pub fn record_failure(&self, now: Instant) -> bool {
        let mut inner = lock(&self.0);
        inner.count(true);
        inner.breaker.record_failure(now, OPENS_AFTER, OPEN_FOR)
    }

    /// Notes why it did not answer; true when that is news.
    pub fn record_cause(&self, cause: &Cause) -> bool {
        let mut inner = lock(&self.0);
        let news = inner.cause.as_ref() != Some(cause);
        if news {
            inner.cause = Some(cause.clone());
        }
        news
    }

    /// The client left before there was an answer.
    pub(crate) fn record_abandonment(&self) {
        lock(&self.0).breaker.record_abandonment();
    }

    /// Whether it is to be asked: nothing was sent for a while, or nothing is known of it.
    pub fn needs_probe(&self, now: Instant) -> bool {
        let inner = lock(&self.0);
        let pause = match inner.verdict(now) {
            None => UNKNOWN_PROBED_EVERY,
            Some(CircuitState::Open) => OPEN_FOR,
            Some(CircuitState::Closed) => IDLE,
        };
        inner
            .last_used
            .is_none_or(|last| now.duration_since(last) >= pause)
    }

    /// What is reported.
    pub fn report(&self, now: Instant) -> HealthReport {
        let inner = lock(&self.0);
        let since = unix_minute().saturating_sub(RATE_MINUTES);
        let (requests, errors) = inner
            .minutes
            .iter()
            .filter(|(minute, _, _)| *minute > since)
            .fold((0, 0), |(requests, errors), (_, more, failed)| {
                (requests + more, errors + failed)
            });
        HealthReport {
            circuit: inner.verdict(now),
            cause: inner.cause.clone(),
            ttft_ms: inner.ttft_ms,
            error_percent: (requests > 0).then(|| errors as f64 * 100.0 / requests as f64),
            last_contact: inner.last_contact,
        }
    }
}

impl Inner {
    fn verdict(&self, now: Instant) -> Option<CircuitState> {
        match self.breaker.circuit(now) {
            Circuit::Closed => self.answered.then_some(CircuitState::Closed),
            Circuit::Open(_) | Circuit::HalfOpen => Some(CircuitState::Open),
        }
    }

    fn count(&mut self, failed: bool) {
        let minute = unix_minute();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(health: &ProviderHealth, now: Instant) -> Option<CircuitState> {
        health.record_start(now);
        health.record_failure(now);
        health.report(now).circuit
    }

    #[test]
    fn a_circuit_opens_after_failures_in_a_row_and_closes_with_an_answer() {
        let health = ProviderHealth::default();
        let now = Instant::now();
        let nothing = health.report(now);
        assert_eq!((nothing.error_percent, nothing.circuit), (None, None));
        for _ in 1..OPENS_AFTER {
            assert_eq!(fails(&health, now), None, "nothing is certain yet");
        }
        assert_eq!(fails(&health, now), Some(CircuitState::Open));
        assert_eq!(health.report(now).error_percent, Some(100.0));
        let later = now + OPEN_FOR;
        health.record_start(later);
        health.record_success(Some(Duration::from_millis(40)));
        assert_eq!(health.report(later).circuit, Some(CircuitState::Closed));
        assert_eq!(health.report(later).ttft_ms, Some(40.0));
        assert_eq!(fails(&health, later), Some(CircuitState::Closed));
    }

    #[test]
    fn a_provider_that_is_down_stays_open_while_it_is_tried_for_half_an_hour() {
        let health = ProviderHealth::default();
        let start = Instant::now();
        let (mut said, mut tries) = (Vec::new(), 0);
        for second in 0..30 * 60 {
            let now = start + Duration::from_secs(second);
            if health.needs_probe(now) {
                tries += 1;
                fails(&health, now);
            }
            let circuit = health.report(now).circuit;
            if said.last() != Some(&circuit) {
                said.push(circuit);
            }
        }
        assert_eq!(said, [None, Some(CircuitState::Open)]);
        assert!((100..130).contains(&tries), "{tries}");
    }

    #[test]
    fn a_cause_is_news_once_and_an_answer_ends_it() {
        let health = ProviderHealth::default();
        assert!(health.record_cause(&Cause::Refused) && !health.record_cause(&Cause::Refused));
        assert!(health.record_cause(&Cause::Name));
        let report = || health.report(Instant::now()).cause;
        assert_eq!(report(), Some(Cause::Name));
        health.record_success(None);
        assert_eq!(report(), None);
        assert!(health.record_cause(&Cause::Name), "it is news again");
    }

    #[test]
    fn what_is_unknown_is_asked_at_once_and_what_answers_when_it_is_idle() {
        let health = ProviderHealth::default();
        let now = Instant::now();
        assert!(health.needs_probe(now));
        health.record_start(now);
        assert!(!health.needs_probe(now) && health.needs_probe(now + UNKNOWN_PROBED_EVERY));
        health.record_success(None);
        assert!(!health.needs_probe(now + UNKNOWN_PROBED_EVERY) && health.needs_probe(now + IDLE));
    }
}

//! Leaves out a target that fails again and again, and tries it once before it comes back. Time is passed in.

use std::time::{Duration, Instant};

/// Whether a target may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Circuit {
    /// It works.
    Closed,
    /// It is left out until the given time.
    Open(Instant),
    /// One request may try it.
    HalfOpen,
}

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    open_until: Option<Instant>,
    trial_since: Option<Instant>,
}

/// A trial that reports nothing for this long is forgotten, and another one may start.
const TRIAL_LIMIT: Duration = Duration::from_secs(60);

impl Breaker {
    /// The present state.
    pub(crate) fn circuit(&self, now: Instant) -> Circuit {
        match self.open_until {
            None => Circuit::Closed,
            Some(until) if now < until => Circuit::Open(until),
            Some(_) => match self.trial_since {
                Some(since) if now.duration_since(since) < TRIAL_LIMIT => {
                    Circuit::Open(since + TRIAL_LIMIT)
                }
                _ => Circuit::HalfOpen,
            },
        }
    }

    /// A request is about to be sent.
    pub(crate) fn record_start(&mut self, now: Instant) {
        if self.circuit(now) == Circuit::HalfOpen {
            self.trial_since = Some(now);
        }
    }

    /// A request was given up by its client: neither good nor bad.
    pub(crate) fn record_abandonment(&mut self) {
        self.trial_since = None;
    }

    /// A request got its first byte.
    pub(crate) fn record_success(&mut self) {
        *self = Self::default();
    }

    /// A request failed; true when the target is left out from now on.
    pub(crate) fn record_failure(&mut self, now: Instant, limit: u32, eject_for: Duration) -> bool {
        self.failures = self.failures.saturating_add(1);
        let trial_failed = self.trial_since.take().is_some();
        let opens = trial_failed || (self.open_until.is_none() && self.failures >= limit.max(1));
        if opens {
            self.open_until = Some(now + eject_for);
        }
        opens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EJECT: Duration = Duration::from_secs(30);

    #[test]
    fn a_target_is_left_out_after_failures_in_a_row_and_tried_once_before_it_returns() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        assert!(!breaker.record_failure(start, 3, EJECT));
        assert!(!breaker.record_failure(start, 3, EJECT));
        breaker.record_success();
        assert!(!breaker.record_failure(start, 3, EJECT));
        assert!(!breaker.record_failure(start, 3, EJECT));
        assert_eq!(breaker.circuit(start), Circuit::Closed);
        assert!(breaker.record_failure(start, 3, EJECT));
        assert_eq!(breaker.circuit(start), Circuit::Open(start + EJECT));

        let later = start + EJECT;
        assert_eq!(breaker.circuit(later), Circuit::HalfOpen);
        breaker.record_start(later);
        assert!(
            matches!(breaker.circuit(later), Circuit::Open(_)),
            "one trial at a time"
        );
        assert!(breaker.record_failure(later, 3, EJECT));
        assert_eq!(breaker.circuit(later), Circuit::Open(later + EJECT));

        let again = later + EJECT;
        breaker.record_start(again);
        breaker.record_success();
        assert_eq!(breaker.circuit(again), Circuit::Closed);
    }

    #[test]
    fn a_client_that_leaves_does_not_end_a_trial_as_a_failure() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        breaker.record_failure(start, 1, EJECT);
        breaker.record_start(start + EJECT);
        breaker.record_abandonment();
        assert_eq!(breaker.circuit(start + EJECT), Circuit::HalfOpen);
    }
}

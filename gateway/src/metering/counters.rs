//! Cumulative counters of one target at one step of a placement.

use crate::metering::outcome::{Observation, Outcome};
use std::time::Duration;
use weir_proto::TTFT_BOUNDS_MS;

/// Cumulative counters of one target at one step of a placement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests that are over, by [`Outcome`].
    pub(crate) outcomes: [u64; Outcome::ALL.len()],
    /// Requests without an end yet.
    pub in_flight: u64,
    /// Tokens of prompts.
    pub input_tokens: u64,
    /// Of these, tokens that a cache supplied.
    pub cached_input_tokens: u64,
    /// Tokens of answers.
    pub output_tokens: u64,
    /// Requests whose token counts are estimates.
    pub estimated_requests: u64,
    /// Answers by their time to first token, one bucket for each of [`TTFT_BOUNDS_MS`] and one beyond; not cumulative.
    pub ttft_buckets: [u64; TTFT_BOUNDS_MS.len() + 1],
    /// Sum of the times to first token, in milliseconds.
    pub(crate) ttft_sum_ms: u64,
    /// Sum of the requests' durations, in milliseconds.
    pub(crate) duration_sum_ms: u64,
}

impl Counters {
    /// Adds one request.
    pub(crate) fn add(&mut self, observation: &Observation) {
        self.outcomes[observation.outcome as usize] += 1;
        self.input_tokens += observation.input_tokens;
        self.cached_input_tokens += observation.cached_input_tokens;
        self.output_tokens += observation.output_tokens;
        self.estimated_requests += u64::from(observation.estimated);
        self.duration_sum_ms += millis(observation.duration);
        if let Some(ttft) = observation.ttft.map(millis) {
            let bucket = TTFT_BOUNDS_MS.partition_point(|bound| *bound < ttft);
            self.ttft_buckets[bucket] += 1;
            self.ttft_sum_ms += ttft;
        }
    }

    /// Adds other counters, for a sum over steps.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.outcomes.iter_mut().zip(other.outcomes) {
            *mine += theirs;
        }
        for (mine, theirs) in self.ttft_buckets.iter_mut().zip(other.ttft_buckets) {
            *mine += theirs;
        }
        self.in_flight += other.in_flight;
        self.input_tokens += other.input_tokens;
        self.cached_input_tokens += other.cached_input_tokens;
        self.output_tokens += other.output_tokens;
        self.estimated_requests += other.estimated_requests;
        self.ttft_sum_ms += other.ttft_sum_ms;
        self.duration_sum_ms += other.duration_sum_ms;
    }

    /// Requests that are over.
    pub fn requests(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    /// Requests that failed by the target's fault.
    pub fn errors(&self) -> u64 {
        Outcome::ALL
            .iter()
            .filter(|outcome| outcome.is_failure())
            .map(|outcome| self.outcomes[*outcome as usize])
            .sum()
    }

    /// Requests that ended in a certain way.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_first_token_falls_into_its_bucket() {
        let mut counters = Counters::default();
        for ms in [0, 10, 11, 30_000, 30_001] {
            counters.add(&Observation {
                ttft: Some(Duration::from_millis(ms)),
                ..Observation::default()
            });
        }
        assert_eq!((counters.ttft_buckets[0], counters.ttft_buckets[1]), (2, 1));
        assert_eq!(
            (counters.ttft_buckets[13], counters.ttft_buckets[14]),
            (1, 1)
        );
    }

    #[test]
    fn a_client_that_leaves_is_no_error_of_the_target() {
        let mut counters = Counters::default();
        for outcome in Outcome::ALL {
            counters.add(&Observation {
                outcome,
                ..Observation::default()
            });
        }
        assert_eq!((counters.requests(), counters.errors()), (8, 5));
    }
}

//! Counters: what the operator reads as demand, and what `/metrics` shows.

use crate::upstream::place::{Location, Reason};
use std::collections::VecDeque;
use std::time::Duration;

pub use weir_proto::{MINUTES_KEPT, TTFT_BOUNDS_MS};

/// How a request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// An answer of the target's, whole.
    #[default]
    Answered,
    /// The target refused the request (4xx but 429).
    Refused,
    /// The target answered 429.
    TooManyRequests,
    /// The target answered 5xx, or something that is no answer.
    ServerError,
    /// No connection, or one that was lost before the first byte.
    Connect,
    /// No first byte in time.
    Timeout,
    /// The answer broke off after it had begun.
    Interrupted,
    /// The client left.
    Canceled,
}

impl Outcome {
    /// Every outcome, in the order of `self as usize`.
    pub const ALL: [Self; 8] = [
        Self::Answered,
        Self::Refused,
        Self::TooManyRequests,
        Self::ServerError,
        Self::Connect,
        Self::Timeout,
        Self::Interrupted,
        Self::Canceled,
    ];

    /// As metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::TooManyRequests => "429",
            Self::ServerError => "5xx",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Interrupted => "interrupted",
            Self::Canceled => "canceled",
        }
    }

    /// Whether the target is to blame.
    pub fn is_failure(self) -> bool {
        matches!(
            self,
            Self::TooManyRequests
                | Self::ServerError
                | Self::Connect
                | Self::Timeout
                | Self::Interrupted
        )
    }
}

/// What one request to one target came to.
#[derive(Clone, Debug)]
pub struct Observation {
    /// How it ended.
    pub outcome: Outcome,
    /// Where it was.
    pub location: Location,
    /// Why it was there.
    pub reason: Reason,
    /// Status of the target's answer, 0 without one.
    pub status: u16,
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Of these, tokens that a cache supplied.
    pub cached_input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// The token counts are this gateway's estimate.
    pub estimated: bool,
    /// From sending to the first token; only of streams.
    pub ttft: Option<Duration>,
    /// From sending to the end.
    pub duration: Duration,
}

impl Default for Observation {
    fn default() -> Self {
        Self {
            outcome: Outcome::Answered,
            location: Location::Local,
            reason: Reason::Placement,
            status: 0,
            input_tokens: 0,
            cached_input_tokens: 0,
            output_tokens: 0,
            estimated: false,
            ttft: None,
            duration: Duration::ZERO,
        }
    }
}

/// Cumulative counters of one target at one step of a placement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests that are over, by [`Outcome`].
    pub outcomes: [u64; Outcome::ALL.len()],
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
    pub ttft_sum_ms: u64,
    /// Sum of the requests' durations, in milliseconds.
    pub duration_sum_ms: u64,
}

impl Counters {
    /// Adds one request.
    pub fn add(&mut self, observation: &Observation) {
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

/// Answers of a workload by location, reason and class of status; what `/metrics` counts.
#[derive(Clone, Debug, Default)]
pub struct ServedBy {
    counts: [[[u64; 6]; Reason::ALL.len()]; 2],
}

impl ServedBy {
    /// Adds one request.
    pub fn add(&mut self, observation: &Observation) {
        let class = usize::from(observation.status / 100).min(5);
        self.counts[observation.location as usize][observation.reason as usize][class] += 1;
    }

    /// All counts that are not 0; the class is `none` where there was no answer.
    pub fn iter(&self) -> impl Iterator<Item = (Location, Reason, &'static str, u64)> {
        const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
        [Location::Local, Location::External]
            .into_iter()
            .flat_map(move |location| {
                Reason::ALL.into_iter().flat_map(move |reason| {
                    (0..CLASSES.len())
                        .map(move |class| {
                            (
                                location,
                                reason,
                                CLASSES[class],
                                self.counts[location as usize][reason as usize][class],
                            )
                        })
                        .filter(|(_, _, _, count)| *count > 0)
                })
            })
    }
}

/// One minute of a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Minute {
    /// Minutes since the Unix epoch.
    pub minute: u64,
    /// Requests of clients that came in it.
    pub requests: u64,
    /// Tokens of prompts.
    pub input_tokens: u64,
    /// Of these, tokens that a cache supplied.
    pub cached_input_tokens: u64,
    /// Tokens of answers.
    pub output_tokens: u64,
}

/// The last minutes in which something happened, the newest last.
#[derive(Clone, Debug, Default)]
pub struct MinuteRing(VecDeque<Minute>);

impl MinuteRing {
    /// Counts a client's request, however many targets it will be sent to.
    pub fn asked(&mut self, minute: u64) {
        self.newest(minute).requests += 1;
    }

    /// Adds the tokens of a request that ended in a minute.
    pub fn add(&mut self, minute: u64, observation: &Observation) {
        let newest = self.newest(minute);
        newest.input_tokens += observation.input_tokens;
        newest.cached_input_tokens += observation.cached_input_tokens;
        newest.output_tokens += observation.output_tokens;
    }

    /// The row of a minute. A clock that went back gets the newest one.
    fn newest(&mut self, minute: u64) -> &mut Minute {
        if self.0.back().is_none_or(|newest| newest.minute < minute) {
            if self.0.len() == MINUTES_KEPT {
                self.0.pop_front();
            }
            self.0.push_back(Minute {
                minute,
                ..Minute::default()
            });
        }
        let last = self.0.len() - 1;
        &mut self.0[last]
    }

    /// The minutes, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Minute> {
        self.0.iter()
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
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

    #[test]
    fn minutes_are_kept_in_order_and_bounded() {
        let mut ring = MinuteRing::default();
        for minute in 0..100 {
            ring.asked(minute);
            ring.add(
                minute,
                &Observation {
                    input_tokens: 2,
                    ..Observation::default()
                },
            );
        }
        ring.asked(3);
        let minutes: Vec<_> = ring.iter().collect();
        assert_eq!((minutes.len(), minutes[0].minute), (MINUTES_KEPT, 40));
        assert_eq!(
            (
                minutes[59].minute,
                minutes[59].requests,
                minutes[59].input_tokens
            ),
            (99, 2, 2)
        );
    }
}

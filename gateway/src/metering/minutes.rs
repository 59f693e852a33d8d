//! Demand by the minute, as the operator reads it.

use crate::metering::outcome::Observation;
use std::collections::VecDeque;
use weir_proto::MINUTES_KEPT;

/// One minute of a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Minute {
    /// Minutes since the Unix epoch.
    pub(crate) minute: u64,
    /// Requests of clients that came in it.
    pub requests: u64,
    /// Tokens of prompts.
    pub(crate) input_tokens: u64,
    /// Of these, tokens that a cache supplied.
    pub(crate) cached_input_tokens: u64,
    /// Tokens of answers.
    pub(crate) output_tokens: u64,
}

/// The last minutes in which something happened, the newest last.
#[derive(Clone, Debug, Default)]
pub struct MinuteRing(VecDeque<Minute>);

impl MinuteRing {
    /// Counts a client's request, however many targets it will be sent to.
    pub(crate) fn record_request(&mut self, minute: u64) {
        self.newest(minute).requests += 1;
    }

    /// Adds the tokens of a request that ended in a minute.
    pub(crate) fn add(&mut self, minute: u64, observation: &Observation) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_kept_in_order_and_bounded() {
        let mut ring = MinuteRing::default();
        for minute in 0..100 {
            ring.record_request(minute);
            ring.add(
                minute,
                &Observation {
                    input_tokens: 2,
                    ..Observation::default()
                },
            );
        }
        ring.record_request(3);
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

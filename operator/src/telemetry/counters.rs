//! Sums of what gateways counted, over pods and their restarts.

use weir_proto::Counters;

use super::latency::BUCKETS;

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CounterSums {
    /// Requests that were sent to the target.
    pub requests: u64,
    /// Requests that failed for the client or failed over.
    pub errors: u64,
    /// Requests under way.
    pub in_flight: u64,
    /// Tokens of prompts.
    pub input_tokens: u64,
    /// Tokens of prompts that a prompt cache answered.
    pub cached_input_tokens: u64,
    /// Tokens of answers.
    pub output_tokens: u64,
    /// Answers whose tokens were estimated.
    pub estimated: u64,
    /// Streams that ended before they were complete.
    pub cut_streams: u64,
    /// Time to first token: counts by upper bound, the last without bound.
    pub ttft_buckets: [u64; BUCKETS],
}

impl CounterSums {
    /// Share of requests that failed, in hundredths of a percent; `None` without requests.
    pub fn error_basis_points(&self) -> Option<u64> {
        (self.requests > 0).then(|| self.errors.saturating_mul(10_000) / self.requests)
    }

    pub(super) fn add(&mut self, other: &Self) {
        let add = |a: &mut u64, b: u64| *a = a.saturating_add(b);
        add(&mut self.requests, other.requests);
        add(&mut self.errors, other.errors);
        add(&mut self.in_flight, other.in_flight);
        add(&mut self.input_tokens, other.input_tokens);
        add(&mut self.cached_input_tokens, other.cached_input_tokens);
        add(&mut self.output_tokens, other.output_tokens);
        add(&mut self.estimated, other.estimated);
        add(&mut self.cut_streams, other.cut_streams);
        for (a, b) in self.ttft_buckets.iter_mut().zip(other.ttft_buckets) {
            add(a, b);
        }
    }

    /// Whether nothing that only grows is smaller than in `before`.
    pub(super) fn continues(&self, before: &Self) -> bool {
        let monotonic = [
            (self.requests, before.requests),
            (self.errors, before.errors),
            (self.input_tokens, before.input_tokens),
            (self.cached_input_tokens, before.cached_input_tokens),
            (self.output_tokens, before.output_tokens),
            (self.estimated, before.estimated),
            (self.cut_streams, before.cut_streams),
        ];
        monotonic.iter().all(|(now, then)| now >= then)
            && self
                .ttft_buckets
                .iter()
                .zip(before.ttft_buckets)
                .all(|(now, then)| *now >= then)
    }
}

/// The counts of a row; `None` when it has another number of buckets.
pub(super) fn sums_of(row: &Counters) -> Option<CounterSums> {
    let ttft_buckets = match row.ttft_buckets.as_slice() {
        [] => [0; BUCKETS],
        buckets => buckets.try_into().ok()?,
    };
    Some(CounterSums {
        requests: row.requests,
        errors: row.errors,
        in_flight: row.in_flight,
        input_tokens: row.input_tokens,
        cached_input_tokens: row.cached_input_tokens,
        output_tokens: row.output_tokens,
        estimated: row.estimated,
        cut_streams: row.cut_streams,
        ttft_buckets,
    })
}

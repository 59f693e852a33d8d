//! Sums of what gateways counted, over pods and their restarts.

use std::collections::BTreeMap;

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

/// A workload's UID, a target, a step.
pub(super) type RowKey = (String, String, i64);

/// Steps of a target whose counts are kept apart: more than any move has.
const STEPS_APART: usize = 64;

/// Makes one row of the oldest steps of each target, which nothing asks for apart any more: a workload that moves for years has
/// no more rows than one that moves for weeks.
pub(super) fn fold_old_steps(rows: &mut BTreeMap<RowKey, CounterSums>) {
    let mut steps: BTreeMap<(&str, &str), Vec<i64>> = BTreeMap::new();
    for (uid, target, step) in rows.keys() {
        steps.entry((uid, target)).or_default().push(*step);
    }
    let folded: Vec<(RowKey, RowKey)> = steps
        .into_iter()
        .flat_map(|((uid, target), steps)| {
            let row = |step: i64| (uid.to_owned(), target.to_owned(), step);
            let old = steps.len().saturating_sub(STEPS_APART);
            let old = steps[..old].iter();
            old.map(|step| (row(steps[0]), row(*step)))
                .collect::<Vec<_>>()
        })
        .filter(|(into, from)| into != from)
        .collect();
    for (into, from) in folded {
        if let Some(sums) = rows.remove(&from) {
            rows.entry(into).or_default().add(&sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_steps_long_ago_are_one_row_and_lose_nothing() {
        let key = |target: &str, step| ("w".to_owned(), target.to_owned(), step);
        let one = CounterSums {
            requests: 1,
            ..CounterSums::default()
        };
        let mut rows: BTreeMap<RowKey, CounterSums> = BTreeMap::new();
        for step in 1..=200 {
            rows.insert(key("a", step), one.clone());
        }
        rows.insert(key("b", 7), one);
        fold_old_steps(&mut rows);
        fold_old_steps(&mut rows);
        assert_eq!(rows.len(), STEPS_APART + 2);
        assert_eq!(rows[&key("a", 1)].requests, 136);
        assert!(rows.contains_key(&key("a", 137)) && rows.contains_key(&key("b", 7)));
        let all: u64 = rows.values().map(|sums| sums.requests).sum();
        assert_eq!(all, 201);
    }
}

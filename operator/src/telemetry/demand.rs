//! Demand from the minutes that gateways metered.

use std::collections::BTreeMap;

use jiff::Timestamp;
use weir_placement::{DemandFigures, ObservedDemand, Percent, RequestsPerMonth, Seconds, Tokens};
use weir_proto::Minute;

/// Longest time that is looked back.
pub(super) const WINDOW_SECONDS: i64 = 24 * 3600;
/// A month of 730 hours.
const MONTH_SECONDS: u128 = 730 * 3600;
/// Clocks of gateways may be ahead by this much.
const MAX_AHEAD_SECONDS: i64 = 120;

/// What was metered in one minute by one run of a gateway, or by several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MinuteSums {
    pub requests: u64,
    pub input_tokens: u64,
    pub cached_input_tokens: u64,
    pub output_tokens: u64,
}

impl MinuteSums {
    pub fn of(minute: &Minute) -> Self {
        Self {
            requests: minute.requests,
            input_tokens: minute.input_tokens,
            cached_input_tokens: minute.cached_input_tokens,
            output_tokens: minute.output_tokens,
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.cached_input_tokens = self
            .cached_input_tokens
            .saturating_add(other.cached_input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
    }
}

/// Minutes of one workload by their start, in Unix seconds.
pub(super) type Minutes = BTreeMap<i64, MinuteSums>;

/// Whether a minute may be kept: it started on a minute within the window.
pub(super) fn is_plausible(start: i64, now: Timestamp) -> bool {
    let now = now.as_second();
    start % 60 == 0 && start > now - WINDOW_SECONDS && start <= now + MAX_AHEAD_SECONDS
}

pub(super) fn prune(minutes: &mut Minutes, now: Timestamp) {
    *minutes = minutes.split_off(&(now.as_second() - WINDOW_SECONDS));
}

/// Extrapolates what was metered since `first_seen`, or since the first minute that is remembered, to a month.
pub(super) fn observe(minutes: &Minutes, first_seen: Timestamp, now: Timestamp) -> ObservedDemand {
    let mut sum = MinuteSums::default();
    for minute in minutes.values() {
        sum.add(minute);
    }
    let remembered = minutes.keys().next().copied().unwrap_or(i64::MAX);
    let since = first_seen
        .as_second()
        .min(remembered)
        .max(now.as_second() - WINDOW_SECONDS);
    let span = u64::try_from(now.as_second() - since).unwrap_or(0).max(60);
    let requests = u128::from(sum.requests) * MONTH_SECONDS / u128::from(span);
    // Means stand in for medians: gateways keep no distribution of tokens.
    let mean = |tokens: u64| {
        (sum.requests > 0).then(|| Tokens::clamped(u128::from(tokens / sum.requests)))
    };
    let cached = (sum.input_tokens > 0).then(|| {
        Percent::clamped(u128::from(sum.cached_input_tokens) * 100 / u128::from(sum.input_tokens))
    });
    ObservedDemand {
        figures: DemandFigures {
            requests_per_month: Some(RequestsPerMonth::clamped(requests)),
            input_p50: mean(sum.input_tokens),
            output_p50: mean(sum.output_tokens),
            cached_input: cached,
            ..DemandFigures::default()
        },
        span: Seconds::clamped(u128::from(span)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    const NOW: i64 = 1_900_000_020;

    #[test]
    fn an_hour_of_traffic_is_extrapolated_to_a_month() {
        let minute = MinuteSums {
            requests: 10,
            input_tokens: 5000,
            cached_input_tokens: 1250,
            output_tokens: 800,
        };
        let minutes: Minutes = (1..=60).map(|i| (NOW - i * 60, minute)).collect();
        let observed = observe(&minutes, at(NOW - 60), at(NOW));
        assert_eq!(observed.span.get(), 3600);
        let figures = observed.figures;
        assert_eq!(figures.requests_per_month.unwrap().get(), 600 * 730);
        assert_eq!(figures.input_p50.unwrap().get(), 500);
        assert_eq!(figures.output_p50.unwrap().get(), 80);
        assert_eq!(figures.cached_input.unwrap().get(), 25);
    }

    #[test]
    fn no_traffic_over_some_time_is_zero_requests_and_unknown_sizes() {
        let observed = observe(&Minutes::new(), at(NOW - 600), at(NOW));
        assert_eq!(observed.span.get(), 600);
        assert_eq!(observed.figures.requests_per_month.unwrap().get(), 0);
        assert_eq!(observed.figures.input_p50, None);
        assert_eq!(observed.figures.cached_input, None);
    }

    #[test]
    fn minutes_outside_of_a_day_are_not_plausible() {
        let start = NOW - NOW % 60;
        assert!(is_plausible(start, at(NOW)));
        assert!(!is_plausible(start + 1, at(NOW)));
        assert!(!is_plausible(start + 600, at(NOW)));
        assert!(!is_plausible(start - 2 * WINDOW_SECONDS, at(NOW)));
        let mut minutes =
            Minutes::from([(0, MinuteSums::default()), (start, MinuteSums::default())]);
        prune(&mut minutes, at(NOW));
        assert_eq!(minutes.len(), 1);
    }
}

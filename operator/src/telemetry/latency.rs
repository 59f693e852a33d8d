//! Percentiles of the time to first token from histogram buckets.

use weir_placement::Millis;
use weir_proto::TTFT_BOUNDS_MS;

/// Buckets of one histogram: the bounded ones and one without bound.
pub(super) const BUCKETS: usize = TTFT_BOUNDS_MS.len() + 1;

/// Fewer requests say nothing about the slowest twentieth.
const MIN_SAMPLES: u64 = 20;

/// The 95th percentile, interpolated within its bucket as Prometheus does; beyond the last bound it is that bound.
pub(super) fn p95(buckets: &[u64; BUCKETS]) -> Option<Millis> {
    let total: u64 = buckets.iter().sum();
    if total < MIN_SAMPLES {
        return None;
    }
    let rank = total as f64 * 0.95;
    let mut below = 0.0;
    for (i, count) in buckets.iter().enumerate() {
        let upto = below + *count as f64;
        if upto >= rank && *count > 0 {
            let lower = i.checked_sub(1).map_or(0, |before| TTFT_BOUNDS_MS[before]) as f64;
            let Some(upper) = TTFT_BOUNDS_MS.get(i) else {
                return Some(Millis::clamped(lower as u128));
            };
            let within = (rank - below) / *count as f64;
            let value = lower + (*upper as f64 - lower) * within;
            return Some(Millis::clamped(value.round() as u128));
        }
        below = upto;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn buckets(counts: &[(usize, u64)]) -> [u64; BUCKETS] {
        let mut buckets = [0; BUCKETS];
        for (at, count) in counts {
            buckets[*at] = *count;
        }
        buckets
    }

    #[rstest]
    #[case(&[], None)]
    #[case(&[(0, 19)], None)]
    #[case(&[(0, 20)], Some(10))] // 9.5
    #[case(&[(3, 100)], Some(98))] // 50 to 100 ms: 97.5
    #[case(&[(0, 95), (7, 5)], Some(10))]
    #[case(&[(0, 90), (7, 10)], Some(650))] // the middle of 500 to 800 ms
    #[case(&[(14, 50)], Some(30_000))]
    fn the_slowest_twentieth_is_found(
        #[case] counts: &[(usize, u64)],
        #[case] expected: Option<u64>,
    ) {
        assert_eq!(p95(&buckets(counts)).map(Millis::get), expected);
    }
}

//! Which throughput of a model counts, from what engines measured. One bad figure moves nothing: measurements have to agree,
//! and one that is far from what counted so far needs more of them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use weir_crds::model::{HeldThroughput, MeasuredThroughput, ModelProfileStatus};

/// Measurements agree when they differ by no more than this.
const AGREE_PERCENT: f64 = 25.0;
/// A figure is written anew when it differs by more than this.
const REWRITE_PERCENT: f64 = 20.0;
/// Measurements that have to agree before a figure counts.
const CONFIRMED: usize = 2;
/// More than this many times what counted so far, or less than that part of it, is a jump.
const JUMP: f64 = 2.0;
/// Measurements that have to agree on a jump, and for how long it is held at least.
const JUMP_CONFIRMED: usize = 3;
const JUMP_HELD: SignedDuration = SignedDuration::from_mins(2);
/// A figure is kept for this long when no engine backs it, so that a workload which left does not come back for its
/// own figure's absence.
const KEPT: SignedDuration = SignedDuration::from_hours(24);
/// Names of measurements that status keeps of a figure that is held.
const MOST_NAMES: usize = 8;

/// What one engine measured once.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// Tells it from every other one, also of the same engine.
    pub id: String,
    /// The GPUTier that the engine runs on.
    pub tier: String,
    /// Output tokens in a second.
    pub rate: f64,
    /// Whether others left the engine's node to it.
    pub undisturbed: bool,
}

/// The figures that count and those that are held. `assumed`: what the profile says of a tier.
pub fn next(
    previous: &ModelProfileStatus,
    measurements: &[Measurement],
    assumed: impl Fn(&str) -> Option<i64>,
    now: Timestamp,
) -> (Vec<MeasuredThroughput>, Vec<HeldThroughput>) {
    let measured = previous.measured.iter().map(|it| (it.tier.as_str(), it));
    let measured: BTreeMap<&str, &MeasuredThroughput> = measured.collect();
    let held = previous.held.iter().map(|it| (it.tier.as_str(), it));
    let held: BTreeMap<&str, &HeldThroughput> = held.collect();
    let of_engines = measurements.iter().map(|it| it.tier.as_str());
    let known = measured.keys().chain(held.keys()).copied();
    let tiers: BTreeSet<&str> = known.chain(of_engines).collect();
    let (mut figures, mut waiting) = (Vec::new(), Vec::new());
    for tier in tiers {
        let before = Before {
            measured: measured.get(tier).copied(),
            held: held.get(tier).copied(),
            assumed: assumed(tier),
        };
        let own: Vec<&Measurement> = measurements.iter().filter(|it| it.tier == tier).collect();
        let (figure, held) = of_tier(before, tier, &own, now);
        figures.extend(figure);
        waiting.extend(held);
    }
    (figures, waiting)
}

/// What is known of a tier.
#[derive(Clone, Copy)]
struct Before<'a> {
    measured: Option<&'a MeasuredThroughput>,
    held: Option<&'a HeldThroughput>,
    assumed: Option<i64>,
}

type OfTier = (Option<MeasuredThroughput>, Option<HeldThroughput>);

fn of_tier(before: Before<'_>, tier: &str, own: &[&Measurement], now: Timestamp) -> OfTier {
    let younger = |since: &Time| now.duration_since(since.0) < KEPT;
    let held = before.held.filter(|held| younger(&held.observed));
    let mut figure = before.measured.cloned();
    if own.is_empty() {
        if let Some(figure) = &mut figure {
            figure.unbacked_since.get_or_insert(Time(now));
        }
        let kept = figure.filter(|figure| figure.unbacked_since.as_ref().is_none_or(younger));
        return (kept, held.cloned());
    }
    if let Some(figure) = &mut figure {
        figure.unbacked_since = None;
    }
    let undisturbed: Vec<&Measurement> = own.iter().copied().filter(|it| it.undisturbed).collect();
    let Some(rate) = median(&undisturbed) else {
        return (figure, held.cloned());
    };
    let counts = figure
        .as_ref()
        .map(|figure| figure.output_tokens_per_second);
    if counts.is_some_and(|counts| within(rate, counts, REWRITE_PERCENT)) {
        return (figure, None);
    }
    let against = counts.or(before.assumed);
    let candidate = candidate(held, tier, (rate, &undisturbed), (against, now));
    let is_jump = against.is_some_and(|against| {
        let against = against as f64;
        rate > against * JUMP || rate * JUMP < against
    });
    let confirmations = candidate.measurements.len();
    let held_for = now.duration_since(candidate.observed.0);
    let counts = if is_jump {
        confirmations >= JUMP_CONFIRMED && held_for >= JUMP_HELD
    } else {
        confirmations >= CONFIRMED
    };
    if !counts {
        return (figure, Some(candidate));
    }
    let confirmed = MeasuredThroughput {
        tier: tier.to_owned(),
        output_tokens_per_second: candidate.output_tokens_per_second,
        observed: Time(now),
        unbacked_since: None,
    };
    (Some(confirmed), None)
}

/// The figure that is held, with the measurements that agree with it now. Another figure is held from now on.
fn candidate(
    held: Option<&HeldThroughput>,
    tier: &str,
    (rate, own): (f64, &[&Measurement]),
    (against, now): (Option<i64>, Timestamp),
) -> HeldThroughput {
    let same = held.filter(|held| within(rate, held.output_tokens_per_second, AGREE_PERCENT));
    let mut candidate = same.cloned().unwrap_or_else(|| HeldThroughput {
        tier: tier.to_owned(),
        output_tokens_per_second: two_digits(rate).unwrap_or_default(),
        against,
        measurements: Vec::new(),
        observed: Time(now),
    });
    candidate.against = against;
    let agreeing = own
        .iter()
        .filter(|it| within(it.rate, candidate.output_tokens_per_second, AGREE_PERCENT));
    for measurement in agreeing {
        let known = candidate.measurements.contains(&measurement.id);
        if !known && candidate.measurements.len() < MOST_NAMES {
            candidate.measurements.push(measurement.id.clone());
        }
    }
    candidate
}

/// The one in the middle, the lower of two; figures that nobody can have are left out.
fn median(measurements: &[&Measurement]) -> Option<f64> {
    let rates = measurements.iter().map(|it| it.rate);
    let mut rates: Vec<f64> = rates.filter(|rate| two_digits(*rate).is_some()).collect();
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len().checked_sub(1)? / 2).copied()
}

fn within(rate: f64, of: i64, percent: f64) -> bool {
    let of = of as f64;
    (rate - of).abs() * 100.0 <= of * percent
}

/// Two significant digits: a figure that is measured again soon reads the same.
fn two_digits(rate: f64) -> Option<i64> {
    if !rate.is_finite() || !(1.0..1e8).contains(&rate) {
        return None;
    }
    let unit = 10f64.powi((rate.log10().floor() as i32 - 1).max(0));
    Some(((rate / unit).round() * unit) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(minutes * 60).expect("in range")
    }

    fn engines(rates: &[f64]) -> Vec<Measurement> {
        let measurement = |(at, rate): (usize, &f64)| Measurement {
            id: format!("{at}-{rate}"),
            tier: "t".into(),
            rate: *rate,
            undisturbed: true,
        };
        rates.iter().enumerate().map(measurement).collect()
    }

    /// The figure that counts and the one that is held after these measurements, one set a minute.
    fn after(assumed: Option<i64>, sets: &[Vec<f64>]) -> (Option<i64>, Option<i64>) {
        let mut status = ModelProfileStatus::default();
        for (minute, rates) in sets.iter().enumerate() {
            let now = at(i64::try_from(minute).expect("few"));
            (status.measured, status.held) = next(&status, &engines(rates), |_| assumed, now);
        }
        let measured = status.measured.first();
        let held = status.held.first();
        (
            measured.map(|it| it.output_tokens_per_second),
            held.map(|it| it.output_tokens_per_second),
        )
    }

    #[rstest]
    #[case::one_measurement_of_one_engine(vec![vec![80.0], vec![80.0], vec![80.0]], (None, Some(80)))]
    #[case::it_measures_again_and_agrees(vec![vec![80.0], vec![88.0]], (Some(80), None))]
    #[case::it_measures_again_and_does_not(vec![vec![80.0], vec![55.0]], (None, Some(55)))]
    #[case::two_engines_agree(vec![vec![80.0, 82.0]], (Some(80), None))]
    #[case::the_middle_of_three(vec![vec![80.0, 82.0, 1e7]], (Some(82), None))]
    #[case::a_jump_is_held(vec![vec![1e7, 1e7, 1e7], vec![1e7, 1e7, 1e7]], (None, Some(10_000_000)))]
    #[case::and_confirmed_in_minutes(vec![vec![7.0, 7.1, 7.2], vec![7.0, 7.1, 7.2], vec![7.0, 7.1, 7.2]], (Some(7), None))]
    #[case::two_do_not_confirm_it(vec![vec![7.0, 7.1], vec![7.0, 7.1], vec![7.0, 7.1], vec![7.0, 7.1]], (None, Some(7)))]
    #[case::and_passes(vec![vec![80.0, 82.0], vec![7.0, 7.0], vec![80.0, 82.0]], (Some(80), None))]
    #[case::nobody_can_have_it(vec![vec![f64::NAN, 0.4], vec![f64::INFINITY, 0.4]], (None, None))]
    fn a_figure_counts_when_measurements_agree(
        #[case] sets: Vec<Vec<f64>>,
        #[case] expected: (Option<i64>, Option<i64>),
    ) {
        assert_eq!(after(Some(100), &sets), expected);
    }

    #[test]
    fn what_is_measured_beside_the_load_of_others_does_not_count_and_both_numbers_are_told() {
        let mut loaded = engines(&[7.0, 7.1, 7.2]);
        loaded.iter_mut().for_each(|it| it.undisturbed = false);
        let none = ModelProfileStatus::default();
        assert_eq!(next(&none, &loaded, |_| Some(100), at(1)), (vec![], vec![]));
        let (_, held) = next(&none, &engines(&[7.0]), |_| Some(100), at(1));
        assert_eq!(
            (held[0].output_tokens_per_second, held[0].against),
            (7, Some(100))
        );
    }

    #[test]
    fn a_figure_is_rewritten_only_when_it_differs_by_a_fifth_and_kept_for_a_day() {
        let mut status = ModelProfileStatus::default();
        (status.measured, _) = next(&status, &engines(&[50.0, 51.0]), |_| None, at(1));
        let first = status.measured.clone();
        assert_eq!(
            next(&status, &engines(&[58.0, 59.0]), |_| None, at(2)).0,
            first
        );
        let (far, _) = next(&status, &engines(&[70.0, 71.0]), |_| None, at(3));
        assert_eq!(far[0].output_tokens_per_second, 70);
        (status.measured, _) = next(&status, &[], |_| None, at(4));
        assert_eq!(status.measured[0].unbacked_since, Some(Time(at(4))));
        let day = 24 * 60;
        assert_eq!(next(&status, &[], |_| None, at(3 + day)).0, status.measured);
        assert_eq!(next(&status, &[], |_| None, at(4 + day)).0, []);
        let (backed, _) = next(&status, &engines(&[50.0]), |_| None, at(5));
        assert_eq!(backed, first);
    }
}

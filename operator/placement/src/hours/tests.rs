use proptest::prelude::*;

use super::*;

fn hour(number: i64) -> Hour {
    Hour::new(number).expect("an hour")
}

fn requests(requests: u64) -> HourSums {
    HourSums {
        requests,
        input_tokens: requests * 900,
        cached_input_tokens: requests * 90,
        output_tokens: requests * 180,
    }
}

fn history(hours: impl IntoIterator<Item = u64>) -> HourHistory {
    let mut history = HourHistory::default();
    for (number, count) in (1_000..).zip(hours) {
        history.record(hour(number), requests(count));
    }
    history
}

fn monthly(history: &HourHistory) -> Option<u64> {
    let figures = history.observed()?.figures;
    figures.requests_per_month.map(RequestsPerMonth::get)
}

/// Busy hour to mean, and active hours, in percent.
fn shape(hours: impl IntoIterator<Item = u64>) -> (u64, u64) {
    let figures = history(hours).observed().expect("enough hours").figures;
    let peak = figures.peak_to_mean.expect("traffic").get();
    (peak, figures.active_hours.expect("known").get())
}

/// Loads of the hours, and how many of the twenty shares of the work each stands for.
fn load(hours: impl IntoIterator<Item = u64>) -> Vec<(u64, usize)> {
    let figures = history(hours).observed().expect("enough hours").figures;
    let curve = figures.load.expect("traffic");
    let shares = curve.loads().chunk_by(|one, other| one == other);
    shares.map(|same| (same[0].get(), same.len())).collect()
}

#[test]
fn the_load_of_hours_is_told_by_the_work_in_them() {
    assert_eq!(load([7; 48]), [(100, 20)]);
    // One hour of 22, 22 hours of one, and an idle one: half of the work in either, and a mean hour of 44 / 24.
    let day = [vec![1; 22], vec![22]].concat();
    assert_eq!(load([day, vec![0]].concat()), [(54, 10), (1_200, 10)]);
    // Idle hours take no share and make the others busier.
    assert_eq!(load([vec![0; 24], vec![5; 24]].concat()), [(200, 20)]);
    assert_eq!(
        history([0; 48]).observed().expect("known").figures.load,
        None
    );
}

#[test]
fn hours_of_last_week_say_what_demand_was_and_not_what_it_is() {
    let known = history([5; LEAST_KNOWN_HOURS]);
    let last = 1_000 + 23;
    assert!(known.is_current(hour(last + 1)));
    assert!(known.is_current(hour(last + 25)));
    assert!(!known.is_current(hour(last + 26)));
    assert!(!history([5; LEAST_KNOWN_HOURS - 1]).is_current(hour(last)));
}

#[test]
fn less_than_a_day_of_hours_says_nothing() {
    assert_eq!(history([5; LEAST_KNOWN_HOURS - 1]).observed(), None);
    let observed = history([5; LEAST_KNOWN_HOURS]).observed().expect("a day");
    assert_eq!(observed.span.get(), 86_400);
    let figures = observed.figures;
    assert_eq!(
        figures.requests_per_month.map(RequestsPerMonth::get),
        Some(5 * 730)
    );
    assert_eq!(figures.input_p50.map(Tokens::get), Some(900));
    assert_eq!(figures.output_p50.map(Tokens::get), Some(180));
    assert_eq!(figures.cached_input.map(Percent::get), Some(10));
}

#[test]
fn the_busy_hour_agrees_with_the_constants_that_it_replaces() {
    // Flat, half of the hours, and 16 of 100: one, two and six times the mean.
    assert_eq!(shape([7; 100]), (100, 100));
    assert_eq!(shape((0..100).map(|at| (at % 2) * 10)), (200, 50));
    let bursty = (0..100).map(|at| if at < 16 { 10 } else { 0 });
    assert_eq!(shape(bursty), (625, 16));
}

#[test]
fn one_odd_hour_does_not_set_the_peak() {
    let odd = (0..100).map(|at| if at == 50 { 300 } else { 100 });
    // 100 of a mean of 102.
    assert_eq!(shape(odd), (100, 100));
}

#[test]
fn hours_without_traffic_are_zero_and_have_no_peak() {
    let figures = history([0; 48]).observed().expect("known").figures;
    assert_eq!(figures.requests_per_month, Some(RequestsPerMonth::MIN));
    assert_eq!(figures.active_hours, Some(Percent::MIN));
    assert_eq!((figures.peak_to_mean, figures.input_p50), (None, None));
    assert!(!history([0; 48]).has_traffic());
}

#[test]
fn unknown_hours_count_neither_as_quiet_nor_as_observed() {
    let mut known = history([10; 48]);
    for number in 2_000..2_010 {
        known.record(hour(number), requests(10));
    }
    let observed = known.observed().expect("enough");
    assert_eq!(observed.span.get(), 58 * 3_600);
    assert_eq!(observed.figures.active_hours.map(Percent::get), Some(100));
    assert_eq!(monthly(&known), Some(7_300));
}

#[test]
fn the_newest_week_counts_and_old_hours_are_forgotten() {
    let mut long = history((0..240).map(|at| if at < 72 { 1_000 } else { 10 }));
    assert_eq!(monthly(&long), Some(7_300));
    long.forget_old(hour(1_001 + HOURS_KEPT));
    assert!(long.get(hour(1_000)).is_none() && long.get(hour(1_001)).is_some());
}

#[test]
fn hours_follow_utc_before_and_after_the_epoch() {
    let of = |second| Hour::of(Timestamp::from_second(second).expect("a time")).number();
    assert_eq!((of(-1), of(0), of(3_599), of(3_600)), (-1, 0, 0, 1));
    assert_eq!(Hour::new(i64::MAX), None);
    assert_eq!(hour(2).start().as_second(), 7_200);
}

fn any_hours() -> impl Strategy<Value = BTreeMap<i64, u64>> {
    let count = prop_oneof![Just(0), 1..50_u64, Just(u64::MAX / 2_000)];
    proptest::collection::btree_map(0..300_i64, count, 0..300)
}

fn told<'a>(hours: impl IntoIterator<Item = (&'a i64, &'a u64)>) -> HourHistory {
    let mut history = HourHistory::default();
    for (number, count) in hours {
        history.record(hour(*number), requests(*count));
    }
    history
}

proptest! {
    #[test]
    fn order_does_not_matter_and_telling_again_changes_nothing(hours in any_hours()) {
        let once = told(&hours);
        let mut again = told(hours.iter().rev());
        for number in hours.keys() {
            prop_assert!(!again.record(hour(*number), requests(3)));
        }
        prop_assert_eq!(again, once);
    }

    #[test]
    fn figures_stay_within_their_bounds(hours in any_hours()) {
        let Some(observed) = told(&hours).observed() else {
            return Ok(());
        };
        let active = observed.figures.active_hours.expect("known").get();
        match observed.figures.peak_to_mean {
            None => prop_assert_eq!(active, 0),
            Some(peak) => {
                prop_assert!((1..=100).contains(&active));
                prop_assert!((100..=100 * WEEK as u64).contains(&peak.get()));
            }
        }
    }

    #[test]
    fn the_same_traffic_in_fewer_hours_has_a_higher_peak(busy in 1..WEEK, volume in 1..1_000_u64) {
        let spread = |busy: usize| {
            let each = volume * (1_000_000 / busy) as u64;
            shape((0..WEEK).map(|at| if at < busy { each } else { 0 }))
        };
        let (peak, active) = spread(busy);
        let (flatter, more_active) = spread(busy + 1);
        prop_assert!(peak >= flatter && active <= more_active, "{} {}", peak, flatter);
    }
}

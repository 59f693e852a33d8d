//! The split of a placed workload, hour by hour. One replica serves 16 000 requests an hour for $0.50; the cloud takes $3.89
//! for as many.

use proptest::prelude::*;
use weir_placement::*;

use crate::builders::*;

const REQUESTS_PER_REPLICA_HOUR: f64 = 16_000.0;
const DAYS: i64 = 8;

/// Hours before `at(0)`, whose hour is the next one, with this need in replicas; the oldest first.
fn metered(needs: impl DoubleEndedIterator<Item = Option<f64>> + ExactSizeIterator) -> HourHistory {
    let mut hours = HourHistory::default();
    let count = i64::try_from(needs.len()).expect("few");
    for (index, need) in (0_i64..).zip(needs) {
        let Some(need) = need else { continue };
        let requests = (need * REQUESTS_PER_REPLICA_HOUR) as u64;
        let counts = HourSums {
            requests,
            input_tokens: requests * 900,
            cached_input_tokens: 0,
            output_tokens: requests * 180,
        };
        hours.record(Hour::of(on_the_hour(index - count)), counts);
    }
    hours
}

fn on_the_hour(hours: i64) -> Timestamp {
    let now = at(0).as_second();
    Timestamp::from_second(now - now.rem_euclid(3_600) + hours * 3_600).expect("in range")
}

/// Twelve busy hours and twelve quiet ones; the next hour is number `next` of the day.
fn daily(busy: f64, quiet: f64, next: i64) -> HourHistory {
    let hours: Vec<_> = (next - DAYS * 24..next)
        .map(|hour| {
            Some(if hour.rem_euclid(24) < 12 {
                busy
            } else {
                quiet
            })
        })
        .collect();
    metered(hours.into_iter())
}

/// On its local target with so many replicas.
fn running(replicas: u32) -> FleetSnapshot {
    let mut snapshot = fleet(hybrid(15_000_000));
    let mut current = placed(LOCAL, at(-100_000));
    current.replicas.insert(LOCAL.to_owned(), replicas);
    current.held.insert(TIER.to_owned(), replicas);
    only(&mut snapshot).current = Some(current);
    only(&mut snapshot).mode = Mode::Pinned(LOCAL.to_owned());
    only(&mut snapshot).spills = true;
    only(&mut snapshot).demand.observed = Some(ObservedDemand {
        figures: figures(15_000_000, 900, 180),
        span: Seconds::clamped(7 * 86_400),
    });
    snapshot
}

fn split(snapshot: &FleetSnapshot, hours: &HourHistory) -> Option<HourlySplit> {
    let policy = prompt_policy();
    let decision = decide_one(snapshot, policy.clone(), at(0));
    let workload = snapshot.workloads.values().next().expect("one workload");
    split_hour(&decision, workload, &snapshot.tiers, &policy, hours, at(0))
}

fn replicas(snapshot: &FleetSnapshot, hours: &HourHistory) -> Option<u32> {
    split(snapshot, hours).map(|split| split.replicas)
}

/// The peak needs three replicas and the night one: within the hour there are as many.
#[test]
fn replicas_follow_the_hours_of_the_day() {
    for (next, expected) in [(1, 3), (6, 3), (13, 1), (20, 1)] {
        let hours = daily(2.6, 0.05, next);
        assert_eq!(replicas(&running(2), &hours), Some(expected), "hour {next}");
    }
    // The first busy hour is known from the days before.
    assert_eq!(replicas(&running(1), &daily(2.6, 0.05, 0)), Some(3));
}

/// Where tokens cost $0.78 for an hour of a replica's work, the second replica does not pay for two fifths of its time.
#[test]
fn the_base_is_local_and_the_rest_overflows() {
    let mut snapshot = running(2);
    cloud_of(only(&mut snapshot)).price = Some(price("0.03", "0.12"));
    let hours = daily(1.4, 1.4, 5);
    let expected = HourlySplit {
        target: LOCAL.to_owned(),
        replicas: 1,
        overflow: Some(CLOUD.to_owned()),
    };
    assert_eq!(split(&snapshot, &hours), Some(expected));

    // Where the gateways do not spill, it waits although there is a cloud.
    only(&mut snapshot).spills = false;
    let waits = split(&snapshot, &hours).expect("a split");
    only(&mut snapshot).spills = true;
    assert_eq!((waits.replicas, waits.overflow), (2, None));

    // Without a cloud what is not served waits, which is worse than a second replica.
    only(&mut snapshot).egress = Egress::Forbidden;
    let expected = HourlySplit {
        target: LOCAL.to_owned(),
        replicas: 2,
        overflow: None,
    };
    assert_eq!(split(&snapshot, &hours), Some(expected));
}

#[test]
fn no_more_than_its_own_devices_and_those_that_are_free() {
    let mut snapshot = running(1);
    let hours = daily(3.6, 3.6, 5);
    assert_eq!(replicas(&snapshot, &hours), Some(4));
    let tier = snapshot.tiers.get_mut(TIER).expect("the tier");
    tier.free_devices = Some(1);
    assert_eq!(replicas(&snapshot, &hours), Some(2));
    local_of(only(&mut snapshot)).max_replicas = 1;
    assert_eq!(replicas(&snapshot, &hours), Some(1));
}

#[test]
fn no_fewer_than_are_always_kept() {
    let mut snapshot = running(3);
    local_of(only(&mut snapshot)).min_replicas = 2;
    assert_eq!(replicas(&snapshot, &daily(0.0, 0.0, 5)), Some(2));
}

/// An hour that nobody metered is not an idle one.
#[test]
fn after_an_unknown_hour_what_runs_stays() {
    let mut needs = vec![Some(0.1); 100];
    assert_eq!(
        replicas(&running(3), &metered(needs.clone().into_iter())),
        Some(1)
    );
    needs.push(None);
    assert_eq!(replicas(&running(3), &metered(needs.into_iter())), Some(3));
}

#[test]
fn until_a_day_is_known_and_where_nothing_scales_the_decision_stands() {
    let day = |hours: usize| metered(vec![Some(2.6); hours].into_iter());
    assert_eq!(split(&running(2), &day(LEAST_KNOWN_HOURS - 1)), None);
    assert!(split(&running(2), &day(LEAST_KNOWN_HOURS)).is_some());

    let mut declared = running(2);
    only(&mut declared).demand.source = DemandSource::Declared;
    assert_eq!(split(&declared, &day(48)), None);

    let mut batch = running(2);
    only(&mut batch).demand.pattern = Pattern::Batch;
    assert_eq!(split(&batch, &day(48)), None);

    let mut suspended = running(2);
    only(&mut suspended).suspend = true;
    assert_eq!(split(&suspended, &day(48)), None);

    let mut external = running(2);
    only(&mut external).mode = Mode::Pinned(CLOUD.to_owned());
    assert_eq!(split(&external, &day(48)), None);

    let mut unknown = running(2);
    local_of(only(&mut unknown)).throughput.clear();
    assert_eq!(split(&unknown, &day(48)), None);
}

proptest! {
    /// What was decided for an hour stands when it is decided again, also from hours that were written and read.
    #[test]
    fn an_hour_is_decided_once(
        needs in prop::collection::vec(prop::option::weighted(0.95, 0.0..5.0_f64), 24..200),
        ordered in 1..4_u32,
        free in 0..4_u32,
    ) {
        let hours = metered(needs.into_iter());
        let mut snapshot = running(ordered);
        snapshot.tiers.get_mut(TIER).expect("the tier").free_devices = Some(free);
        let Some(first) = split(&snapshot, &hours) else {
            return Ok(());
        };
        prop_assert!((1..=4).contains(&first.replicas) && first.replicas <= ordered + free);
        let current = only(&mut snapshot).current.as_mut().expect("a placement");
        current.replicas.insert(LOCAL.to_owned(), first.replicas);
        let written = serde_json::to_string(&hours).expect("JSON");
        let read: HourHistory = serde_json::from_str(&written).expect("hours");
        prop_assert_eq!(split(&snapshot, &read), Some(first));
    }
}

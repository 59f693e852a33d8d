use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;

const UID: &str = "0f9c2b1e-55aa-4c11-9d21-0123456789ab";
const HOUR: Duration = Duration::from_secs(3_600);

fn workload() -> InferenceWorkload {
    let spec = json!({"targets": [{"name": "here", "local": {"modelRef": {"name": "m"}, "tiers": ["t"]}}]});
    let mut workload =
        InferenceWorkload::new("chat", serde_json::from_value(spec).expect("a spec"));
    workload.metadata.namespace = Some("team".into());
    workload.metadata.uid = Some(UID.into());
    workload
}

fn owner_of_record() -> Owner {
    Owner::new(&workload())
}

fn now() -> Timestamp {
    "2026-11-25T13:30:00Z".parse().expect("a time")
}

/// Requests by hours ago.
fn history(hours: &[(i64, u64)]) -> HourHistory {
    let mut history = HourHistory::default();
    for (ago, requests) in hours {
        let sums = HourSums {
            requests: *requests,
            input_tokens: requests * 1_000,
            cached_input_tokens: requests * 250,
            output_tokens: requests * 200,
        };
        history.record(Hour::of(now()).plus(-ago), sums);
    }
    history
}

fn record(history: &HourHistory) -> InferenceDemand {
    let mut record = object(&workload());
    record.status = Some(status(history));
    record
}

#[test]
fn a_record_is_the_workloads_and_is_read_as_it_was_written() {
    let known = history(&[(30, 5), (29, 0), (28, 0), (3, 0), (2, 7), (1, 7)]);
    let record = record(&known);
    assert_eq!(record.metadata.name.as_deref(), Some("chat-0f9c2b1e"));
    assert!(owner_of_record().owns(&record));
    record.validate_cel().expect("no rule is broken");
    let status = record.status.as_ref().expect("a status");
    let runs: Vec<&[i64]> = status.runs.iter().map(|run| &run.requests[..]).collect();
    assert_eq!(runs, [&[5, 0, 0][..], &[0, 7, 7]]);
    assert_eq!(status.known_hours, Some(6));
    let newest = status.newest_hour.as_ref().map(|hour| hour.0.to_string());
    assert_eq!(newest.as_deref(), Some("2026-11-25T12:00:00Z"));
    assert_eq!(status.requests_per_month, None);
    assert_eq!(read(&record, &owner_of_record(), now()), Ok(known));
}

#[test]
fn a_day_of_hours_is_summed_up() {
    let hours: Vec<_> = (1..=24)
        .map(|ago| (ago, u64::from(ago > 12) * 10))
        .collect();
    let status = status(&history(&hours));
    assert_eq!(status.runs.len(), 1);
    assert_eq!(status.requests_per_month, Some(3_650));
    assert_eq!(status.active_hours_percent, Some(50));
    assert_eq!(status.peak_to_mean_percent, Some(200));
}

/// What a record takes of the API server.
#[test]
fn ten_days_of_hours_fit_into_ten_kilobytes() {
    let bytes = |hours: Vec<(i64, u64)>| {
        let record = serde_json::to_vec(&record(&history(&hours)));
        record.expect("JSON").len()
    };
    let ago = || 1..=HOURS_KEPT;
    let busy = bytes(
        ago()
            .map(|ago| (ago, 12_345 + ago.unsigned_abs()))
            .collect(),
    );
    let idle = bytes(ago().map(|ago| (ago, u64::from(ago == 9))).collect());
    let gaps = ago().step_by(2);
    let gaps = bytes(gaps.map(|ago| (ago, 12_345)).collect());
    println!(
        "{busy} bytes of busy hours, {idle} of idle ones, {gaps} with every second one unknown"
    );
    assert!(busy < 10_000, "{busy}");
    assert!(idle < 3_000, "{idle}");
    assert!(gaps < 20_000, "{gaps}");
}

#[test]
fn counts_beyond_reason_are_bounded_so_that_no_rule_refuses_them() {
    let mut known = HourHistory::default();
    let sums = HourSums {
        requests: u64::MAX,
        input_tokens: 5,
        cached_input_tokens: u64::MAX,
        output_tokens: 1,
    };
    known.record(Hour::of(now()).plus(-1), sums);
    let record = record(&known);
    record.validate_cel().expect("no rule is broken");
    let read = read(&record, &owner_of_record(), now()).expect("is read");
    let sums = read.get(Hour::of(now()).plus(-1)).expect("is known");
    assert_eq!(
        (sums.cached_input_tokens, sums.requests),
        (5, MOST_COUNT.unsigned_abs())
    );
}

#[rstest]
#[case::within_an_hour(json!({"start": "2026-11-25T10:00:01Z"}), "beginning of an hour")]
#[case::a_fraction(json!({"start": "2026-11-25T10:00:00.5Z"}), "beginning of an hour")]
#[case::twice(json!({"start": "2026-11-25T08:00:00Z"}), "twice or out of order")]
#[case::within_the_last(json!({"start": "2026-11-25T09:00:00Z"}), "twice or out of order")]
#[case::future(json!({"start": "2026-11-25T13:00:00Z"}), "14:00:00Z has not begun")]
#[case::cached_above_input(json!({"cachedInputTokens": [5, 11]}), "11:00:00Z has counts that cannot be")]
#[case::negative(json!({"requests": [1, -1]}), "11:00:00Z has counts that cannot be")]
#[case::too_high(json!({"requests": [i64::MAX, 1]}), "10:00:00Z has counts that cannot be")]
#[case::uneven(json!({"outputTokens": [1]}), "lacks hours")]
#[case::empty(json!({"requests": [], "inputTokens": [], "cachedInputTokens": [], "outputTokens": []}), "lacks hours")]
fn a_damaged_record_is_not_used(#[case] change: serde_json::Value, #[case] message: &str) {
    let run = |start: &str| {
        json!({"start": start, "requests": [1, 1], "inputTokens": [10, 10],
            "cachedInputTokens": [5, 5], "outputTokens": [1, 1]})
    };
    let mut second = run("2026-11-25T10:00:00Z");
    for (key, value) in change.as_object().expect("fields") {
        second[key] = value.clone();
    }
    let mut damaged = object(&workload());
    let runs = json!({"runs": [run("2026-11-25T08:00:00Z"), second]});
    damaged.status = Some(serde_json::from_value(runs).expect("a status"));
    let unusable = read(&damaged, &owner_of_record(), now())
        .expect_err("is refused")
        .to_string();
    assert!(unusable.contains(message), "{unusable}");
}

#[test]
fn a_record_of_more_hours_than_are_kept_is_not_used() {
    let mut long = record(&history(&[(HOURS_KEPT + 9, 1)]));
    let runs = &mut long.status.as_mut().expect("a status").runs;
    let counts = vec![1; 241];
    runs[0] = HourRun {
        start: runs[0].start.clone(),
        requests: counts.clone(),
        input_tokens: counts.clone(),
        cached_input_tokens: counts.clone(),
        output_tokens: counts,
    };
    assert_eq!(
        read(&long, &owner_of_record(), now()),
        Err(Unusable::TooMany)
    );
}

#[test]
fn a_record_of_another_owner_or_none_is_not_used() {
    let record = record(&history(&[(1, 1)]));
    let of = |namespace: &str, uid: &str| Owner {
        namespace: namespace.into(),
        uid: uid.into(),
    };
    for other in [of("team", "another"), of("elsewhere", UID)] {
        assert_eq!(read(&record, &other, now()), Err(Unusable::Foreign));
    }
    let mut orphan = record;
    orphan.metadata.owner_references = None;
    assert_eq!(
        read(&orphan, &owner_of_record(), now()),
        Err(Unusable::Foreign)
    );
}

#[test]
fn a_record_without_status_knows_nothing() {
    assert_eq!(
        read(&object(&workload()), &owner_of_record(), now()),
        Ok(HourHistory::default())
    );
}

#[test]
fn what_idles_is_not_recorded_and_zeros_are_where_traffic_came_before() {
    let idle = history(&[(2, 0), (1, 0)]);
    assert!(!lacks(None, &idle));
    assert!(!lacks(None, &HourHistory::default()));
    let busy = history(&[(3, 4), (2, 0)]);
    assert!(lacks(None, &busy));
    assert!(!lacks(Some(&busy), &busy));
    let later = history(&[(3, 4), (2, 0), (1, 0)]);
    assert!(!lacks(Some(&busy), &later));
    assert!(lacks(Some(&busy), &history(&[(3, 4), (2, 0), (1, 1)])));
    let idle_since = |hours: i64| {
        let idle = (1..=hours).map(|ago| (ago, 0));
        history(&[(30, 4)].into_iter().chain(idle).collect::<Vec<_>>())
    };
    assert!(!lacks(Some(&idle_since(1)), &idle_since(24)));
    assert!(lacks(Some(&idle_since(1)), &idle_since(25)));
    // That an old hour is forgotten is nothing new.
    assert!(!lacks(Some(&later), &history(&[(2, 1), (1, 0)])));
}

#[test]
fn turns_come_once_an_interval_and_ten_thousand_workloads_share_it_out() {
    let mut at_the_second = std::collections::BTreeMap::new();
    for number in 0..10_000_u64 {
        let random = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let uid = format!("{:08x}-0000-4000-8000-000000000000", random >> 32);
        let turn = turn_after(&uid, HOUR, now());
        assert!(turn > now() && turn <= now() + HOUR);
        assert_eq!(turn_after(&uid, HOUR, turn), turn + HOUR);
        *at_the_second.entry(turn).or_insert(0) += 1;
    }
    let most = at_the_second.values().max();
    assert!(most.is_some_and(|most| *most <= 12), "{most:?} in a second");
}

#[test]
fn an_interval_of_nothing_is_a_second() {
    let turn = turn_after(UID, Duration::ZERO, now());
    assert_eq!(turn.as_second() - now().as_second(), 1);
    assert!(turn_after(UID, Duration::MAX, now()) > now());
}

proptest! {
    #[test]
    fn every_history_is_read_as_it_was_written(
        hours in proptest::collection::btree_map(1..=HOURS_KEPT, prop_oneof![Just(0), 0..1_000_u64], 0..240),
    ) {
        let known = history(&hours.into_iter().collect::<Vec<_>>());
        let record = record(&known);
        prop_assert!(record.status.as_ref().is_some_and(|status| status.runs.len() <= 120));
        prop_assert_eq!(read(&record, &owner_of_record(), now()), Ok(known));
    }
}

//! The history, and the times that it has no room for.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use weir_crds::decision::HistoryEntry;
use weir_crds::{InferenceWorkload, InferenceWorkloadStatus};

use super::{add_entry, validate};

fn at(minutes: i64) -> Timestamp {
    let start = Timestamp::from_second(1_700_000_000).expect("in range");
    start + SignedDuration::from_mins(minutes)
}

fn ended(minutes: i64, uncounted: Option<bool>) -> HistoryEntry {
    HistoryEntry {
        id: "d-1".to_owned(),
        time: Time(at(minutes)),
        from: Some("a".to_owned()),
        to: "b".to_owned(),
        reason: "LowerCost".to_owned(),
        uncounted,
    }
}

fn counted(status: &InferenceWorkloadStatus) -> usize {
    let mut workload = InferenceWorkload::new(
        "w",
        serde_json::from_str(r#"{"targets": []}"#).expect("a spec"),
    );
    workload.status = Some(status.clone());
    validate::moves(&workload).len()
}

#[test]
fn moves_beyond_the_ten_of_the_history_still_count() {
    let mut status = InferenceWorkloadStatus::default();
    for minutes in 0..25 {
        add_entry(&mut status, &ended(minutes, None));
    }
    assert_eq!(status.history.len(), 10);
    assert_eq!(status.history[0].time.0, at(24));
    assert_eq!(
        status.earlier_moves.first().map(|time| time.0),
        Some(at(14))
    );
    assert_eq!(counted(&status), 25);
}

#[test]
fn moves_that_spend_nothing_are_in_the_history_and_do_not_count() {
    let mut status = InferenceWorkloadStatus::default();
    for minutes in 0..25 {
        let uncounted = (minutes % 5 != 0).then_some(true);
        add_entry(&mut status, &ended(minutes, uncounted));
    }
    assert_eq!(status.history.len(), 10);
    assert_eq!(counted(&status), 5);
}

#[test]
fn the_first_placement_is_no_move() {
    let mut first = ended(0, None);
    first.from = None;
    let mut status = InferenceWorkloadStatus::default();
    add_entry(&mut status, &first);
    assert_eq!(counted(&status), 0);
}

#[test]
fn times_older_than_a_week_go_and_there_are_never_more_than_the_limit_can_be() {
    let mut status = InferenceWorkloadStatus::default();
    for minutes in 0..1_200 {
        add_entry(&mut status, &ended(minutes, None));
    }
    assert_eq!(status.earlier_moves.len(), 990);
    add_entry(&mut status, &ended(7 * 24 * 60 + 600, None));
    let oldest = status.earlier_moves.last().map(|time| time.0);
    assert_eq!(oldest, Some(at(601)));
}

use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use serde_json::json;
use tokio::time::Instant;
use weir_placement::HOURS_KEPT;
use weir_proto::{Acknowledgement, GatewayReport, Minute};

use super::*;

/// A gateway of the cloud plane whose process started so many hours ago; `None`: it does not say.
fn pod(uid: &str, hours_ago: Option<i64>, now: Timestamp) -> Pod {
    let mut pod = json!({
        "metadata": {"name": uid, "uid": uid, "labels": {
            "app.kubernetes.io/component": "gateway", "inference.weir.dev/plane": "cloud"}},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    if let Some(hours) = hours_ago {
        let started = Timestamp::from_second(now.as_second() - hours * 3_600).unwrap();
        pod["status"]["containerStatuses"] = json!([{"name": "gateway", "image": "i", "imageID": "i", "ready": true,
            "restartCount": 0, "state": {"running": {"startedAt": started.to_string()}}}]);
    }
    serde_json::from_value(pod).unwrap()
}

fn minute(start: i64, requests: u64) -> Minute {
    Minute {
        uid: "w".into(),
        start,
        requests,
        input_tokens: requests * 10,
        ..Minute::default()
    }
}

fn tell(gateways: &mut Gateways, pod: &str, seq: u64, minutes: Vec<Minute>, now: Timestamp) {
    let ack = Acknowledgement {
        uid: "w".into(),
        generation: 1,
        step: 1,
        ..Acknowledgement::default()
    };
    let report = GatewayReport {
        pod_uid: pod.into(),
        boot_id: "b".into(),
        seq,
        full: true,
        acknowledgements: vec![ack],
        minutes,
        ..GatewayReport::default()
    };
    assert!(
        gateways
            .report(pod, report, (Instant::now(), now), &mut |_| {})
            .0
    );
}

fn connected(pods: &[(&str, Option<i64>)], now: Timestamp) -> Gateways {
    let mut gateways = Gateways::default();
    let objects: Vec<Pod> = pods.iter().map(|(uid, ago)| pod(uid, *ago, now)).collect();
    gateways.set_pods(&objects);
    for (uid, _) in pods {
        gateways.connected(uid, true);
    }
    gateways
}

/// Half past an hour, so that the hour before is settled.
fn half_past() -> (Timestamp, i64) {
    let hour = Hour::of(Timestamp::now()).start().as_second();
    (Timestamp::from_second(hour + 1_800).unwrap(), hour)
}

fn requests(history: &HourHistory) -> Vec<u64> {
    history.iter().map(|(_, sums)| sums.requests).collect()
}

fn look(
    gateways: &mut Gateways,
    now: Timestamp,
    recorded: impl FnOnce() -> HourHistory,
) -> Arc<HourHistory> {
    let ages = (Timestamp::UNIX_EPOCH, now);
    gateways.hours("w", Plane::Cloud, ages, recorded)
}

fn known(gateways: &mut Gateways, now: Timestamp) -> Vec<u64> {
    requests(&look(gateways, now, HourHistory::default))
}

#[tokio::test]
async fn a_ring_that_reaches_back_completes_hours_with_zeros_where_nothing_came() {
    let (now, hour) = half_past();
    let mut gateways = connected(&[("a", Some(4))], now);
    let rows = vec![
        minute(hour - 7_200, 5),
        minute(hour - 7_140, 6),
        minute(hour + 60, 9),
    ];
    tell(&mut gateways, "a", 1, rows.clone(), now);
    assert_eq!(known(&mut gateways, now), [0, 11, 0]);
    // The stream opens anew, and so does the operator: nothing counts twice.
    gateways.connected("a", true);
    tell(&mut gateways, "a", 1, rows.clone(), now);
    assert_eq!(known(&mut gateways, now), [0, 11, 0]);
    let mut next = connected(&[("a", Some(4))], now);
    tell(&mut next, "a", 1, rows, now);
    assert_eq!(known(&mut next, now), [0, 11, 0]);
}

#[tokio::test]
async fn hours_before_the_process_or_the_workload_are_unknown() {
    let (now, hour) = half_past();
    let mut silent = connected(&[("a", None)], now);
    assert_eq!(known(&mut silent, now), [0; 0]);
    tell(&mut silent, "a", 1, vec![minute(hour - 3_600, 5)], now);
    assert_eq!(known(&mut silent, now), [0; 0]);
    let mut gateways = connected(&[("a", Some(20))], now);
    tell(&mut gateways, "a", 1, vec![minute(hour - 3_600, 5)], now);
    let created = Timestamp::from_second(hour - 7_000).unwrap();
    let history = gateways.hours("w", Plane::Cloud, (created, now), HourHistory::default);
    assert_eq!(requests(&history), [5]);
    let other_plane = gateways.hours("v", Plane::Local, (created, now), HourHistory::default);
    assert_eq!(requests(&other_plane), [0; 0]);
}

#[tokio::test]
async fn an_hour_waits_for_every_gateway_that_served_in_it() {
    let (now, hour) = half_past();
    let mut gateways = connected(&[("a", Some(3)), ("b", Some(3))], now);
    tell(&mut gateways, "a", 1, vec![minute(hour - 3_600, 5)], now);
    assert_eq!(known(&mut gateways, now), [0; 0]);
    tell(&mut gateways, "b", 1, vec![minute(hour - 3_600, 7)], now);
    assert_eq!(known(&mut gateways, now), [0, 12]);
    // What was known stays known when a gateway goes.
    gateways.set_pods(&[pod("a", Some(3), now)]);
    assert_eq!(known(&mut gateways, now), [0, 12]);
}

#[tokio::test]
async fn a_full_ring_says_nothing_of_what_it_has_lost() {
    let (now, hour) = half_past();
    let mut gateways = connected(&[("a", Some(10))], now);
    let rows = (0..60)
        .map(|at| minute(hour - 3_600 + at * 60, 1))
        .collect();
    tell(&mut gateways, "a", 1, rows, now);
    assert_eq!(known(&mut gateways, now), [60]);
}

#[tokio::test]
async fn an_hour_is_closed_two_minutes_after_its_end() {
    let (now, hour) = half_past();
    let mut gateways = connected(&[("a", Some(2))], now);
    tell(&mut gateways, "a", 1, Vec::new(), now);
    let at = |second| Timestamp::from_second(hour + second).unwrap();
    assert_eq!(known(&mut gateways, at(119)).len(), 0);
    assert_eq!(known(&mut gateways, at(120)).len(), 1);
}

fn recorded(hours: &[(i64, u64)]) -> HourHistory {
    let mut history = HourHistory::default();
    for (start, requests) in hours {
        let sums = HourSums {
            requests: *requests,
            ..HourSums::default()
        };
        history.record(Hour::of(Timestamp::from_second(*start).unwrap()), sums);
    }
    history
}

#[tokio::test]
async fn recorded_hours_come_before_the_rings_and_without_a_gateway() {
    let (now, hour) = half_past();
    let record = || recorded(&[(hour - 7_200, 3), (hour - 36_000, 4)]);
    let mut gateways = connected(&[("a", Some(3))], now);
    assert_eq!(requests(&look(&mut gateways, now, record)), [4, 3]);
    let rows = vec![minute(hour - 7_200, 5), minute(hour - 3_600, 6)];
    tell(&mut gateways, "a", 1, rows, now);
    assert_eq!(known(&mut gateways, now), [4, 3, 6]);
    let mut without = Gateways::default();
    look(&mut without, now, record);
    assert_eq!(known(&mut without, now), [4, 3]);
}

#[tokio::test]
async fn a_record_is_asked_once_and_its_old_hours_are_forgotten() {
    let (now, hour) = half_past();
    let oldest = hour - HOURS_KEPT * 3_600;
    let record = || recorded(&[(oldest, 1), (oldest - 3_600, 2)]);
    let mut gateways = Gateways::default();
    let first = look(&mut gateways, now, record);
    assert_eq!(requests(&first), [1]);
    let second = look(&mut gateways, now, || panic!("asked again"));
    assert!(Arc::ptr_eq(&first, &second));
    gateways.retain(|_| false);
    assert_eq!(known(&mut gateways, now), [0; 0]);
}

proptest! {
    #[test]
    fn the_order_of_minutes_and_telling_them_again_change_nothing(
        counts in proptest::collection::btree_map(0..240_i64, 1..100_u64, 0..50), turn in 0..50_usize,
    ) {
        let (now, hour) = half_past();
        let mut rows: Vec<Minute> = counts.iter()
            .map(|(at, count)| minute(hour - 14_400 + at * 60, *count)).collect();
        let once = {
            let mut gateways = connected(&[("a", Some(6))], now);
            tell(&mut gateways, "a", 1, rows.clone(), now);
            known(&mut gateways, now)
        };
        if !rows.is_empty() {
            let middle = turn % rows.len();
            rows.rotate_left(middle);
        }
        let mut gateways = connected(&[("a", Some(6))], now);
        tell(&mut gateways, "a", 1, rows.clone(), now);
        tell(&mut gateways, "a", 2, rows, now);
        let again = known(&mut gateways, now);
        prop_assert_eq!(&again, &once);
        prop_assert_eq!(again.iter().sum::<u64>(), counts.values().sum::<u64>());
    }
}

use super::*;
use crate::telemetry::gateways::pod::InForce;
use serde_json::json;
use weir_proto::{Acknowledgement, Counters, GatewayReport, Minute, ProviderState, WakeUp};

fn pod(uid: &str, plane: &str, ready: bool) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": format!("gateway-{uid}"), "uid": uid,
            "labels": {"app.kubernetes.io/component": "gateway", "inference.weir.dev/plane": plane}},
        "status": {"phase": "Running", "podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": if ready {"True"} else {"False"}}]}
    }))
    .unwrap()
}

fn full(pod_uid: &str, boot: &str) -> GatewayReport {
    GatewayReport {
        pod_uid: pod_uid.into(),
        boot_id: boot.into(),
        seq: 1,
        full: true,
        ..GatewayReport::default()
    }
}

fn ack(uid: &str, generation: i64, step: i64) -> Acknowledgement {
    Acknowledgement {
        uid: uid.into(),
        generation,
        decision_id: "d".into(),
        step,
        ..Acknowledgement::default()
    }
}

fn row(step: i64, requests: u64, in_flight: u64) -> Counters {
    Counters {
        uid: "w".into(),
        target: "t".into(),
        step,
        requests,
        in_flight,
        ..Counters::default()
    }
}

fn send(gateways: &mut Gateways, report: GatewayReport) -> (bool, Vec<TelemetryChange>) {
    let uid = report.pod_uid.clone();
    gateways.report(
        &uid,
        report,
        (Instant::now(), Timestamp::now()),
        &mut |_| {},
    )
}

/// UID of a pod, whether it is ready, generation and step that it has in force.
type Fixture<'a> = (&'a str, bool, Option<(i64, i64)>);

/// Gateways of the cloud plane that are connected and have this in force.
fn fleet(pods: &[Fixture]) -> Gateways {
    let mut gateways = Gateways::default();
    let objects: Vec<Pod> = pods
        .iter()
        .map(|(uid, ready, _)| pod(uid, "cloud", *ready))
        .collect();
    gateways.set_pods(&objects);
    for (uid, _, in_force) in pods {
        gateways.connected(uid, true);
        let mut report = full(uid, "b1");
        report.acknowledgements = in_force.iter().map(|(g, s)| ack("w", *g, *s)).collect();
        assert!(send(&mut gateways, report).0);
    }
    gateways
}

fn waiting(names: &[&str]) -> Acknowledged {
    Acknowledged::Waiting(names.iter().map(|name| format!("gateway-{name}")).collect())
}

#[tokio::test]
async fn a_step_is_acknowledged_when_every_ready_pod_has_a_state_at_least_as_new() {
    let at = |gateways: &Gateways, g, s| gateways.acknowledged(Plane::Cloud, "w", (g, s), false);
    let gateways = fleet(&[("a", true, Some((2, 5))), ("b", true, Some((2, 4)))]);
    assert_eq!(at(&gateways, 2, 4), Acknowledged::All);
    assert_eq!(at(&gateways, 1, 3), Acknowledged::All);
    assert_eq!(at(&gateways, 2, 5), waiting(&["b"]));
    assert_eq!(at(&gateways, 3, 4), waiting(&["a", "b"]));
    let other = gateways.acknowledged(Plane::Local, "w", (1, 1), false);
    assert_eq!(other, waiting(&[]));
    assert_eq!(
        gateways.acknowledged(Plane::Cloud, "other", (1, 1), false),
        waiting(&["a", "b"])
    );
}

#[tokio::test]
async fn a_gateway_that_knows_a_workload_says_which_targets_it_has_no_engine_of() {
    let mut gateways = fleet(&[
        ("a", true, Some((1, 1))),
        ("b", true, Some((1, 1))),
        ("c", false, Some((1, 1))),
        ("d", true, None),
    ]);
    let without = |gateways: &Gateways, target: &str| {
        let pods = gateways.without_engine(Plane::Cloud, "w", target);
        pods.join(" ")
    };
    assert_eq!(without(&gateways, "here"), "", "none of them says");
    let mut seq = 1;
    let mut says = |gateways: &mut Gateways, uid: &str, targets: &[&str]| {
        seq += 1;
        let mut report = full(uid, "b1");
        (report.full, report.seq) = (false, seq);
        let targets = targets.iter().map(|target| names::target_label(target));
        let reachable = Some(weir_proto::Reachable {
            targets: targets.collect(),
        });
        let row = ack("w", 1, 1);
        report.acknowledgements = vec![Acknowledgement { reachable, ..row }];
        send(gateways, report).1
    };
    for uid in ["a", "b", "c"] {
        says(&mut gateways, uid, &[]);
    }
    assert_eq!(without(&gateways, "here"), "gateway-a gateway-b");
    let other = gateways.without_engine(Plane::Local, "w", "here");
    assert!(other.is_empty(), "the other plane does not serve it");
    let changes = says(&mut gateways, "a", &["here", "here@org/m", ""]);
    assert_eq!(changes, [TelemetryChange::Workload("w".into())]);
    assert_eq!(without(&gateways, "here"), "gateway-b");
    assert_eq!(without(&gateways, "here@org/m"), "gateway-b");
    assert_eq!(without(&gateways, "there"), "gateway-a gateway-b");
    gateways.connected("b", false);
    assert_eq!(
        without(&gateways, "here"),
        "",
        "one that is not heard says nothing"
    );
}

#[tokio::test]
async fn an_unready_pod_holds_the_release_and_nothing_else() {
    let gateways = fleet(&[("a", true, Some((2, 5))), ("b", false, Some((2, 4)))]);
    let at = |all| gateways.acknowledged(Plane::Cloud, "w", (2, 5), all);
    assert_eq!(at(false), Acknowledged::All);
    assert_eq!(at(true), waiting(&["b"]));
    let none_ready = fleet(&[("a", false, Some((2, 5)))]);
    assert_eq!(
        none_ready.acknowledged(Plane::Cloud, "w", (2, 5), false),
        waiting(&[])
    );
}

#[tokio::test]
async fn a_broken_stream_holds_the_step_until_its_full_state_is_back() {
    let mut gateways = fleet(&[("a", true, Some((2, 5)))]);
    let at = |gateways: &Gateways| gateways.acknowledged(Plane::Cloud, "w", (2, 5), false);
    assert_eq!(
        gateways.connected("a", false),
        [TelemetryChange::Gateways(Plane::Cloud)]
    );
    assert_eq!(at(&gateways), waiting(&["a"]));
    gateways.connected("a", true);
    assert_eq!(at(&gateways), waiting(&["a"]));
    let mut delta = full("a", "b1");
    delta.full = false;
    assert!(!send(&mut gateways, delta).0);
    let mut again = full("a", "b1");
    again.acknowledgements = vec![ack("w", 2, 5)];
    let (accepted, changes) = send(&mut gateways, again);
    assert!(accepted);
    assert_eq!(changes, []);
    assert_eq!(at(&gateways), Acknowledged::All);
}

#[tokio::test]
async fn a_terminating_pod_is_not_ready_and_a_pod_that_is_gone_does_not_count() {
    let mut gateways = fleet(&[("a", true, Some((2, 5))), ("b", true, Some((2, 4)))]);
    let mut terminating = pod("b", "cloud", true);
    terminating.metadata.deletion_timestamp = Some(
        k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::now()),
    );
    let changes = gateways.set_pods(&[pod("a", "cloud", true), terminating]);
    assert_eq!(changes, [TelemetryChange::Gateways(Plane::Cloud)]);
    let at = |gateways: &Gateways, all| gateways.acknowledged(Plane::Cloud, "w", (2, 5), all);
    assert_eq!(at(&gateways, false), Acknowledged::All);
    assert_eq!(at(&gateways, true), waiting(&["b"]));
    gateways.set_pods(&[pod("a", "cloud", true)]);
    assert_eq!(at(&gateways, true), Acknowledged::All);
}

#[tokio::test]
async fn acknowledgements_change_and_go_by_delta() {
    let mut gateways = fleet(&[("a", true, Some((2, 5)))]);
    let mut delta = full("a", "b1");
    (delta.full, delta.seq) = (false, 2);
    delta.acknowledgements = vec![ack("w", 2, 6), ack("v", 1, 1)];
    let (_, changes) = send(&mut gateways, delta.clone());
    assert_eq!(
        changes,
        [
            TelemetryChange::Workload("v".into()),
            TelemetryChange::Workload("w".into())
        ]
    );
    assert!(
        !send(&mut gateways, delta.clone()).0,
        "the same sequence number twice"
    );
    delta.seq = 3;
    delta.acknowledgements = vec![Acknowledgement {
        removed: true,
        ..ack("v", 1, 1)
    }];
    assert!(send(&mut gateways, delta).0);
    let run = gateways.pods["a"].run.as_ref().unwrap();
    let in_force = InForce {
        generation: 2,
        step: 6,
        decision_id: "d".into(),
        reachable: None,
        key: String::new(),
    };
    assert_eq!(run.acknowledged.get("w"), Some(&in_force));
    assert_eq!(run.acknowledged.get("v"), None);
}

#[tokio::test]
async fn counts_survive_the_restart_of_a_gateway_and_the_end_of_its_pod() {
    let mut gateways = fleet(&[("a", true, Some((1, 1)))]);
    let mut report = full("a", "b1");
    report.seq = 2;
    report.counters = vec![row(1, 10, 2), row(2, 5, 1)];
    send(&mut gateways, report);
    let since = |gateways: &Gateways, step| gateways.counters_since("w", "t", step).requests;
    assert_eq!((since(&gateways, 1), since(&gateways, 2)), (15, 5));
    assert_eq!(gateways.in_flight(Plane::Cloud, "w", "t"), Some(3));

    let mut restarted = full("a", "b2");
    restarted.counters = vec![row(2, 1, 1)];
    send(&mut gateways, restarted);
    assert_eq!((since(&gateways, 1), since(&gateways, 2)), (16, 6));
    assert_eq!(gateways.in_flight(Plane::Cloud, "w", "t"), Some(1));

    gateways.set_pods(&[pod("c", "cloud", true)]);
    assert_eq!((since(&gateways, 1), since(&gateways, 2)), (16, 6));
    assert_eq!(
        gateways.in_flight(Plane::Cloud, "w", "t"),
        None,
        "c is not connected"
    );
    assert_eq!(gateways.usage("w").unwrap().total().requests, 16);
    gateways.retain(|_| false);
    assert_eq!(gateways.usage("w"), None);
    assert_eq!(since(&gateways, 1), 0);
}

#[tokio::test]
async fn a_row_that_goes_backwards_within_a_run_is_dropped() {
    let mut gateways = fleet(&[("a", true, None)]);
    let mut reasons = Vec::new();
    for (seq, requests) in [(2, 10), (3, 4), (4, 11)] {
        let mut report = full("a", "b1");
        (report.full, report.seq) = (false, seq);
        report.counters = vec![row(1, requests, 0)];
        gateways.report("a", report, (Instant::now(), Timestamp::now()), &mut |r| {
            reasons.push(r)
        });
    }
    assert_eq!(reasons, ["counters-backwards"]);
    assert_eq!(gateways.counters_since("w", "t", 0).requests, 11);
}

#[tokio::test]
async fn the_last_request_of_a_target_is_announced() {
    let mut gateways = fleet(&[("a", true, None)]);
    let mut changes = Vec::new();
    for (seq, in_flight) in [(2, 1), (3, 2), (4, 0), (5, 0)] {
        let mut report = full("a", "b1");
        (report.full, report.seq) = (false, seq);
        report.counters = vec![row(1, seq, in_flight)];
        changes.push(send(&mut gateways, report).1.len());
    }
    assert_eq!(changes, [0, 0, 1, 0]);
}

#[tokio::test]
async fn what_a_gateway_says_of_a_workload_of_the_other_plane_is_dropped() {
    let mut gateways = fleet(&[("a", true, None)]);
    gateways.set_plane("w", Plane::Local);
    gateways.set_plane("mine", Plane::Cloud);
    let mut reasons = Vec::new();
    let mut report = full("a", "b1");
    (report.full, report.seq) = (false, 2);
    let of = |uid: &str, row: Counters| Counters {
        uid: uid.into(),
        ..row
    };
    report.acknowledgements = vec![ack("w", 1, 1), ack("mine", 1, 1)];
    report.counters = vec![row(1, 9, 1), of("mine", row(1, 5, 0))];
    report.minutes = vec![Minute {
        uid: "w".into(),
        start: Timestamp::now().as_second() / 60 * 60,
        requests: 1_000_000,
        ..Minute::default()
    }];
    report.wake_ups = vec![WakeUp {
        uid: "w".into(),
        target: "t".into(),
    }];
    let at = (Instant::now(), Timestamp::now());
    let (accepted, changes) = gateways.report("a", report, at, &mut |r| reasons.push(r));
    assert!(accepted, "its own rows count");
    assert_eq!(reasons, ["other-plane"; 4]);
    assert_eq!(gateways.counters_since("mine", "t", 0).requests, 5);
    assert_eq!(gateways.counters_since("w", "t", 0).requests, 0);
    assert_eq!(gateways.usage("w"), None);
    assert_eq!(gateways.demand("w", Timestamp::now()), None);
    assert_eq!(gateways.wake_requested("w", "t"), None);
    let of_w = TelemetryChange::Workload("w".into());
    assert!(!changes.contains(&of_w), "nobody looks at it for that");
}

#[tokio::test]
async fn a_report_of_another_pod_is_dropped() {
    let mut gateways = fleet(&[("a", true, None)]);
    let mut reasons = Vec::new();
    let (accepted, _) = gateways.report(
        "a",
        full("b", "b1"),
        (Instant::now(), Timestamp::now()),
        &mut |r| reasons.push(r),
    );
    assert_eq!((accepted, reasons), (false, vec!["wrong-pod"]));
}

#[tokio::test]
async fn demand_is_none_without_reports_and_zero_without_traffic() {
    let mut gateways = fleet(&[("a", true, None)]);
    let now = Timestamp::now();
    assert_eq!(gateways.demand("w", now), None);
    let mut report = full("a", "b1");
    (report.full, report.seq) = (false, 2);
    report.acknowledgements = vec![ack("w", 1, 1)];
    send(&mut gateways, report.clone());
    let figures = gateways.demand("w", now).unwrap().figures;
    assert_eq!(figures.requests_per_month.unwrap().get(), 0);
    let start = now.as_second() - now.as_second() % 60 - 600;
    report.seq = 3;
    report.minutes = vec![
        Minute {
            uid: "w".into(),
            start,
            requests: 20,
            input_tokens: 200,
            ..Minute::default()
        },
        Minute {
            uid: "w".into(),
            start: start + 7,
            requests: 1000,
            ..Minute::default()
        },
    ];
    send(&mut gateways, report.clone());
    report.seq = 4;
    report.full = true;
    send(&mut gateways, report);
    let demand = gateways.demand("w", now).unwrap();
    assert_eq!(demand.figures.input_p50.unwrap().get(), 10);
    let span = demand.span.get();
    let monthly = 20 * 730 * 3600 / span;
    assert_eq!(demand.figures.requests_per_month.unwrap().get(), monthly);
    assert_eq!(gateways.last_request("w").unwrap().as_second(), start);
}

#[tokio::test]
async fn a_wake_up_is_kept_for_workloads_that_are_known() {
    let mut gateways = fleet(&[("a", true, Some((1, 1)))]);
    let mut report = full("a", "b1");
    (report.full, report.seq) = (false, 2);
    report.wake_ups = ["w", "unknown"]
        .map(|uid| WakeUp {
            uid: uid.into(),
            target: "t".into(),
        })
        .to_vec();
    let (_, changes) = send(&mut gateways, report);
    assert_eq!(changes, [TelemetryChange::Workload("w".into())]);
    assert!(gateways.wake_requested("w", "t").is_some());
    assert!(gateways.wake_requested("unknown", "t").is_none());
}

#[tokio::test(start_paused = true)]
async fn latency_is_of_the_last_ten_minutes() {
    let mut gateways = fleet(&[("a", true, None)]);
    let mut buckets = vec![0; BUCKETS];
    let mut seq = 1;
    let mut tell = |gateways: &mut Gateways, at: usize, count: u64| {
        buckets[at] += count;
        seq += 1;
        let mut report = full("a", "b1");
        (report.full, report.seq) = (false, seq);
        report.counters = vec![Counters {
            ttft_buckets: buckets.clone(),
            ..row(1, seq, 0)
        }];
        send(gateways, report);
    };
    tell(&mut gateways, 13, 100);
    let slow = gateways.ttft_p95("w", "t", Instant::now()).unwrap().get();
    assert!(slow > 10_000, "{slow}");
    tokio::time::sleep(Duration::from_secs(601)).await;
    assert_eq!(gateways.ttft_p95("w", "t", Instant::now()), None);
    tell(&mut gateways, 0, 20);
    assert_eq!(
        gateways.ttft_p95("w", "t", Instant::now()).unwrap().get(),
        10
    );
}

#[tokio::test]
async fn the_gateway_that_heard_from_a_provider_last_tells_its_circuit() {
    let mut gateways = fleet(&[("a", true, None), ("b", true, None)]);
    for (pod, circuit, contact, error) in [
        ("a", Circuit::Open, 100, Some(50.0)),
        ("b", Circuit::Closed, 200, Some(f64::NAN)),
    ] {
        let mut report = full(pod, "b1");
        (report.full, report.seq) = (false, 2);
        report.providers = vec![ProviderState {
            provider: "p".into(),
            circuit: circuit.into(),
            last_contact: Some(contact),
            error_percent: error,
            ..ProviderState::default()
        }];
        let (_, changes) = send(&mut gateways, report);
        assert_eq!(changes, [TelemetryChange::Provider("p".into())]);
    }
    let provider = gateways.provider("p").unwrap();
    assert_eq!(provider.circuit, Some(Circuit::Closed));
    assert_eq!(provider.error_percent, Some(50.0));
    let mut says = |pod: &str, seq, circuit: Circuit, failure: &str| {
        let mut report = full(pod, "b1");
        (report.full, report.seq) = (false, seq);
        report.providers = vec![ProviderState {
            provider: "p".into(),
            circuit: circuit.into(),
            last_contact: (circuit != Circuit::Unspecified).then_some(300),
            failure: failure.into(),
            ..ProviderState::default()
        }];
        let told = !send(&mut gateways, report).1.is_empty();
        let provider = gateways.provider("p").unwrap();
        (provider.circuit, provider.failure, told)
    };
    let down = || (Some(Circuit::Open), Some("refused".to_owned()), true);
    assert_eq!(says("a", 3, Circuit::Open, "refused"), down());
    let quiet = (down().0, down().1, false);
    assert_eq!(
        says("a", 4, Circuit::HalfOpen, "refused"),
        quiet,
        "a trial is no news"
    );
    let starting = says("b", 3, Circuit::Unspecified, "");
    assert_eq!(starting, down(), "one that starts has no verdict");
    assert_eq!(gateways.provider("q"), None);
}

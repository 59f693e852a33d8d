use super::*;
use rstest::rstest;

fn report(seq: u64, cpu: f64) -> AgentReport {
    AgentReport {
        node_name: "n1".into(),
        boot_id: "b1".into(),
        seq,
        monotonic_ms: seq * 5000,
        cpu: Some(CpuReading {
            utilization_percent: Some(cpu),
            ..CpuReading::default()
        }),
        ..AgentReport::default()
    }
}

fn device(uuid: &str, percent: f64) -> DeviceReading {
    DeviceReading {
        uuid: uuid.into(),
        utilization_percent: Some(percent),
        ..DeviceReading::default()
    }
}

fn accept(agents: &mut Agents, report: AgentReport, now: Instant) -> (bool, Vec<&'static str>) {
    let mut reasons = Vec::new();
    let (accepted, _) = agents.report("n1", report, now, &mut |reason| reasons.push(reason));
    (accepted, reasons)
}

fn percent_of(agents: &Agents, processor: Processor, now: Instant) -> Option<u8> {
    let percent = agents.heard("n1", processor, now)?.percent();
    percent.map(|percent| percent.round() as u8)
}

fn cpu(agents: &Agents, now: Instant) -> Option<u8> {
    percent_of(agents, Processor::Cpu, now)
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_falls_silent_is_unknown_within_fifteen_seconds() {
    let mut agents = Agents::default();
    let (_, changes) = agents.report("n1", report(1, 40.0), Instant::now(), &mut |_| {});
    assert_eq!(changes, [TelemetryChange::Node("n1".into())]);
    tokio::time::sleep(Duration::from_millis(14_900)).await;
    assert_eq!(cpu(&agents, Instant::now()), Some(40));
    assert_eq!(agents.expire(Instant::now()), []);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(cpu(&agents, Instant::now()), None);
    assert_eq!(
        agents.expire(Instant::now()),
        [TelemetryChange::Node("n1".into())]
    );
    assert_eq!(agents.expire(Instant::now()), []);
    let (_, changes) = agents.report("n1", report(2, 40.0), Instant::now(), &mut |_| {});
    assert_eq!(changes, [TelemetryChange::Node("n1".into())]);
}

#[rstest]
#[case(f64::NAN)]
#[case(f64::INFINITY)]
#[case(f64::NEG_INFINITY)]
#[case(-1.0)]
#[case(101.0)]
#[case(1e30)]
#[case(4294967295.0)]
#[tokio::test(start_paused = true)]
async fn garbage_is_dropped_and_the_last_good_value_lives_until_it_is_too_old(#[case] value: f64) {
    let mut agents = Agents::default();
    assert!(accept(&mut agents, report(1, 40.0), Instant::now()).0);
    for seq in 2..=4 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (accepted, reasons) = accept(&mut agents, report(seq, value), Instant::now());
        assert!(accepted);
        assert_eq!(reasons, ["out-of-range"]);
        let expected = if seq < 4 { Some(40) } else { None };
        assert_eq!(cpu(&agents, Instant::now()), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn old_reports_of_the_same_run_are_dropped_and_a_new_run_counts_anew() {
    let now = Instant::now();
    let mut agents = Agents::default();
    assert!(accept(&mut agents, report(5, 40.0), now).0);
    assert_eq!(
        accept(&mut agents, report(4, 1.0), now),
        (false, vec!["not-monotonic"])
    );
    assert_eq!(
        accept(&mut agents, report(5, 1.0), now),
        (false, vec!["not-monotonic"])
    );
    let mut frozen = report(6, 1.0);
    frozen.monotonic_ms = 25_000;
    assert_eq!(
        accept(&mut agents, frozen, now),
        (false, vec!["not-monotonic"])
    );
    assert_eq!(cpu(&agents, now), Some(40));
    let mut restarted = report(1, 60.0);
    restarted.boot_id = "b2".into();
    assert!(accept(&mut agents, restarted, now).0);
    assert_eq!(cpu(&agents, now), Some(60));
}

#[tokio::test(start_paused = true)]
async fn an_agent_speaks_for_its_own_node_only() {
    let mut agents = Agents::default();
    let mut other = report(1, 1.0);
    other.node_name = "n2".into();
    assert_eq!(
        accept(&mut agents, other, Instant::now()),
        (false, vec!["wrong-node"])
    );
    assert_eq!(cpu(&agents, Instant::now()), None);
}

#[tokio::test(start_paused = true)]
async fn gpus_are_averaged_and_a_device_with_impossible_memory_does_not_count() {
    let now = Instant::now();
    let mut agents = Agents::default();
    let mut first = report(1, 1.0);
    let mut impossible = device("c", 0.0);
    impossible.memory_used_bytes = Some(2);
    impossible.memory_total_bytes = Some(1);
    first.devices = vec![device("a", 80.0), device("b", 40.0), impossible];
    assert_eq!(accept(&mut agents, first, now).1, ["device-inconsistent"]);
    assert_eq!(percent_of(&agents, Processor::Gpu, now), Some(60));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_reads_no_gpu_is_heard_and_one_that_is_stuck_or_silent_is_not() {
    let now = Instant::now();
    let mut agents = Agents::default();
    assert!(accept(&mut agents, report(1, 50.0), now).0);
    let heard = |agents: &Agents, at| agents.heard("n1", Processor::Gpu, at);
    assert!(matches!(heard(&agents, now), Some(Heard::NotMeasurable(_))));
    let mut said = report(2, 50.0);
    let mut say = |state: MeasurementState, seq| {
        said.seq = seq;
        said.monotonic_ms = seq * 5000;
        said.accelerators = Some(Measurement {
            state: state.into(),
            reason: "VersionMismatch".into(),
            message: "driver and library differ".into(),
        });
        assert!(accept(&mut agents, said.clone(), now).0);
        heard(&agents, now)
    };
    let why = "VersionMismatch: driver and library differ".to_owned();
    let failed = say(MeasurementState::Lost, 2);
    assert_eq!(failed, Some(Heard::Failed(why.clone())));
    let unmeasured = say(MeasurementState::NotMeasurable, 3);
    assert_eq!(unmeasured, Some(Heard::NotMeasurable(why)));
    let silent = now + REPORT_TTL;
    assert_eq!(heard(&agents, silent), None);
    let mut stuck = report(4, 50.0);
    (stuck.sampler_stuck, stuck.cpu) = (true, None);
    assert!(accept(&mut agents, stuck, now).0);
    assert_eq!(heard(&agents, now), None);
    assert_eq!(agents.heard("n2", Processor::Gpu, now), None);
}

#[test]
fn an_engine_with_a_queue_is_full_and_one_without_requests_is_empty() {
    let engine = |running, waiting, kv| EngineObservation {
        reachable: true,
        requests_running: running,
        requests_waiting: waiting,
        kv_utilization_percent: kv,
        ..EngineObservation::default()
    };
    assert_eq!(
        engine(Some(4), Some(1), Some(30.0)).occupancy(),
        Some(100.0)
    );
    assert_eq!(engine(Some(4), Some(0), Some(30.0)).occupancy(), Some(30.0));
    assert_eq!(engine(Some(0), Some(0), Some(30.0)).occupancy(), Some(0.0));
    assert_eq!(engine(Some(4), Some(0), None).occupancy(), None);
    assert_eq!(EngineObservation::default().occupancy(), None);
}

#[tokio::test(start_paused = true)]
async fn engines_are_known_as_long_as_their_agent_speaks() {
    let mut agents = Agents::default();
    let mut first = report(1, 1.0);
    first.engines = vec![EngineReading {
        pod_uid: "p".into(),
        reachable: true,
        benchmark_tokens_per_second: Some(f64::NAN),
        requests_running: Some(3),
        ..EngineReading::default()
    }];
    assert_eq!(
        accept(&mut agents, first, Instant::now()).1,
        ["out-of-range"]
    );
    let engine = agents.engine("n1", "p", Instant::now()).unwrap();
    assert_eq!(engine.requests_running, Some(3));
    assert_eq!(engine.benchmark_tokens_per_second, None);
    assert_eq!(agents.engine("n2", "p", Instant::now()), None);
    tokio::time::sleep(REPORT_TTL).await;
    assert_eq!(agents.engine("n1", "p", Instant::now()), None);
}

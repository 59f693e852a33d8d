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

fn cpu(agents: &Agents, now: Instant) -> Option<u8> {
    agents.utilization(["n1"], Processor::Cpu, now).percent
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
    let gpus = agents.utilization(["n1"], Processor::Gpu, now);
    assert_eq!(gpus.percent, Some(60));
}

#[tokio::test(start_paused = true)]
async fn utilization_is_unknown_when_too_many_nodes_are_silent() {
    let now = Instant::now();
    let mut agents = Agents::default();
    assert!(accept(&mut agents, report(1, 50.0), now).0);
    let two = agents.utilization(["n1", "n2"], Processor::Cpu, now);
    assert_eq!((two.percent, two.fresh, two.nodes), (None, 1, 2));
    let none = agents.utilization([], Processor::Cpu, now);
    assert_eq!((none.percent, none.nodes), (None, 0));
    assert_eq!(
        agents.utilization(["n1"], Processor::Gpu, now).percent,
        None
    );
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

//! Two hundred workloads at once, on nodes that are not there, and then quiet.

use crate::look::{self, AuditMark, Write};
use crate::world::{World, scenario};
use anyhow::{Context, Result, ensure};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use weir_crds::InferenceWorkload;
use weir_crds::condition::types;
use weir_tests::chat::Ask;
use weir_tests::fake_nodes::{Fleet, FleetSpec};
use weir_tests::stack::DEMO_NAMESPACE;

const NAMESPACE: &str = "e2e-fleet";
const WORKLOADS: usize = 200;
const LEAST_READY: usize = 195;
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Trailing status writes end within this.
const SETTLES_WITHIN: Duration = Duration::from_secs(45);
const QUIET: Duration = Duration::from_secs(60);
const TAINT: &str = "weir.test/fake";

#[test]
fn two_hundred_workloads_become_ready_and_then_nothing_is_written() {
    scenario("fleet", async |world| {
        // What earlier scenarios asked of them is written into their status minutes later.
        let examples = [
            "-n",
            DEMO_NAMESPACE,
            "delete",
            "inferenceworkloads",
            "--all",
        ];
        world.kubectl(&examples)?;
        let engine = FakeEngine::start(world)?;
        let spec = FleetSpec {
            prefix: "fleet".into(),
            nodes: WORKLOADS / 8 + 1,
            taint: Some((TAINT.into(), "true".into())),
            ..FleetSpec::default()
        };
        let spec = spec.in_range(&world.stack.cluster.facts.fake_pods)?;
        let nodes = Fleet::start(world.stack.client.clone(), spec).await?;
        world.namespace_with_model(NAMESPACE)?;
        world.stack.apply(&fleet())?;

        let outcome = ready_then_quiet(world).await;
        let evidence = outcome
            .as_ref()
            .err()
            .map(|_| world.stack.cluster.evidence());
        world.clear(NAMESPACE)?;
        nodes.remove().await?;
        world.kubectl(&["delete", "gputiers,modelprofiles", "fleet"])?;
        drop(engine);
        match evidence {
            Some(evidence) => outcome.context(evidence),
            None => outcome,
        }
    });
}

async fn ready_then_quiet(world: &World) -> Result<()> {
    let begun = Instant::now();
    tokio::task::block_in_place(|| world.stack.apply(&workloads()))?;
    let applied = begun.elapsed();
    let ready = most_are_ready(world, begun).await?;
    println!(
        "fleet: {WORKLOADS} workloads applied in {:.1} s; {ready} Ready after {:.1} s",
        applied.as_secs_f64(),
        begun.elapsed().as_secs_f64()
    );
    settled(world).await?;
    quiet(world).await?;
    // Only now, for what was asked is written into status at some time.
    some_answer(world).await
}

async fn most_are_ready(world: &World, begun: Instant) -> Result<usize> {
    let api: Api<InferenceWorkload> = Api::namespaced(world.stack.client.clone(), NAMESPACE);
    loop {
        let list = api.list(&ListParams::default()).await?;
        let (ready, waiting): (Vec<_>, Vec<_>) = list.items.iter().partition(|workload| {
            look::condition(workload, types::READY).is_some_and(|ready| ready.status == "True")
        });
        if ready.len() == WORKLOADS {
            return Ok(WORKLOADS);
        }
        if begun.elapsed() > READY_WITHIN {
            let reasons = reasons(&waiting);
            println!("fleet: not Ready: {reasons:?}");
            ensure!(
                ready.len() >= LEAST_READY,
                "{} are Ready after {READY_WITHIN:?}, the rest: {reasons:#?}",
                ready.len()
            );
            ensure!(
                reasons.keys().all(|reason| !reason.is_empty()),
                "workloads without a typed reason: {reasons:#?}"
            );
            return Ok(ready.len());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// How many workloads are not Ready, by reason, with one message each.
fn reasons(waiting: &[&InferenceWorkload]) -> BTreeMap<String, (usize, String)> {
    let mut reasons: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for workload in waiting {
        let ready = look::condition(workload, types::READY);
        let reason = ready.map(|ready| ready.reason.clone()).unwrap_or_default();
        let message = ready.map(|ready| ready.message.clone()).unwrap_or_default();
        let entry = reasons
            .entry(reason)
            .or_insert((0, format!("{}: {message}", workload.name_any())));
        entry.0 += 1;
    }
    reasons
}

/// Requests reach the fake engine through the gateway and the workloads' own Services.
async fn some_answer(world: &World) -> Result<()> {
    for number in [0, WORKLOADS / 2, WORKLOADS - 1] {
        let endpoint = world.stack.endpoint(NAMESPACE, &name(number)).await?;
        let ask = Ask {
            prompt: "Say hello.".into(),
            max_tokens: 4,
            stream: false,
        };
        let answer = endpoint.chat(&ask).await?;
        ensure!(
            answer.is_good() && answer.text == "from the fake engine",
            "{}: {answer:#?}",
            name(number)
        );
    }
    Ok(())
}

/// Waits until ten seconds went by without a write.
async fn settled(world: &World) -> Result<()> {
    let begun = Instant::now();
    loop {
        let mark = AuditMark::now(&world.stack)?;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let writes = mark.writes()?;
        if writes.iter().all(is_telemetry) {
            println!(
                "fleet: settled after {:.0} s",
                begun.elapsed().as_secs_f64()
            );
            return Ok(());
        }
        let last = summary(&writes);
        ensure!(
            begun.elapsed() < SETTLES_WITHIN,
            "writes do not end: {last:#?}"
        );
    }
}

async fn quiet(world: &World) -> Result<()> {
    let mark = AuditMark::now(&world.stack)?;
    tokio::time::sleep(QUIET).await;
    let writes = mark.writes()?;
    let (telemetry, others): (Vec<Write>, Vec<Write>) = writes.into_iter().partition(is_telemetry);
    println!(
        "fleet: {} writes in {QUIET:?}, and {} of telemetry: {:?}",
        others.len(),
        telemetry.len(),
        summary(&telemetry)
    );
    ensure!(
        others.is_empty(),
        "writes although nothing changed: {:#?}",
        summary(&others)
    );
    for (what, count) in summary(&telemetry) {
        ensure!(
            count <= 1,
            "{what}: {count} telemetry writes within a minute: {telemetry:#?}"
        );
    }
    Ok(())
}

/// What tiers and nodes say of their utilization.
fn is_telemetry(write: &Write) -> bool {
    ["gputiers/status", "gpunodes/status"].contains(&write.resource.as_str())
}

fn summary(writes: &[Write]) -> BTreeMap<String, usize> {
    let mut summary = BTreeMap::new();
    for write in writes {
        let what = format!(
            "{} {} {} {}",
            write.by, write.verb, write.resource, write.object
        );
        *summary.entry(what).or_default() += 1;
    }
    summary
}

fn name(number: usize) -> String {
    format!("fleet-{number:03}")
}

fn workloads() -> Vec<Value> {
    let workload = |number| {
        json!({
            "apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferenceWorkload",
            "metadata": {"name": name(number), "namespace": NAMESPACE},
            "spec": {
                "demand": {
                    "source": "Declared", "requestsPerMonth": 100_000 + number,
                    "inputTokens": {"p50": 400}, "outputTokens": {"p50": 100},
                },
                "targets": [{"name": "local", "local": {
                    "modelRef": {"name": "fleet"}, "tiers": ["fleet"], "scaling": {"minReplicas": 1, "maxReplicas": 1},
                }}],
            },
        })
    };
    (0..WORKLOADS).map(workload).collect()
}

fn fleet() -> Vec<Value> {
    vec![
        json!({
            "apiVersion": "inference.weir.dev/v1alpha1", "kind": "GPUTier", "metadata": {"name": "fleet"},
            "spec": {
                "nodeSelector": {TAINT: "true"},
                "tolerations": [{"key": TAINT, "operator": "Exists", "effect": "NoSchedule"}],
                "sharing": "Exclusive", "resource": {"name": "nvidia.com/gpu", "count": "1"}, "memory": "44Gi",
                "cost": {"rented": {"usdPerHour": "0.9"}},
            },
        }),
        json!({
            "apiVersion": "inference.weir.dev/v1alpha1", "kind": "ModelProfile", "metadata": {"name": "fleet"},
            "spec": {
                "source": "pvc://models/fleet.gguf", "sha256": "0".repeat(64), "contextTokens": 8192, "memory": "16Gi",
                "assumedThroughput": [{"tier": "fleet", "outputTokensPerSecond": 1000}],
            },
        }),
    ]
}

/// One process in the node's namespaces that every pod address of the fake nodes reaches.
struct FakeEngine(Child);

impl FakeEngine {
    fn start(world: &World) -> Result<Self> {
        let cluster = &world.stack.cluster;
        let route = [
            "ip",
            "route",
            "replace",
            "local",
            &cluster.facts.fake_pods,
            "dev",
            "lo",
        ];
        weir_tests::cluster::output(&mut cluster.enter(route))?;
        let mut command = cluster.enter([env!("CARGO_BIN_EXE_weir-fake-engine")]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.context("starting the fake engine")?;
        let stdout = child
            .stdout
            .take()
            .context("the fake engine has no stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(
            line.starts_with("listening"),
            "the fake engine does not listen: {line:?}"
        );
        Ok(Self(child))
    }
}

impl Drop for FakeEngine {
    /// It ends with its stdin.
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

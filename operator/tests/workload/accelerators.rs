//! Agents over a fake of NVIDIA's library, a tier's controller and a workload: whatever the driver does, the tier's status
//! says it, and cost moves the workload on and off the tier.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use weir_node_agent::telemetry::gpu::GpuSource;
use weir_node_agent::telemetry::metrics::Metrics;
use weir_node_agent::telemetry::sampler::Sampler;
use weir_node_agent::telemetry::service::AgentService;
use weir_node_agent::telemetry::source::Source;
use weir_operator::kinds::tiers;
use weir_operator::telemetry::Telemetry;
use weir_proto::AgentRequest;
use weir_proto::agent_client::AgentClient;
use weir_proto::agent_server::AgentServer;

use super::fixtures::{Cluster, eventually, hybrid};

#[allow(dead_code)]
#[path = "../../../node-agent/tests/telemetry/fake_nvml.rs"]
mod fake_nvml;

use fake_nvml::{FakeNvml, bus, source};

const DEAR: &str = "100";
const CHEAP: &str = "0.01";
const NODES: [&str; 5] = ["n1", "n2", "n3", "n4", "n5"];
const INTERVAL: Duration = Duration::from_secs(1);
const NO_LIBRARY: &str = "/nonexistent/libnvidia-ml.so.1";

/// A tier of GPUs over five nodes with two each, and their agents.
struct Fleet {
    cluster: Cluster,
    drivers: Vec<FakeNvml>,
    agents: Vec<CancellationToken>,
    tasks: JoinSet<()>,
}

impl Fleet {
    /// With drivers in these states.
    fn new(modes: [&str; 5]) -> Self {
        let cluster = Cluster::new(CHEAP);
        let spec = json!({"spec": {"sharing": "Exclusive", "resource": {"name": "nvidia.com/gpu", "count": "1"}}});
        cluster.ask("patch", ("gputiers", "", "cpu"), spec);
        for name in NODES {
            let node = json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": name, "labels": {"weir/tier": "cpu"}},
                "status": {"allocatable": {"nvidia.com/gpu": "2"}, "conditions": [{"type": "Ready", "status": "True"}]},
            });
            cluster.api.seed(&node).expect("seeds");
            let reported = json!({
                "apiVersion": "inference.weir.dev/v1alpha1", "kind": "GPUNode", "metadata": {"name": name},
                "spec": {}, "status": {"deviceCount": 2},
            });
            cluster.api.seed(&reported).expect("seeds");
        }
        Self {
            cluster,
            drivers: modes.map(FakeNvml::new).into(),
            agents: Vec::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Agents read these libraries, and the operator hears them.
    fn report(&mut self, telemetry: &Telemetry, library: impl Fn(&FakeNvml) -> PathBuf) {
        for (node, driver) in NODES.iter().zip(&self.drivers) {
            let library = library(driver);
            let folder = driver.library();
            let sys = bus(folder.parent().expect("a folder"), 2);
            let stop = CancellationToken::new();
            let agent = agent(node, source(&library, &sys), stop.clone());
            self.agents.push(stop.clone());
            let telemetry = telemetry.clone();
            self.tasks.spawn(async move {
                let hears = hear(node, agent, telemetry);
                let _ = stop.run_until_cancelled(hears).await;
            });
        }
    }

    fn said(&self) -> Value {
        let tier = self
            .cluster
            .api
            .object("gputiers.inference.weir.dev", "", "cpu");
        let tier = tier.expect("the tier");
        let conditions = tier["status"]["conditions"].as_array().cloned();
        let mut conditions = conditions.unwrap_or_default().into_iter();
        let known = conditions.find(|it| it["type"] == "UtilizationKnown");
        known.unwrap_or_default()
    }

    /// Waits until the tier's status has this reason and these words.
    async fn says(&self, reason: &str, words: &str) {
        let there = || {
            let said = self.said();
            let message = said["message"].as_str().unwrap_or_default();
            said["reason"] == reason && message.contains(words)
        };
        eventually(&format!("{reason}: {words}"), there).await;
    }

    /// Cost moves the workload on the tier, and off it.
    async fn moves_on_and_off(&self) {
        let there = |target| self.cluster.settled_on("hybrid", target);
        eventually("on the cloud", || there("cloud")).await;
        self.cluster.set_price(DEAR);
        eventually("on the tier", || there("here")).await;
        self.cluster.set_price(CHEAP);
        eventually("on the cloud again", || there("cloud")).await;
    }
}

fn agent(node: &str, source: GpuSource, stop: CancellationToken) -> AgentService {
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let sources: Vec<Box<dyn Source>> = vec![Box::new(source)];
    let deadline = Duration::from_secs(60);
    let sampler = Sampler::start(sources, INTERVAL / 2, deadline, Arc::clone(&metrics));
    AgentService::new(node, INTERVAL, sampler.expect("starts"), metrics, stop)
}

async fn hear(node: &str, agent: AgentService, telemetry: Telemetry) {
    let mut client = AgentClient::new(AgentServer::new(agent));
    let requests = tokio_stream::pending::<AgentRequest>();
    let reports = client.watch(requests).await.expect("is served");
    let mut reports = reports.into_inner();
    while let Ok(Some(report)) = reports.message().await {
        telemetry.agent_report(node, report);
    }
}

/// Runs everything, with drivers in these states and agents that read these libraries, until `judge` is done.
async fn with(
    modes: [&str; 5],
    library: impl Fn(&FakeNvml) -> PathBuf,
    judge: impl AsyncFnOnce(&Fleet),
) {
    let mut fleet = Fleet::new(modes);
    fleet.cluster.api.seed(&hybrid("hybrid")).expect("seeds");
    let operator = fleet.cluster.operator("op").await;
    let stop = CancellationToken::new();
    let tiers = tokio::spawn(tiers::run(operator.context.clone(), stop.clone()));
    fleet.report(&operator.context.telemetry, library);
    judge(&fleet).await;
    stop.cancel();
    tiers.await.expect("ends in order");
    operator.end().await;
    fleet.agents.iter().for_each(CancellationToken::cancel);
    fleet.cluster.stop();
}

#[rstest]
#[case::slices("sliced", "5 of 5 nodes, first n1: UtilizationUnsupported")]
#[case::another_driver("mismatch", "5 of 5 nodes, first n1: DriverLibraryMismatch")]
#[case::no_driver("unloaded", "5 of 5 nodes, first n1: DriverNotLoaded")]
#[case::refused("denied", "5 of 5 nodes, first n1: NoPermission")]
#[tokio::test(flavor = "multi_thread")]
async fn what_no_driver_says_is_told_and_holds_nothing(#[case] mode: &str, #[case] words: &str) {
    with([mode; 5], FakeNvml::library, async |fleet| {
        fleet.says("NotMeasurable", words).await;
        fleet.moves_on_and_off().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_without_the_library_are_told_and_hold_nothing() {
    let none = |_: &FakeNvml| Path::new(NO_LIBRARY).to_owned();
    with(["whole"; 5], none, async |fleet| {
        let words = "5 of 5 nodes, first n1: LibraryMissing";
        fleet.says("NotMeasurable", words).await;
        fleet.moves_on_and_off().await;
    })
    .await;
}

#[rstest]
#[case::slices_beside_a_whole_one("mig", "1 of 5 nodes, first n5: UtilizationUnsupported")]
#[case::another_driver("mismatch", "1 of 5 nodes, first n5: DriverLibraryMismatch")]
#[case::a_lost_gpu("lost", "1 of 5 nodes, first n5: DeviceLost")]
#[tokio::test(flavor = "multi_thread")]
async fn one_node_of_five_is_told_and_holds_nothing(#[case] mode: &str, #[case] words: &str) {
    let modes = ["whole", "whole", "whole", "whole", mode];
    with(modes, FakeNvml::library, async |fleet| {
        fleet.says("Measured", words).await;
        fleet.moves_on_and_off().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_is_lost_in_mid_run_is_told_and_holds_nothing() {
    with(["whole"; 5], FakeNvml::library, async |fleet| {
        fleet.says("Measured", "every node").await;
        fleet.drivers[4].set("gone");
        let words = "1 of 5 nodes, first n5: DeviceLost";
        fleet.says("Measured", words).await;
        fleet.moves_on_and_off().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_of_five_is_no_capacity_and_a_silent_agent_is_told() {
    with(["whole"; 5], FakeNvml::library, async |fleet| {
        fleet.says("Measured", "every node").await;
        fleet.agents[4].cancel();
        fleet
            .says("Measured", "1 of 5 nodes, first n5: its agent is silent")
            .await;
        let dead = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
        let nodes: Api<Node> = Api::all(fleet.cluster.api.client("controller"));
        let (params, dead) = (PatchParams::default(), Patch::Merge(&dead));
        let patched = nodes.patch_status("n5", &params, &dead).await;
        patched.expect("is accepted");
        fleet.says("Measured", "every node").await;
        let tier = fleet
            .cluster
            .api
            .object("gputiers.inference.weir.dev", "", "cpu");
        let status = tier.expect("the tier")["status"].clone();
        assert_eq!(
            (&status["nodes"], &status["devices"]),
            (&json!(4), &json!(8))
        );
        fleet.moves_on_and_off().await;
    })
    .await;
}

//! Clusters with Weir on them, on which the scenarios of this process take turns.

use anyhow::{Context, Result, anyhow, ensure};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use weir_crds::condition::{is_true, types};
use weir_crds::placement::Phase;
use weir_tests::cluster::{Cluster, UpOptions, build_images, model};
use weir_tests::stack::{DEMO_NAMESPACE, Examples, PRICE_HIGH, Stack};

/// Values of the chart: agents run where a kubelet does, not on fake nodes; the fake provider's pod listens on 8443.
pub const VALUES: [&str; 2] = [
    r"nodeAgent.nodeSelector.kubernetes\.io/hostname=node1",
    "networkPolicy.externalPorts={443,8443}",
];

/// No scenario takes longer.
const LIMIT: Duration = Duration::from_secs(540);

/// Weir on a cluster, with the fleet of the examples applied.
pub struct World {
    /// Weir and its fakes.
    pub stack: Stack,
    /// The chart's examples.
    pub examples: Examples,
    /// The model file.
    pub model: PathBuf,
}

struct Started {
    runtime: Runtime,
    world: Result<World, String>,
}

/// Those that no scenario has. They go with this process, for a static is never dropped.
static FREE: Mutex<Vec<Started>> = Mutex::new(Vec::new());
static NUMBER: AtomicU32 = AtomicU32::new(1);

/// Runs a scenario on a cluster that it has to itself; one is started when none is free, so there are as many as there
/// are test threads. What explains a failure is dumped into a folder that the message names.
pub fn scenario(name: &str, work: impl AsyncFnOnce(&World) -> Result<()>) {
    // Not in one expression: the lock would be held while one starts.
    let taken = free().pop();
    let started = taken.unwrap_or_else(start);
    let begun = Instant::now();
    let outcome = started.runtime.block_on(async {
        let world = started
            .world
            .as_ref()
            .map_err(|error| anyhow!("the cluster did not start: {error}"))?;
        match tokio::time::timeout(LIMIT, work(world)).await {
            Ok(Ok(())) => crate::rights::note(&world.stack),
            Ok(Err(error)) => Err(error.context(world.stack.cluster.evidence())),
            Err(_) => {
                Err(anyhow!("not done after {LIMIT:?}").context(world.stack.cluster.evidence()))
            }
        }
    });
    free().push(started);
    let took = begun.elapsed().as_secs_f64();
    match outcome {
        Ok(()) => println!("{name}: {took:.1} s"),
        Err(error) => panic!("{name}, after {took:.1} s: {error:#}"),
    }
}

fn free() -> MutexGuard<'static, Vec<Started>> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start() -> Started {
    let runtime = Runtime::new().expect("a runtime can be started");
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let world = runtime
        .block_on(install(&format!("e2e-{number}")))
        .map_err(|error| format!("{error:#}"));
    Started { runtime, world }
}

async fn install(cluster: &str) -> Result<World> {
    let model = model()?;
    let images = build_images(&[])?;
    let options = UpOptions {
        fresh: true,
        control_plane_only: false,
        keep: false,
    };
    let cluster = Cluster::up(cluster, options)?;
    let stack = Stack::install_with(cluster, images, &VALUES).await?;
    let examples = Examples::read(&stack.fakes)?;
    examples.apply_fleet(&stack, &model)?;
    Ok(World {
        stack,
        examples,
        model,
    })
}

impl World {
    /// The example workloads are applied, Ready and where they are at the price of the start: `hybrid` in the cluster.
    pub async fn examples_are_ready(&self) -> Result<()> {
        self.stack.fakes.set_modes(&BTreeMap::new()).await?;
        self.stack.fakes.set_price("acme-small", PRICE_HIGH).await?;
        self.stack.apply(&self.examples.workloads)?;
        for (name, target) in [
            ("private", "local"),
            ("hybrid", "local"),
            ("frontier", "cloud"),
        ] {
            self.settled((DEMO_NAMESPACE, name), target).await?;
        }
        Ok(())
    }

    /// Waits until a workload is Ready on a target and not moving.
    pub async fn settled(&self, workload: (&str, &str), target: &str) -> Result<()> {
        let what = format!("Ready and steady on {target}");
        let limit = Duration::from_secs(120);
        let there = |workload: &weir_crds::InferenceWorkload| {
            let Some(status) = &workload.status else {
                return false;
            };
            let steady = status.placement.as_ref().is_some_and(|placement| {
                placement.target == target && placement.phase == Phase::Steady
            });
            steady
                && status.observed_generation == workload.metadata.generation
                && is_true(&status.conditions, types::READY)
        };
        let found = self.stack.workload_until(workload, &what, limit, there);
        found.await.map(drop)
    }

    /// A namespace of one's own, where pods find the model.
    pub fn namespace_with_model(&self, name: &str) -> Result<()> {
        weir_tests::stack::namespace(&self.stack.cluster, name)?;
        self.model_volume(name)
    }

    /// The claim with the model.
    pub fn model_volume(&self, namespace: &str) -> Result<()> {
        weir_tests::stack::model_volume(&self.stack, namespace, &self.model)
    }

    /// What kubectl prints.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.stack.cluster.kubectl(arguments);
        command.stderr(std::process::Stdio::piped());
        weir_tests::cluster::output(&mut command)
    }

    /// Deletes every workload of a namespace, waits for its pods to go, and deletes it.
    pub fn clear(&self, namespace: &str) -> Result<()> {
        let namespaced = ["-n", namespace];
        let delete = ["delete", "inferenceworkloads", "--all", "--wait=true"];
        self.kubectl(&[&namespaced[..], &delete].concat())?;
        let begun = Instant::now();
        let pods = ["get", "pods", "-o", "name"];
        loop {
            let left = self.kubectl(&[&namespaced[..], &pods].concat())?;
            if left.trim().is_empty() {
                break;
            }
            ensure!(
                begun.elapsed() < Duration::from_secs(90),
                "pods of deleted workloads are left: {left}"
            );
            std::thread::sleep(Duration::from_millis(500));
        }
        self.kubectl(&["delete", "namespace", namespace, "--wait=false"])
            .map(drop)
    }

    /// An example workload under another name, to be changed.
    pub fn like(
        &self,
        example: &str,
        (namespace, name): (&str, &str),
    ) -> Result<serde_json::Value> {
        let found = self
            .examples
            .workloads
            .iter()
            .find(|workload| workload["metadata"]["name"] == example);
        let mut workload = found
            .with_context(|| format!("no example {example}"))?
            .clone();
        workload["metadata"] = serde_json::json!({"namespace": namespace, "name": name});
        Ok(workload)
    }

    /// How often containers of Weir's own pods were restarted, which must not end by a panic.
    pub fn restarts(&self) -> Result<String> {
        let path = "jsonpath={range .items[*]}{.metadata.name}={.status.containerStatuses[*].restartCount} {end}";
        self.kubectl(&["-n", "weir-system", "get", "pods", "-o", path])
    }

    /// No component has written of a panic.
    pub fn nothing_panicked(&self) -> Result<()> {
        for component in ["operator", "gateway", "node-agent"] {
            let selector = format!("app.kubernetes.io/component={component}");
            let logs = self.kubectl(&[
                "-n",
                "weir-system",
                "logs",
                "-l",
                &selector,
                "--tail=-1",
                "--max-log-requests=20",
            ])?;
            let panics: Vec<&str> = logs
                .lines()
                .filter(|line| line.contains("panicked at"))
                .collect();
            ensure!(panics.is_empty(), "{component} panicked: {panics:#?}");
        }
        Ok(())
    }
}

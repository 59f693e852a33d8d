//! The operator as a process on the host.

use super::points;
use crate::world::World;
use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, Patch};
use serde_json::json;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use weir_tests::cluster::{output, repository};
use weir_tests::fault_proxy::{FaultProxy, Upstream};
use weir_tests::stack::{RELEASE_NAMESPACE, Stack};
use weir_tests::wait;

const DEPLOYMENT: &str = "weir-operator";
/// A renewal may wait for a busy machine; the same holder comes back at once, so this delays nothing.
const LEASE: [&str; 3] = [
    "--lease-duration=6s",
    "--renew-deadline=4s",
    "--retry-period=1s",
];

/// The operator, which is started anew when it is killed.
pub struct Operator {
    launch: Launch,
    child: Mutex<Option<Child>>,
    replicas: i32,
}

struct Launch {
    program: PathBuf,
    arguments: Vec<String>,
    folder: PathBuf,
}

/// Starts the operator behind a proxy, in place of the chart's pods.
pub async fn start(world: &World, folder: &Path) -> Result<(Arc<Operator>, FaultProxy)> {
    let program = build()?;
    let deployment = deployments(&world.stack).get(DEPLOYMENT).await?;
    let spec = deployment.spec.unwrap_or_default();
    let launch = Launch {
        arguments: arguments(&spec)?,
        program,
        folder: folder.to_owned(),
    };
    std::fs::write(folder.join("hosts"), hosts(world)?)?;
    let operator = Arc::new(Operator {
        launch,
        child: Mutex::default(),
        replicas: spec.replicas.unwrap_or(1),
    });
    let config = kube::config::Kubeconfig::read_from(&world.stack.cluster.facts.kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await?;
    let mortal = Arc::clone(&operator);
    let kill = move |_: &_, _| {
        if let Err(error) = mortal.restart() {
            eprintln!("crash: {error:#}");
        }
    };
    let upstream = Upstream::of(&config)?;
    let proxy = FaultProxy::start(upstream, Box::new(points::name), Box::new(kill)).await?;
    let token = [
        "-n",
        RELEASE_NAMESPACE,
        "create",
        "token",
        DEPLOYMENT,
        "--duration=2h",
    ];
    let token = world.kubectl(&token)?;
    std::fs::write(folder.join("kubeconfig"), proxy.kubeconfig(token.trim()))?;
    scale(&world.stack, 0).await?;
    operator.restart()?;
    Ok((operator, proxy))
}

/// Builds the operator in the profile, and into the folder, that this test was built in.
fn build() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let profile = test
        .parent()
        .and_then(Path::parent)
        .context("the test is not in a target folder")?;
    let target = profile.parent().context("the profile has no folder")?;
    let mut cargo = weir_tests::cluster::cargo();
    cargo
        .current_dir(repository())
        .args([
            "build",
            "--locked",
            "-p",
            "weir-operator",
            "--bin",
            "weir-operator",
            "--target-dir",
        ])
        .arg(target);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    output(cargo.stderr(Stdio::piped()))?;
    Ok(profile.join("weir-operator"))
}

/// What the chart tells it, with a Lease of a quicker pace.
fn arguments(spec: &DeploymentSpec) -> Result<Vec<String>> {
    let pod = spec.template.spec.as_ref();
    let container = pod.and_then(|pod| pod.containers.first());
    let told = container.and_then(|container| container.args.clone());
    let flag = |argument: &str| argument.split('=').next().unwrap_or_default().to_owned();
    let mut arguments = told.context("the operator's pod has no arguments")?;
    arguments.retain(|argument| LEASE.iter().all(|ours| flag(ours) != flag(argument)));
    arguments.extend(LEASE.map(str::to_owned));
    arguments.extend(["--log-format=plain", "--metrics-address=127.0.0.1:0"].map(str::to_owned));
    Ok(arguments)
}

/// The host's names, and those of the fakes, for the host does not ask the cluster's DNS.
fn hosts(world: &World) -> Result<String> {
    let fakes = [
        "-n",
        "weir-fakes",
        "get",
        "service",
        "fake-cloud",
        "-o",
        "jsonpath={.spec.clusterIP}",
    ];
    let address = world.kubectl(&fakes)?;
    let own = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    Ok(format!("{own}\n{address} fake-cloud.weir-fakes.svc\n"))
}

fn deployments(stack: &Stack) -> Api<Deployment> {
    Api::namespaced(stack.client.clone(), RELEASE_NAMESPACE)
}

/// Scales the chart's Deployment, and waits for its pods.
async fn scale(stack: &Stack, replicas: i32) -> Result<()> {
    let deployments = deployments(stack);
    let patch = json!({"spec": {"replicas": replicas}});
    deployments
        .patch(DEPLOYMENT, &Default::default(), &Patch::Merge(&patch))
        .await?;
    let pods: Api<Pod> = Api::namespaced(stack.client.clone(), RELEASE_NAMESPACE);
    let ours = ListParams::default().labels("app.kubernetes.io/component=operator");
    let what = format!("{DEPLOYMENT} has {replicas} pods");
    wait::until(&what, Duration::from_secs(90), || async {
        let pods = pods.list(&ours).await?.items.len();
        let status = deployments.get(DEPLOYMENT).await?.status;
        let ready = status.and_then(|status| status.ready_replicas).unwrap_or(0);
        let there = i32::try_from(pods) == Ok(replicas) && ready == replicas;
        Ok(if there { Ok(()) } else { Err((pods, ready)) })
    })
    .await
}

impl Operator {
    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder's file with its log.
    pub fn log(&self) -> PathBuf {
        self.launch.folder.join("operator.log")
    }

    /// SIGKILL, and a start such as that of a restarted container: under the same name and UID.
    fn restart(&self) -> Result<()> {
        let mut child = self.child();
        end(&mut child)?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())?;
        let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
        let started = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script])
            .arg(self.launch.folder.join("hosts"))
            .arg(&self.launch.program)
            .args(&self.launch.arguments)
            .env("KUBECONFIG", self.launch.folder.join("kubeconfig"))
            .env("POD_NAMESPACE", RELEASE_NAMESPACE)
            .env("POD_NAME", "weir-operator-0")
            .env("POD_UID", "00000000-0000-4000-8000-000000000001")
            .env("RUST_LOG", "info,kube=warn")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting the operator")?;
        *child = Some(started);
        Ok(())
    }

    /// Ends it, and gives its place back to the chart's pods.
    pub async fn replace_by_pods(&self, stack: &Stack) -> Result<()> {
        end(&mut self.child())?;
        scale(stack, self.replicas).await
    }

    /// It runs, has not ended by itself, and never panicked.
    pub fn is_well(&self) -> Result<()> {
        match self.child().as_mut() {
            None => bail!("the operator was not started again"),
            Some(child) => {
                let ended = child.try_wait()?;
                ensure!(ended.is_none(), "the operator ended by itself: {ended:?}");
            }
        }
        let log = std::fs::read_to_string(self.log())?;
        let panic = log.lines().find(|line| line.contains("panicked at"));
        ensure!(panic.is_none(), "the operator panicked: {panic:?}");
        Ok(())
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // Nothing is left to tell it to.
        let _ = end(&mut self.child());
    }
}

/// SIGKILL; it is gone when this returns.
fn end(child: &mut Option<Child>) -> Result<()> {
    if let Some(mut child) = child.take() {
        child.kill().context("killing the operator")?;
        child.wait().context("waiting for the operator's end")?;
    }
    Ok(())
}

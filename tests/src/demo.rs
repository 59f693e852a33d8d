//! The demo: eight steps on a real control plane, each checked and printed.

mod steps;

use crate::cluster::{self, Cluster, UpOptions};
use crate::existing;
use crate::stack::{DEMO_NAMESPACE, Examples, RELEASE_NAMESPACE, Stack};
use anyhow::{Context, Result};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Name of the demo's cluster; a check has one of its own, so that it does not disturb a demo that stays up.
fn cluster_name(check: bool) -> &'static str {
    if check { "demo-check" } else { "demo" }
}

/// Runs all steps. A failed step is printed as FAIL, and everything that may explain it is dumped into a folder.
pub async fn run(check: bool, context: Option<&str>) -> Result<()> {
    let start = Instant::now();
    println!(
        "Weir: the whole loop on a Kubernetes of its own. The first run builds Kubernetes and Weir (about 20 minutes on 2 cores).\n"
    );
    let model = cluster::model()?;
    let images = cluster::build_images(&[])?;
    let cluster = match context {
        Some(context) => existing::cluster(context)?,
        None => Cluster::up(
            cluster_name(check),
            UpOptions {
                fresh: true,
                control_plane_only: false,
                keep: !check,
            },
        )
        .context("no node of our own: with a cluster of yours, run `make demo KUBE_CONTEXT=<context of your kubeconfig>`, kind among them")?,
    };
    let mut report = Report::default();
    let outcome = steps(&mut report, cluster, images, model).await;
    match outcome {
        Ok(stack) if check => {
            println!(
                "\nAll 8 steps passed in {:.0} s.",
                start.elapsed().as_secs_f64()
            );
            remove(&stack.cluster)
        }
        Ok(stack) => {
            epilogue(&stack);
            Ok(())
        }
        Err(error) => {
            println!("FAIL  {}: {error:#}", report.current);
            Err(error)
        }
    }
}

async fn steps(
    report: &mut Report,
    cluster: Cluster,
    images: cluster::Images,
    model: PathBuf,
) -> Result<Stack> {
    let title = "control plane ready, images imported, chart installed by helm";
    let stack = report.step(1, title, async {
        let stack = Stack::install(cluster, images).await?;
        let said = steps::installed(&stack).await?;
        Ok((stack, said))
    });
    let stack = stack.await?;
    if let Err(error) = steps_when_installed(report, &stack, &model).await {
        // Now, for the cluster may go with the stack.
        println!("      {}", stack.cluster.evidence());
        return Err(error);
    }
    Ok(stack)
}

/// Every step on a stack that is installed already, each printed and checked.
pub async fn on(stack: &Stack, model: &Path) -> Result<()> {
    let mut report = Report::default();
    let title = "control plane ready, images imported, chart installed by helm";
    let installed = async { Ok(((), steps::installed(stack).await?)) };
    report.step(1, title, installed).await?;
    let outcome = steps_when_installed(&mut report, stack, model).await;
    outcome.with_context(|| format!("step {}", report.current))
}

async fn steps_when_installed(report: &mut Report, stack: &Stack, model: &Path) -> Result<()> {
    let title = "a fake cloud over TLS and a price feed over HTTPS";
    report.step(2, title, steps::fakes_answer(stack)).await?;
    let examples = Examples::read(&stack.fakes)?;
    let title = "a real model on a PersistentVolume";
    report
        .step(3, title, steps::model_is_there(stack, &examples, model))
        .await?;
    let title = "three workloads, placed with cost, break-even and reason";
    report
        .step(4, title, steps::workloads_are_placed(stack, &examples))
        .await?;
    let title = "a chat completion through each endpoint, streamed and not";
    report
        .step(5, title, steps::every_endpoint_answers(stack))
        .await?;
    let title = "a price change moves `hybrid` to the cloud, and back, under load";
    report
        .step(6, title, steps::a_price_moves_the_workload(stack))
        .await?;
    let title = "`private` loses its pod: 503 until it is back, and nothing reaches the cloud";
    report
        .step(7, title, steps::private_never_leaves(stack))
        .await?;
    let title = "telemetry is seen; a silent agent is unknown, and moves nothing";
    report
        .step(8, title, steps::telemetry_is_seen(stack))
        .await?;
    Ok(())
}

/// Removes the demo from a cluster.
///
/// # Errors
/// When something cannot be removed.
pub fn remove(cluster: &Cluster) -> Result<()> {
    if !cluster.is_external() {
        return cluster.down();
    }
    let kubectl = |arguments: &[&str]| cluster::output(&mut cluster.kubectl(arguments)).map(drop);
    kubectl(&[
        "delete",
        "namespace",
        DEMO_NAMESPACE,
        "weir-fakes",
        "--ignore-not-found",
        "--timeout=120s",
    ])?;
    let mut uninstall = cluster.helm([
        "uninstall",
        "weir",
        "--ignore-not-found",
        "--wait",
        "--namespace",
        RELEASE_NAMESPACE,
    ]);
    cluster::output(&mut uninstall)?;
    kubectl(&[
        "delete",
        "namespace",
        RELEASE_NAMESPACE,
        "weir-providers",
        "--ignore-not-found",
        "--timeout=120s",
    ])?;
    for crd in weir_crds::all() {
        kubectl(&[
            "delete",
            "crd",
            crd.metadata.name.as_deref().unwrap_or_default(),
            "--ignore-not-found",
        ])?;
    }
    Ok(())
}

/// Prints steps as they pass.
#[derive(Default)]
struct Report {
    current: String,
}

impl Report {
    async fn step<T>(
        &mut self,
        number: u8,
        title: &str,
        work: impl Future<Output = Result<(T, Vec<String>)>>,
    ) -> Result<T> {
        self.current = format!("{number}  {title}");
        println!("  ..  {}", self.current);
        let start = Instant::now();
        let (value, said) = work.await?;
        for line in said {
            println!("        {line}");
        }
        println!(
            "PASS  {}  ({:.1} s)",
            self.current,
            start.elapsed().as_secs_f64()
        );
        Ok(value)
    }
}

fn epilogue(stack: &Stack) {
    let facts = &stack.cluster.facts;
    println!("\nAll 8 steps passed, and the cluster stays up. Have a look:\n");
    println!("  export KUBECONFIG={}", facts.kubeconfig.display());
    println!(
        "  export PATH={}:$PATH",
        facts.kubectl.parent().unwrap_or(&facts.kubectl).display()
    );
    println!("  kubectl get inferenceworkloads -A -o wide");
    println!(
        "  kubectl -n {DEMO_NAMESPACE} get inferenceworkload hybrid -o yaml      # status.decision has every number"
    );
    println!(
        "  kubectl get gputiers,modelprofiles,inferenceproviders,inferencepricebooks,gpunodes"
    );
    println!("  kubectl -n {DEMO_NAMESPACE} get events --sort-by=.lastTimestamp");
    println!("\nRemove everything with: make demo-down");
}

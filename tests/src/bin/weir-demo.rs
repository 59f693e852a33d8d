//! `make demo` and `make demo-check`.

use clap::Parser;
use weir_tests::{demo, existing};

/// Brings up a real control plane, installs Weir, serves a real model, and shows a workload moving to the cloud and
/// back because a price changed.
#[derive(Parser)]
#[command(version)]
struct Flags {
    /// Tear everything down at the end; the exit status tells whether all steps passed.
    #[arg(long)]
    check: bool,
    /// An existing cluster, by its context in the kubeconfig, instead of a node of our own.
    #[arg(long)]
    kube_context: Option<String>,
    /// Remove the demo from that cluster, and do nothing else.
    #[arg(long, requires = "kube_context")]
    down: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    match &flags.kube_context {
        Some(context) if flags.down => demo::remove(&existing::cluster(context)?),
        context => demo::run(flags.check, context.as_deref()).await,
    }
}

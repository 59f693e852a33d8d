//! Keeps a fleet of fake GPU nodes in a cluster until it is interrupted, then removes it.

use anyhow::Result;
use clap::Parser;
use weir_tests::fake_nodes::{Fleet, FleetSpec};

/// Fake GPU nodes for the cluster of the current kubeconfig.
#[derive(Parser)]
struct Arguments {
    /// How many nodes.
    #[arg(long, default_value_t = 100)]
    nodes: usize,
    /// GPUs of each node.
    #[arg(long, default_value_t = 8)]
    gpus: u32,
    /// GPU product as GPU feature discovery names it.
    #[arg(long, default_value = "NVIDIA-L40S")]
    product: String,
    /// Nodes are called by this prefix and a number.
    #[arg(long, default_value = "gpu")]
    prefix: String,
    /// Range of the pods' addresses, of 16 bits.
    #[arg(long, default_value = "10.245.0.0/16")]
    pod_range: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let spec = FleetSpec {
        prefix: arguments.prefix,
        nodes: arguments.nodes,
        gpus: arguments.gpus,
        product: arguments.product,
        ..FleetSpec::default()
    }
    .in_range(&arguments.pod_range)?;
    let fleet = Fleet::start(kube::Client::try_default().await?, spec).await?;
    println!(
        "{} nodes; interrupt to remove them",
        fleet.node_names().len()
    );
    tokio::signal::ctrl_c().await?;
    fleet.remove().await
}

//! Runs commands at a fixed moment, on files or on a simulated API server.

use clap::Parser;
use jiff::Timestamp;
use kubectl_weir::cli::{Cli, Connection};
use kubectl_weir::cluster::Access;
use kubectl_weir::{Answer, Failure};
use weir_simapi::SimApi;

/// The chart's examples.
pub const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/weir/examples");
/// Prices of every model of the examples.
pub const PRICES: &str = "--price acme-small=0.28:1.10 --price acme-frontier=3:15";

/// The moment of every test.
pub fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().expect("a time")
}

/// Runs a command where no cluster can be reached.
pub async fn offline(line: &str) -> Result<Answer, Failure> {
    let nowhere = Connection {
        kubeconfig: Some("/nowhere/kubeconfig".into()),
        ..Connection::default()
    };
    run(line, &Access::Kubeconfig(nowhere)).await
}

/// Runs a command on a cluster.
pub async fn online(api: &SimApi, line: &str) -> Result<Answer, Failure> {
    run(line, &Access::Client(api.client("user"), "team".to_owned())).await
}

async fn run(line: &str, access: &Access) -> Result<Answer, Failure> {
    let arguments = ["kubectl-weir"].into_iter().chain(line.split_whitespace());
    let cli = Cli::try_parse_from(arguments).expect("known flags");
    kubectl_weir::run(&cli, access, now()).await
}

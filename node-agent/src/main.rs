//! The binary `weir-node-agent`.
#![forbid(unsafe_code)]

use anyhow::Context;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use weir_engine_server::{ServeArgs, serve};
use weir_node_agent::telemetry::{self, TelemetryArgs};

/// Weir on a node: telemetry for the operator, or the inference engine.
#[derive(Parser)]
#[command(name = "weir-node-agent", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Report this node's GPUs, processors and engines to the operator.
    Telemetry(Box<TelemetryArgs>),
    /// Serve a GGUF model over OpenAI's HTTP API.
    Serve(Box<ServeArgs>),
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    // An error here means that a provider was installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no async runtime")?;
    match cli.command {
        Command::Telemetry(args) => runtime.block_on(run_telemetry(*args))?,
        Command::Serve(args) => runtime.block_on(serve(*args))?,
    }
    runtime.shutdown_background();
    Ok(())
}

async fn run_telemetry(args: TelemetryArgs) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("no SIGTERM handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no SIGINT handler")?;
    let stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    telemetry::run(args, shutdown).await?;
    tracing::info!("agent stopped");
    Ok(())
}

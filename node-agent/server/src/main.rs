//! The binary `weir-engine`: what engine pods run.
#![forbid(unsafe_code)]

use anyhow::Context;
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use weir_engine_server::{ServeArgs, serve};

/// Weir's inference engine.
#[derive(Parser)]
#[command(name = "weir-engine", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a GGUF model over OpenAI's HTTP API.
    Serve(Box<ServeArgs>),
}

fn main() -> anyhow::Result<()> {
    let Command::Serve(args) = Cli::parse().command;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no async runtime")?;
    runtime.block_on(serve(*args))?;
    runtime.shutdown_background();
    Ok(())
}

//! The operator's process: flags, logs, signals.
#![forbid(unsafe_code)]

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use weir_operator::cli::{LogFormat, Settings};
use weir_operator::{client, run};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    log(settings.log_format);
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider is installed already"))?;
    let config = kube::Config::infer()
        .await
        .context("no cluster is configured")?;
    let client = kube::Client::try_from(client::prepared(config))
        .context("cannot make a client of the API server")?;
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let told = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to end");
        told.cancel();
    });
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "starting");
    run(settings, client, shutdown)
        .await
        .context("operator ended")
}

fn log(format: LogFormat) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube=warn"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter);
    match format {
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
        LogFormat::Plain => subscriber.init(),
    }
}

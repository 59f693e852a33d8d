//! Serves the fake cloud provider and the fake price feed.

use anyhow::Context;
use clap::Parser;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use weir_tests::fakes::state::TokenPrices;
use weir_tests::fakes::{Fakes, cloud, control, prices, serve};

/// What a test needs in a pod.
#[derive(Parser)]
#[command(version)]
enum Command {
    /// A fake cloud provider and a fake price feed over TLS.
    Serve(Flags),
    /// Writes standard input to a file: how a model gets into a volume.
    Store {
        /// The file.
        file: PathBuf,
    },
}

#[derive(clap::Args)]
struct Flags {
    /// Where provider and feed listen with TLS.
    #[arg(long, default_value = "0.0.0.0:8443")]
    listen: SocketAddr,
    /// Where the control API listens.
    #[arg(long, default_value = "0.0.0.0:8081")]
    control: SocketAddr,
    /// Folder with tls.crt and tls.key.
    #[arg(long)]
    tls: PathBuf,
    /// The API key that the provider wants.
    #[arg(long, env = "FAKE_CLOUD_API_KEY", hide_env_values = true)]
    api_key: String,
    /// A model with its prices in USD per million tokens: NAME=INPUT/OUTPUT.
    #[arg(long = "model", value_parser = model)]
    models: Vec<(String, TokenPrices)>,
}

fn model(text: &str) -> Result<(String, TokenPrices), String> {
    let wrong = || format!("{text:?} is not NAME=INPUT/OUTPUT");
    let (name, prices) = text.split_once('=').ok_or_else(wrong)?;
    let (input, output) = prices.split_once('/').ok_or_else(wrong)?;
    let per_token = |usd: &str| usd.parse::<f64>().map(|usd| usd / 1e6).map_err(|_| wrong());
    let prices = TokenPrices {
        input_cost_per_token: per_token(input)?,
        output_cost_per_token: per_token(output)?,
    };
    Ok((name.to_owned(), prices))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = match Command::parse() {
        Command::Serve(flags) => flags,
        Command::Store { file } => return store(&file),
    };
    let read = |name: &str| {
        let file = flags.tls.join(name);
        std::fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))
    };
    let tls = serve::tls(&read("tls.crt")?, &read("tls.key")?)?;
    let fakes = Fakes::new(
        &flags.api_key,
        flags.models.into_iter().collect::<BTreeMap<_, _>>(),
    );
    let both = cloud::router(fakes.clone()).merge(prices::router(fakes.clone()));
    let listener = TcpListener::bind(flags.listen).await?;
    let control_listener = TcpListener::bind(flags.control).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = serve::over_tls(listener, tls, both) => ended,
        ended = serve::plain(control_listener, control::router(fakes)) => ended,
        _ = terminate.recv() => Ok(()),
    }
}

fn store(file: &std::path::Path) -> anyhow::Result<()> {
    let mut out =
        std::fs::File::create(file).with_context(|| format!("create {}", file.display()))?;
    let bytes = std::io::copy(&mut std::io::stdin().lock(), &mut out)?;
    out.sync_all()?;
    println!("{bytes} bytes in {}", file.display());
    Ok(())
}

//! `weir-gateway`: puts the parts together and stops them in order.
#![forbid(unsafe_code)]

use anyhow::Context;
use clap::Parser;
use futures::FutureExt;
use futures::future::BoxFuture;
use kube::{Client, Config};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use weir_gateway::PLANE;
use weir_gateway::admin;
use weir_gateway::config::{Args, Command};
#[cfg(feature = "cloud")]
use weir_gateway::external::{self, ExternalTimeouts, Providers};
use weir_gateway::request::Gateway;
use weir_gateway::routing::{
    Index, Publisher, SharedState, run_watches, watch_endpoints, watch_engine_keys, watch_workloads,
};
#[cfg(feature = "cloud")]
use weir_gateway::routing::{watch_providers, watch_secrets};
use weir_gateway::server::{self, ServerLimits};
use weir_gateway::telemetry::{COUNTERS_EVERY, Reporter};
use weir_identity::{CertificateSource, Identity, RequestOptions, serve_tonic, server_config};
use weir_proto::gateway_server::GatewayServer;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(Command::Chat(chat)) = args.command {
        return weir_gateway::chat::chat(chat).await;
    }
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(log_filter())
        .init();
    // Two TLS stacks may be linked; this names the one that is used where a library asks for the default.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = kube_client()
        .await
        .context("configure the kubernetes client")?;
    let shared = Arc::new(SharedState::default());
    let clients = bind(args.listen).await?;
    let admin = bind(args.admin_listen).await?;
    let grpc = bind(args.grpc_listen).await?;
    tracing::info!(plane = PLANE, listen = %args.listen, "gateway starts");

    let admin = tokio::spawn(axum::serve(admin, admin::router(Arc::clone(&shared))).into_future());
    let (mut watching, reporter) = watches(&args, &client, &shared);
    let keys = watch_engine_keys(client.clone(), args.namespace, PLANE, Arc::clone(&shared));
    watching.push(keys.boxed());
    let watching = tokio::spawn(run_watches(watching));
    tokio::spawn(report(grpc, client, reporter));
    tokio::spawn(drain_on_signal(Arc::clone(&shared))?);

    let limits = ServerLimits {
        max_connections: args.max_connections,
        header_timeout: args.header_timeout,
        drain_delay: args.drain_delay,
        drain_timeout: args.drain_timeout,
    };
    let gateway = Arc::new(Gateway::new(Arc::clone(&shared), args.limits));
    let serving = tokio::spawn(server::serve(clients, gateway, limits));
    let drained = tokio::select! {
        drained = serving => drained.context("serve clients")?,
        _ = watching => anyhow::bail!("the watches ended"),
        _ = admin => anyhow::bail!("the admin server ended"),
    };
    // The operator reads the last counters before the connection goes.
    tokio::time::sleep(COUNTERS_EVERY + Duration::from_millis(200)).await;
    tracing::info!(cut = drained.cut, "gateway stops");
    Ok(())
}

/// `RUST_LOG`, or info. The client's own lines about an API server that is away are left out unless they are asked
/// for: ours say it once.
fn log_filter() -> EnvFilter {
    let wanted = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned());
    let filter = if wanted.contains("kube") {
        wanted
    } else {
        format!("{wanted},kube_client=off,kube_runtime=off")
    };
    EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"))
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address}"))
}

async fn kube_client() -> anyhow::Result<Client> {
    let mut config = Config::infer().await?;
    // Watches have their own pauses; a connection that died is noticed soon after a watch should have ended.
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(Duration::from_secs(75));
    config.reset_reader_on_write = true;
    Ok(Client::try_from(config)?)
}

#[cfg(not(feature = "cloud"))]
fn watches(
    args: &Args,
    client: &Client,
    shared: &Arc<SharedState>,
) -> (Vec<BoxFuture<'static, ()>>, Reporter) {
    let publisher = Publisher::new(
        Index::new(),
        Arc::clone(shared),
        &["workloads", "endpoints"],
        None,
    );
    let publishing = Arc::clone(&publisher);
    let watching = vec![
        watch_workloads(client.clone(), Arc::clone(&publisher)).boxed(),
        watch_endpoints(client.clone(), publisher).boxed(),
        async move { publishing.publish_forever(|_| ()).await }.boxed(),
    ];
    (
        watching,
        Reporter {
            shared: Arc::clone(shared),
            pod_uid: args.pod_uid.clone(),
        },
    )
}

#[cfg(feature = "cloud")]
fn watches(
    args: &Args,
    client: &Client,
    shared: &Arc<SharedState>,
) -> (Vec<BoxFuture<'static, ()>>, Reporter) {
    let providers = Providers::new(ExternalTimeouts {
        connect: args.limits.connect_external,
    });
    let index = Index::new(providers);
    let publisher = Publisher::new(
        index,
        Arc::clone(shared),
        &["workloads", "endpoints", "providers", "secrets"],
        Some(args.close_external_after),
    );
    let publishing = Arc::clone(&publisher);
    let (rows, followed) = tokio::sync::watch::channel(Arc::default());
    let publish = async move {
        publishing
            .publish_forever(|index| {
                rows.send_replace(Arc::new(index.providers.rows()));
            })
            .await;
    };
    let namespace = args.providers_namespace.clone();
    let watching = vec![
        watch_workloads(client.clone(), Arc::clone(&publisher)).boxed(),
        watch_endpoints(client.clone(), Arc::clone(&publisher)).boxed(),
        watch_providers(client.clone(), Arc::clone(&publisher), Arc::clone(shared)).boxed(),
        watch_secrets(client.clone(), namespace, publisher, Arc::clone(shared)).boxed(),
        external::probe_forever(followed.clone()).boxed(),
        publish.boxed(),
    ];
    (
        watching,
        Reporter {
            shared: Arc::clone(shared),
            pod_uid: args.pod_uid.clone(),
            providers: followed,
        },
    )
}

/// Serves the operator as soon as there is a certificate, and until the process ends.
async fn report(listener: TcpListener, client: Client, reporter: Reporter) {
    let options = RequestOptions::new(format!("weir-gateway-{PLANE}-"));
    let source = CertificateSource::from_cluster(client, options);
    let tls = match server_config(&source, |identity| *identity == Identity::Operator) {
        Ok(tls) => tls,
        Err(error) => {
            tracing::error!(%error, "tls towards the operator cannot be set up");
            return;
        }
    };
    let routes = tonic::service::Routes::new(GatewayServer::new(reporter));
    if let Err(error) = serve_tonic(listener, tls, routes, std::future::pending()).await {
        tracing::error!(%error, "serving the operator ended");
    }
}

fn drain_on_signal(shared: Arc<SharedState>) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
        tracing::info!("gateway drains");
        shared.start_draining();
    })
}

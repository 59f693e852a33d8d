//! An operator in a process of its own: what it holds and uses is told apart from the server's.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use kube::Client;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use weir_operator::ca::ClientKeyRoot;
use weir_operator::cli::Settings;
use weir_operator::client::{self, Budget};
use weir_operator::clock::Clock;
use weir_operator::context::Context;
use weir_operator::controllers;
use weir_operator::events::Events;
use weir_operator::leader::Gate;
use weir_operator::metrics::Metrics;
use weir_operator::stores::Stores;
use weir_operator::telemetry::Telemetry;
use weir_simapi::SimApi;

use crate::gateways;
use crate::measure::{Load, peak_mib, resident_mib};
use crate::server;

/// How often a process tells how it fares.
const TOLD: Duration = Duration::from_millis(100);

/// How an operator fares.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    /// Workloads that are due.
    pub due: i64,
    /// Reconciles of workloads so far.
    pub reconciles: u64,
    /// Memory in use, in MiB.
    pub resident_mib: u64,
    /// The most that it was.
    pub peak_mib: u64,
    /// Seconds of one core since it began.
    pub seconds: f64,
}

/// A leader with all of its controllers, as a child of this process.
pub struct Operator {
    child: Child,
    /// It ends when this is closed.
    _alive: ChildStdin,
    latest: Arc<Mutex<Sample>>,
    server: tokio::task::JoinHandle<()>,
    /// When it was started.
    pub begun: Instant,
}

impl Operator {
    /// Starts one that asks `api` as `actor`.
    pub async fn start(api: &SimApi, actor: &str) -> Result<Self> {
        let (address, server) = server::serve(api, actor).await?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--operator-of", &address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let alive = child.stdin.take().context("it has an input")?;
        let told = child.stdout.take().context("it has an output")?;
        let latest = Arc::new(Mutex::new(Sample::default()));
        let kept = Arc::clone(&latest);
        std::thread::spawn(move || {
            for line in BufReader::new(told).lines().map_while(Result::ok) {
                match serde_json::from_str(&line) {
                    Ok(sample) => *kept.lock().unwrap_or_else(PoisonError::into_inner) = sample,
                    Err(_) => println!("{line}"),
                }
            }
        });
        Ok(Self {
            child,
            _alive: alive,
            latest,
            server,
            begun: Instant::now(),
        })
    }

    /// How it fared a moment ago.
    pub fn sample(&self) -> Sample {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no workload waits for its first reconcile or for another that is due.
    pub fn is_idle(&self, workloads: usize) -> bool {
        let sample = self.sample();
        sample.due == 0 && sample.reconciles >= workloads as u64
    }

    /// Ends it.
    pub fn end(self) -> Result<()> {
        let Self {
            mut child,
            _alive: alive,
            server,
            ..
        } = self;
        drop(alive);
        child.wait()?;
        server.abort();
        Ok(())
    }
}

/// What the child does until its input is closed.
pub async fn run(server: SocketAddr) -> Result<()> {
    let load = Load::now();
    let ended = CancellationToken::new();
    let closed = ended.clone();
    std::thread::spawn(move || {
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
        closed.cancel();
    });
    let metrics = Arc::new(Metrics::new());
    let mut settings = Settings::defaults();
    settings.namespace = "weir-system".into();
    let budget = Budget::start(
        settings.writes_per_second,
        settings.most_writes_per_second,
        Arc::clone(&metrics),
    );
    let gate = Gate::new();
    gate.open_until(tokio::time::Instant::now() + Duration::from_secs(86_400));
    let limits = (budget.clone(), settings.write_timeout());
    let config = kube::Config::new(format!("http://{server}").parse()?);
    let bare = Client::try_from(client::prepared(config))?;
    let client = client::guarded(bare, gate, limits, Arc::clone(&metrics));
    let (stores, _watching) = Stores::start(&client, "weir-system", &metrics);
    stores.wait_ready().await;
    let telemetry = Telemetry::new(Arc::clone(&metrics));
    let gateways = gateways::acknowledge(stores.clone(), telemetry.clone());
    let _gateways = tokio::spawn(gateways);
    let context = Context {
        budget,
        clock: Clock::system(),
        settings: Arc::new(settings),
        stores,
        telemetry,
        events: Events::start(client.clone(), "bench", Arc::clone(&metrics)),
        metrics: Arc::clone(&metrics),
        client_keys: ClientKeyRoot::new([7; 32]),
        engine_root: "3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08".parse()?,
        client,
    };
    let mut tasks = JoinSet::new();
    for (_, controller) in controllers::all(&context, &ended) {
        tasks.spawn(controller);
    }
    while !ended.is_cancelled() {
        println!("{}", serde_json::to_string(&sample(&metrics, &load))?);
        tokio::time::sleep(TOLD).await;
    }
    while tasks.join_next().await.is_some() {}
    Ok(())
}

fn sample(metrics: &Metrics, load: &Load) -> Sample {
    let results = ["ok", "error", "panic"];
    let count = |result| {
        let reconciles = &metrics.reconciles;
        reconciles.with_label_values(&["workload", result]).get()
    };
    Sample {
        due: metrics.queue_depth.with_label_values(&["workload"]).get(),
        reconciles: results.into_iter().map(count).sum(),
        resident_mib: resident_mib(),
        peak_mib: peak_mib(),
        seconds: load.seconds(),
    }
}

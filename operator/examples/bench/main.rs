//! How the operator fares with a large fleet, in a process of its own, on the simulated API server over HTTP on loopback:
//! `make bench-operator`.
//!
//! Prints, with the name of the processor: the time to place a fleet, a restart until nothing is to do, a change of prices
//! that moves a part of the fleet, a single spec, and the load of pods that come and go all the time.

mod gateways;
mod measure;
mod objects;
mod operator;
mod server;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use serde_json::{Value, json};
use weir_simapi::{FakeDeploymentController, SimApi};

use measure::processor;
use operator::Operator;

/// What is measured.
#[derive(Parser)]
struct Options {
    /// Workloads in all.
    #[arg(long, default_value_t = 10_000)]
    workloads: usize,
    /// Those of them that a change of prices moves.
    #[arg(long, default_value_t = 100)]
    moved: usize,
    /// Tiers that count pods.
    #[arg(long, default_value_t = 20)]
    tiers: usize,
    /// Pods on the nodes of those tiers.
    #[arg(long, default_value_t = 20_000)]
    pods: usize,
    /// Changes of pods in a second.
    #[arg(long, default_value_t = 50)]
    pod_changes: u64,
    /// How long pods change, in seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// The longest that anything is waited for, in seconds.
    #[arg(long, default_value_t = 1_800)]
    patience: u64,
    /// Be the operator that is measured, of the API server at this address.
    #[arg(long, hide = true)]
    operator_of: Option<SocketAddr>,
}

/// Waits until `holds`, and says how long that took.
async fn until(options: &Options, what: &str, mut holds: impl FnMut() -> bool) -> Result<Duration> {
    let begun = Instant::now();
    while !holds() {
        ensure!(
            begun.elapsed().as_secs() < options.patience,
            "not in time: {what}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(begun.elapsed())
}

/// Mutating requests of an actor since history was cleared, the Lease's apart.
fn writes(api: &SimApi, actor: &str) -> usize {
    by_kind(api, actor).values().sum()
}

/// The same by verb, resource and subresource.
fn by_kind(api: &SimApi, actor: &str) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for record in api.history() {
        let request = record.request;
        if request.actor == actor && request.is_mutating() {
            let subresource = match request.subresource.as_str() {
                "" => String::new(),
                subresource => format!("/{subresource}"),
            };
            let what = format!("{} {}{subresource}", request.verb, request.resource);
            *kinds.entry(what).or_default() += 1;
        }
    }
    kinds
}

fn placed(workload: &Value) -> bool {
    let status = &workload["status"];
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let mut ready = conditions.filter(|it| it["type"] == "Ready" && it["status"] == "True");
    status["placement"]["phase"] == "Steady" && ready.next().is_some()
}

fn count(api: &SimApi, holds: impl Fn(&Value) -> bool) -> usize {
    api.count_where(objects::WORKLOADS, "", holds)
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(server) = options.operator_of {
        return operator::run(server).await;
    }
    let profile = if cfg!(debug_assertions) {
        "not optimized"
    } else {
        "release"
    };
    println!(
        "{} ({} at once), {profile}",
        processor(),
        std::thread::available_parallelism()?
    );
    fleet(&options).await?;
    pods(&options).await
}

async fn fleet(options: &Options) -> Result<()> {
    let api = objects::server();
    for object in objects::surroundings() {
        api.seed(&object)?;
    }
    let deployments = FakeDeploymentController::new(&api).spawn();
    for at in 0..options.workloads {
        api.seed(&objects::workload(at, at < options.moved))?;
    }
    let n = options.workloads;
    let operator = Operator::start(&api, "first").await?;
    let took = until(options, "placed", || count(&api, placed) == n).await?;
    println!(
        "{n} workloads placed in {:.1} s, {:.1} writes each",
        took.as_secs_f64(),
        writes(&api, "first") as f64 / n as f64
    );
    for (what, count) in by_kind(&api, "first") {
        println!("    {what}: {:.1} each", count as f64 / n as f64);
    }
    operator.end()?;

    api.clear_history();
    let operator = Operator::start(&api, "second").await?;
    until(options, "converged", || operator.is_idle(n)).await?;
    let took = operator.begun.elapsed().as_secs_f64();
    let sample = operator.sample();
    println!(
        "restart: converged in {took:.1} s, {:.1} s of processor, {} writes, {} MiB, {} at most",
        sample.seconds,
        writes(&api, "second"),
        sample.resident_mib,
        sample.peak_mib,
    );

    tokio::time::sleep(Duration::from_secs(3)).await;
    api.clear_history();
    let moved = |workload: &Value| {
        workload["status"]["placement"]["move"].is_object()
            || (workload["status"]["placement"]["target"] == "cloud"
                && workload["spec"]["targets"]
                    .as_array()
                    .is_some_and(|it| it.len() == 2))
    };
    let begun = Instant::now();
    let before = objects::revision(&api);
    objects::set_price(&api, "0.6")?;
    until(options, "believed", || objects::revision(&api) != before).await?;
    let believed = begun.elapsed().as_secs_f64();
    until(options, "one moved", || count(&api, moved) >= 1).await?;
    let first = begun.elapsed().as_secs_f64();
    until(options, "moved", || count(&api, moved) >= options.moved).await?;
    println!(
        "one change of prices: believed after {believed:.1} s, the first move begun after {first:.1} s, {} after {:.1} s",
        options.moved,
        begun.elapsed().as_secs_f64()
    );
    let revision = objects::revision(&api);
    let told = |it: &Value| it["status"]["decision"]["inputs"]["priceBook"]["revision"] == revision;
    until(options, "told", || count(&api, told) == n).await?;
    println!(
        "one change of prices: told by all {n} statuses after {:.1} s, {} writes",
        begun.elapsed().as_secs_f64(),
        writes(&api, "second")
    );

    until(options, "idle", || operator.is_idle(n)).await?;
    let name = objects::name(n - 1);
    objects::edit(
        &api,
        &name,
        json!({"spec": {"demand": {"requestsPerMonth": 1_234}}}),
    )?;
    let seen = |it: &Value| {
        it["metadata"]["name"] == name
            && it["status"]["observedGeneration"] == it["metadata"]["generation"]
    };
    let took = until(options, "seen", || count(&api, seen) == 1).await?;
    println!("one spec: in status after {:.1} s", took.as_secs_f64());
    operator.end()?;
    deployments.abort();
    Ok(())
}

/// Pods come and go on the nodes of many tiers.
async fn pods(options: &Options) -> Result<()> {
    let api = objects::server();
    objects::seed_tiers(&api, options.tiers, options.pods)?;
    let operator = Operator::start(&api, "op").await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (before, begun) = (operator.sample().seconds, Instant::now());
    objects::change_pods(&api, options.pod_changes, options.seconds).await?;
    let sample = operator.sample();
    let cores = (sample.seconds - before) / begun.elapsed().as_secs_f64();
    println!(
        "{} tiers, {} pods, {} changes a second: {cores:.2} of a core, {} MiB",
        options.tiers, options.pods, options.pod_changes, sample.resident_mib
    );
    operator.end()
}

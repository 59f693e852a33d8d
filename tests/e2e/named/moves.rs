//! Mixed cases in which the better side changes: each moves under load, without a failed request, and says why.

use super::{apply, clear, decision, model, monthly, tier};
use crate::market;
use crate::world::{World, scenario};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;
use weir_tests::load::{Load, Seen};
use weir_tests::stack::{PRICE_HIGH, PRICE_LOW};

pub(super) async fn load(world: &World, (namespace, name): (&str, &str)) -> Result<Load> {
    let endpoint = world.stack.endpoint(namespace, name).await?;
    Ok(Load::start(&endpoint, 2, Duration::from_millis(100)))
}

fn nothing_failed(seen: &Seen) -> Result<()> {
    ensure!(seen.failed == 0 && seen.cut == 0, "{seen:#?}");
    let from = |location: &str| seen.by_route.keys().any(|(from, _)| from == location);
    ensure!(from("Local") && from("External"), "{seen:#?}");
    Ok(())
}

/// History's newest entry.
pub(super) async fn moved(
    world: &World,
    (namespace, name): (&str, &str),
    from: &str,
    to: &str,
) -> Result<()> {
    let workload = world.stack.workload(namespace, name).await?;
    let history = workload.status.clone().unwrap_or_default().history;
    let newest = history.first().context("the history is empty")?;
    ensure!(
        newest.from.as_deref() == Some(from) && newest.to == to && newest.reason == "LowerCost",
        "{newest:#?}"
    );
    let ends = format!("from {from} to {to}");
    let about = |note: &&String| note.starts_with(&ends);
    let told = world
        .stack
        .events_until(&workload, "PlacementMoved", |notes| {
            notes.iter().any(|note| about(&note))
        })
        .await?;
    let told = told.iter().find(about).context("no event of the move")?;
    println!("{name}: {told}");
    Ok(())
}

/// The cloud costs 67 USD a month against 50, then 37, then 67 again.
#[test]
fn cloud_price_drop_flips_local() {
    const NAME: &str = "cloud-price-drop-flips-local";
    const WORKLOAD: (&str, &str) = ("e2e-price-drop", NAME);
    scenario(NAME, async |world| {
        let objects = vec![tier(NAME), model(world, NAME, NAME)?];
        apply(world, WORKLOAD, objects, |_| ())?;
        world.settled(WORKLOAD, "local").await?;
        let before = decision(world, WORKLOAD).await?;
        let load = load(world, WORKLOAD).await?;
        market::set_price(world, NAME, PRICE_LOW).await?;
        world.settled(WORKLOAD, "cloud").await?;
        moved(world, WORKLOAD, "local", "cloud").await?;
        let after = decision(world, WORKLOAD).await?;
        ensure!(
            after.break_even_requests_per_month > before.break_even_requests_per_month,
            "break-even rises when the cloud's price falls: {before:#?} {after:#?}"
        );
        market::set_price(world, NAME, PRICE_HIGH).await?;
        world.settled(WORKLOAD, "local").await?;
        moved(world, WORKLOAD, "cloud", "local").await?;
        nothing_failed(&load.stop().await)?;
        clear(world, WORKLOAD.0, NAME)
    });
}

/// The workload names an open model that is not released yet. From the release on it is a candidate, and wins.
#[test]
fn open_model_release_flips_cloud() {
    const NAME: &str = "open-model-release-flips-cloud";
    const WORKLOAD: (&str, &str) = ("e2e-model-release", NAME);
    scenario(NAME, async |world| {
        apply(world, WORKLOAD, vec![tier(NAME)], |_| ())?;
        world.settled(WORKLOAD, "cloud").await?;
        let before = decision(world, WORKLOAD).await?;
        ensure!(before.reason == "OnlyFeasibleTarget", "{before:#?}");
        let load = load(world, WORKLOAD).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        world.stack.apply(&[model(world, NAME, NAME)?])?;
        world.settled(WORKLOAD, "local").await?;
        moved(world, WORKLOAD, "cloud", "local").await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        nothing_failed(&load.stop().await)?;
        clear(world, WORKLOAD.0, NAME)
    });
}

/// Hardware that is owned is busy, so the workload is in the cloud. When it falls idle, what counts is its energy.
#[test]
fn idle_gpu_pulls_back() {
    const NAME: &str = "idle-gpu-pulls-back";
    const WORKLOAD: (&str, &str) = ("e2e-pull-back", NAME);
    scenario(NAME, async |world| {
        let mut owned = tier(NAME);
        owned["spec"]["resource"]["count"] = json!("500m");
        owned["spec"]["cost"] = json!({
            "owned": {"purchaseUsd": "36000", "amortizationMonths": 36},
            "power": {"usdPerKilowattHour": "0.1", "watts": 100},
        });
        world.namespace_with_model(WORKLOAD.0)?;
        world
            .stack
            .apply(&[owned.clone(), busy(world, WORKLOAD.0)?])?;
        let objects = vec![owned, model(world, NAME, NAME)?];
        apply(world, WORKLOAD, objects, |_| ())?;
        world.settled(WORKLOAD, "cloud").await?;
        let load = load(world, WORKLOAD).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        world.kubectl(&["-n", WORKLOAD.0, "delete", "pod", "busy", "--wait=false"])?;
        world.settled(WORKLOAD, "local").await?;
        moved(world, WORKLOAD, "cloud", "local").await?;
        let pulled = decision(world, WORKLOAD).await?;
        let local = pulled.candidates.iter().find(|it| it.name == "local");
        let basis = local.and_then(|local| local.cost_basis.as_deref());
        ensure!(basis == Some("Marginal"), "{pulled:#?}");
        // 7.30 USD of energy and 20.80 of work.
        let cost = monthly(&pulled, "local")?;
        ensure!((cost - 28.1).abs() < 0.01, "{cost} USD a month");
        tokio::time::sleep(Duration::from_secs(1)).await;
        nothing_failed(&load.stop().await)?;
        clear(world, WORKLOAD.0, NAME)
    });
}

/// A pod that takes so much of the node's processors that no replica of the tier is free. It need not run to count.
fn busy(world: &World, namespace: &str) -> Result<Value> {
    let path = "jsonpath={.status.allocatable.cpu}";
    let allocatable = world.kubectl(&["get", "node", "node1", "-o", path])?;
    let allocatable: u64 = allocatable.trim().parse().context("processors")?;
    let path =
        "jsonpath={range .items[*].spec.containers[*]}{.resources.requests.cpu}{\"\\n\"}{end}";
    let running =
        "--field-selector=status.phase!=Succeeded,status.phase!=Failed,spec.nodeName=node1";
    let requests = world.kubectl(&["get", "pods", "-A", running, "-o", path])?;
    let taken: u64 = requests
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| millicores(line.trim()))
        .sum::<Result<u64>>()?;
    let free = (allocatable * 1000).saturating_sub(taken);
    ensure!(free > 500, "only {free}m of the node's processors are free");
    Ok(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": "busy"},
        "spec": {
            "nodeName": "node1", "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "busy", "image": "localhost/none:none", "imagePullPolicy": "Never",
                "resources": {"requests": {"cpu": format!("{}m", free - 200)}},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    }))
}

fn millicores(text: &str) -> Result<u64> {
    match text.strip_suffix('m') {
        Some(thousandths) => thousandths.parse().with_context(|| text.to_owned()),
        None => {
            let whole: u64 = text.parse().with_context(|| text.to_owned())?;
            Ok(whole * 1000)
        }
    }
}

//! A policy's utilization band on real engines: a tier whose engine has requests waiting is left, and taken again once it is
//! idle.

use crate::market;
use crate::world::{World, scenario};
use anyhow::{Context, Result, ensure};
use kube::Api;
use serde_json::json;
use std::time::Duration;
use weir_crds::placement::Phase;
use weir_crds::{GPUTier, InferenceWorkload};
use weir_tests::load::Load;
use weir_tests::stack::PRICE_HIGH;
use weir_tests::wait;

/// Namespace, market and tier.
const NAME: &str = "e2e-band";
const WORKLOAD: (&str, &str) = (NAME, "busy");
/// More than an engine has places, fewer than may wait.
const CLIENTS: usize = 12;
/// What was measured of a tier is written once a minute at most.
const TOLD_WITHIN: Duration = Duration::from_secs(90);
const MOVED_WITHIN: Duration = Duration::from_secs(120);

#[test]
fn an_engine_that_is_full_for_the_window_moves_its_workload_out_and_an_idle_tier_back() {
    scenario("band", async |world| {
        let outcome = out_and_back(world).await;
        world.clear(NAME)?;
        world.kubectl(&["delete", "gputier", NAME])?;
        market::remove(world, NAME)?;
        outcome?;
        world.nothing_panicked()
    });
}

async fn out_and_back(world: &World) -> Result<()> {
    let mut objects = market::objects(world, NAME, PRICE_HIGH)?;
    let policy = objects
        .iter_mut()
        .find(|object| object["kind"] == "InferencePlacementPolicy")
        .context("the market has no policy")?;
    policy["spec"]["utilizationBand"] =
        json!({"spillAbovePercent": 90, "pullBackBelowPercent": 30, "window": "5s"});
    objects.push(market::example(world, "GPUTier", NAME)?);
    let mut workload = world.like("hybrid", WORKLOAD)?;
    let spec = &mut workload["spec"];
    market::use_it(spec, NAME);
    spec["targets"][0]["local"]["tiers"] = json!([NAME]);
    // Requests wait at the engine instead of going to the cloud one by one.
    spec["traffic"]["spillover"]["enabled"] = json!(false);
    world.namespace_with_model(NAME)?;
    objects.push(workload);
    world.stack.apply(&objects)?;
    world.settled(WORKLOAD, "local").await?;

    let endpoint = world.stack.endpoint(NAME, WORKLOAD.1).await?;
    let load = Load::start(&endpoint, CLIENTS, Duration::ZERO);
    occupied(world, |percent| percent >= 90).await?;
    moved(world, "cloud", "UtilizationAboveBand").await?;
    let seen = load.stop().await;
    println!("band: {} good while the workload moved out", seen.good);
    ensure!(
        seen.failed == 0 && seen.cut == 0 && seen.good > 0,
        "{seen:#?}"
    );

    occupied(world, |percent| percent <= 30).await?;
    moved(world, "local", "LowerCost").await
}

/// Waits until the tier's status tells such an occupancy.
async fn occupied(world: &World, is_it: impl Fn(i32) -> bool) -> Result<()> {
    let tiers: Api<GPUTier> = Api::all(world.stack.client.clone());
    wait::until("the occupancy is told", TOLD_WITHIN, || async {
        let status = tiers.get(NAME).await?.status.unwrap_or_default();
        let told = status.occupancy_percent.is_some_and(&is_it);
        Ok(if told { Ok(()) } else { Err(status) })
    })
    .await
}

/// Waits until the workload is steady on a target, and checks why it moved.
async fn moved(world: &World, to: &str, reason: &str) -> Result<()> {
    let what = format!("moved to {to}");
    let there = |workload: &InferenceWorkload| {
        let placement = workload
            .status
            .as_ref()
            .and_then(|it| it.placement.as_ref());
        placement.is_some_and(|it| it.target == to && it.phase == Phase::Steady)
    };
    let stack = &world.stack;
    let found = stack.workload_until(WORKLOAD, &what, MOVED_WITHIN, there);
    let status = found.await?.status.unwrap_or_default();
    let last = status.history.first().context("no move is on record")?;
    ensure!(last.to == to && last.reason == reason, "{last:#?}");
    Ok(())
}

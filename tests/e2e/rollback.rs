//! A move whose new target fails in its canary.

use crate::world::{World, scenario};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use weir_crds::placement::Phase;
use weir_tests::fakes::state::FailureMode;
use weir_tests::load::Load;
use weir_tests::stack::{PRICE_HIGH, PRICE_LOW};

const NAMESPACE: &str = "e2e-rollback";
const WORKLOAD: (&str, &str) = (NAMESPACE, "wobbly");
const MODEL: &str = "acme-wobbly";
/// Share of the new target in the canary's only step, in percent.
const SHARE: u64 = 20;

#[test]
fn a_move_whose_new_target_fails_its_canary_returns() {
    scenario("rollback", async |world| {
        world.stack.fakes.set_price(MODEL, PRICE_HIGH).await?;
        let outcome = returns(world).await;
        world.stack.fakes.set_modes(&BTreeMap::new()).await?;
        outcome?;
        world.clear(NAMESPACE)?;
        world.kubectl(&["delete", "inferenceproviders,inferencepricebooks", "wobbly"])?;
        Ok(())
    });
}

async fn returns(world: &World) -> Result<()> {
    let stack = &world.stack;
    apply(world)?;
    world.settled(WORKLOAD, "local").await?;
    let load = Load::start(
        &stack.endpoint(NAMESPACE, "wobbly").await?,
        3,
        Duration::from_millis(100),
    );
    stack.fakes.set_price(MODEL, PRICE_LOW).await?;
    let limit = Duration::from_secs(90);
    let in_canary =
        |workload: &weir_crds::InferenceWorkload| phase(workload) == Some(Phase::Canary);
    stack
        .workload_until(WORKLOAD, "the move is in its canary", limit, in_canary)
        .await?;
    let before = load.seen();
    ensure!(
        before.failed == 0 && before.cut == 0,
        "requests failed before the fault: {before:#?}"
    );
    let fault = BTreeMap::from([(MODEL.to_owned(), FailureMode::ServerError)]);
    stack.fakes.set_modes(&fault).await?;

    let back = |workload: &weir_crds::InferenceWorkload| {
        let placement = workload
            .status
            .as_ref()
            .and_then(|status| status.placement.as_ref());
        placement.is_some_and(|placement| {
            placement.phase == Phase::Steady
                && placement.target == "local"
                && placement.rolled_back.is_some()
        })
    };
    let workload = stack
        .workload_until(WORKLOAD, "the move is rolled back", limit, back)
        .await?;
    let at_return = load.seen();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let seen = load.stop().await;

    let failed = at_return.failed;
    let during = at_return.good + failed - before.good;
    println!(
        "rollback: {failed} of {during} requests failed between the fault and the return, 0 after it"
    );
    ensure!(
        failed > 0,
        "no request met the fault, so nothing was shown: {seen:#?}"
    );
    ensure!(
        failed * 100 <= during * (SHARE + 10),
        "{failed} of {during} requests failed, more than the canary's share: {seen:#?}"
    );
    ensure!(
        seen.failures
            .iter()
            .all(|failure| failure.starts_with("500") && failure.contains("from cloud")),
        "failures that the provider did not cause: {seen:#?}"
    );
    ensure!(
        seen.failed == failed && seen.cut == 0,
        "requests failed after the return: {seen:#?}"
    );

    let status = workload.status.clone().unwrap_or_default();
    let rolled_back = status
        .placement
        .and_then(|placement| placement.rolled_back)
        .context("rolledBack")?;
    ensure!(
        rolled_back.target == "cloud" && rolled_back.attempts == 1,
        "{rolled_back:#?}"
    );
    let newest = status.history.first().context("the history is empty")?;
    ensure!(
        newest.reason == "RolledBack"
            && newest.from.as_deref() == Some("cloud")
            && newest.to == "local",
        "{newest:#?}"
    );
    let any = |notes: &[String]| !notes.is_empty();
    let told = stack.events_until(&workload, "MoveRolledBack", any).await?;
    ensure!(
        told.len() == 1,
        "one MoveRolledBack event is expected: {told:?}"
    );
    println!("rollback: {}", told[0]);
    Ok(())
}

fn phase(workload: &weir_crds::InferenceWorkload) -> Option<Phase> {
    let placement = workload.status.as_ref()?.placement.as_ref()?;
    Some(placement.phase)
}

/// A provider and prices of the scenario's own, so that no other workload moves.
fn apply(world: &World) -> Result<()> {
    world.namespace_with_model(NAMESPACE)?;
    let mut objects = Vec::new();
    for object in &world.examples.fleet {
        let mut object = object.clone();
        match object["kind"].as_str() {
            Some("InferencePriceBook") => {}
            Some("InferenceProvider") => {
                object["spec"]["priceBookRef"]["name"] = json!("wobbly");
                object["spec"]["models"] = json!([{"name": MODEL, "contextTokens": 128_000}]);
            }
            _ => continue,
        }
        object["metadata"]["name"] = json!("wobbly");
        objects.push(object);
    }
    let mut workload = world.like("hybrid", WORKLOAD)?;
    let spec = &mut workload["spec"];
    spec["targets"][1]["external"] = json!({"providerRef": {"name": "wobbly"}, "model": MODEL});
    spec["traffic"]["canary"] =
        json!({"steps": [{"weight": SHARE, "pause": "60s"}], "maxErrorPercent": "1"});
    // What spills to the failing target on a busy machine is not what the canary sends there.
    spec["traffic"]["spillover"]["enabled"] = json!(false);
    objects.push(workload);
    world.stack.apply(&objects)
}

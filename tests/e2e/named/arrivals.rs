//! A provider gains a model that no workload names, and loses it again.

use super::moves::{load, moved};
use super::{ask, decision, monthly};
use crate::market;
use crate::world::{World, scenario};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;
use weir_tests::stack::PRICE_HIGH;

const NAME: &str = "new-provider-model";
const WORKLOAD: (&str, &str) = ("e2e-new-model", NAME);
/// The target of the spec with the model that is new.
const NEW: &str = "cloud@acme-frontier";

/// The scenario's provider with these models, which are of one group.
fn provider(world: &World, models: &[&str]) -> Result<Value> {
    let mut provider = market::example(world, "InferenceProvider", NAME)?;
    let model =
        |name: &&str| json!({"name": name, "contextTokens": 128_000, "equivalenceGroup": "chat"});
    let models: Vec<Value> = models.iter().map(model).collect();
    provider["spec"]["priceBookRef"]["name"] = json!(NAME);
    provider["spec"]["models"] = json!(models);
    Ok(provider)
}

/// Prices of which the new model's is half of the other's.
fn prices(world: &World) -> Result<Value> {
    let (input, output) = PRICE_HIGH;
    let half = (input / 2.0, output / 2.0);
    let mut book = market::example(world, "InferencePriceBook", NAME)?;
    book["spec"]["source"] = market::listed(&[("acme-small", PRICE_HIGH), ("acme-frontier", half)]);
    Ok(book)
}

/// The cloud target of the example `hybrid` alone, at a provider that has its model and no other.
fn apply(world: &World) -> Result<()> {
    weir_tests::stack::namespace(&world.stack.cluster, WORKLOAD.0)?;
    let mut objects = market::objects(world, NAME, PRICE_HIGH)?;
    objects.retain(|object| object["kind"] == "InferencePlacementPolicy");
    let mut workload = world.like("hybrid", WORKLOAD)?;
    let spec = &mut workload["spec"];
    market::use_it(spec, NAME);
    let cloud = spec["targets"][1].clone();
    spec["targets"] = json!([cloud]);
    spec["capability"] = json!({"substitution": "EquivalentOnly"});
    objects.extend([prices(world)?, provider(world, &["acme-small"])?, workload]);
    world.stack.apply(&objects)
}

async fn candidates(world: &World) -> Result<Vec<String>> {
    let decision = decision(world, WORKLOAD).await?;
    let names = decision
        .candidates
        .into_iter()
        .map(|candidate| candidate.name);
    Ok(names.collect())
}

/// The new model costs half and is of the same group: the workload moves to it without a fee, and returns when it is
/// withdrawn, without a failed request. With substitution Forbidden it comes again and nothing moves.
#[test]
fn new_provider_model() {
    scenario(NAME, async |world| {
        apply(world)?;
        world.settled(WORKLOAD, "cloud").await?;
        ensure!(candidates(world).await? == ["cloud"]);
        let load = load(world, WORKLOAD).await?;
        let both = ["acme-small", "acme-frontier"];
        world.stack.apply(&[provider(world, &both)?])?;
        world.settled(WORKLOAD, NEW).await?;
        moved(world, WORKLOAD, "cloud", NEW).await?;
        let there = decision(world, WORKLOAD).await?;
        let (before, now) = (monthly(&there, "cloud")?, monthly(&there, NEW)?);
        ensure!(
            (before / 2.0 - now).abs() < 0.01,
            "{before} and {now} USD a month"
        );
        let endpoint = world.stack.endpoint(WORKLOAD.0, WORKLOAD.1).await?;
        let answer = ask(&endpoint, "rivers").await?;
        ensure!(
            answer.target == NEW && answer.location == "External",
            "{answer:#?}"
        );
        ensure!(answer.text.contains("acme-frontier"), "{answer:#?}");
        world.stack.apply(&[provider(world, &["acme-small"])?])?;
        world.settled(WORKLOAD, "cloud").await?;
        let workload = world.stack.workload(WORKLOAD.0, WORKLOAD.1).await?;
        let history = workload.status.unwrap_or_default().history;
        let newest = history.first().context("the history is empty")?;
        ensure!(newest.reason == "TargetRemoved", "{newest:#?}");
        let seen = load.stop().await;
        ensure!(
            seen.failed == 0 && seen.cut == 0 && seen.good > 0,
            "{seen:#?}"
        );
        forbid(world)?;
        world.stack.apply(&[provider(world, &both)?])?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.settled(WORKLOAD, "cloud").await?;
        ensure!(candidates(world).await? == ["cloud"]);
        world.clear(WORKLOAD.0)?;
        market::remove(world, NAME)
    });
}

fn forbid(world: &World) -> Result<()> {
    let patch = json!({"spec": {"capability": {"substitution": "Forbidden"}}}).to_string();
    let arguments = [
        "-n",
        WORKLOAD.0,
        "patch",
        "iwl",
        WORKLOAD.1,
        "--type=merge",
        "-p",
        &patch,
    ];
    world.kubectl(&arguments).map(drop)
}

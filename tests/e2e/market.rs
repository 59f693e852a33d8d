//! A provider, its prices and a policy of a scenario's own, so that no other workload moves. All three have one name.

use crate::world::World;
use anyhow::{Context, Result};
use kube::Api;
use kube::api::Patch;
use serde_json::{Value, json};
use weir_crds::InferencePriceBook;

/// USD per million tokens of prompts and of answers.
pub type Price = (f64, f64);

/// The example provider with its two models, `acme-small` at this price, and a policy that moves within seconds.
pub fn objects(world: &World, name: &str, small: Price) -> Result<Vec<Value>> {
    let mut book = example(world, "InferencePriceBook", name)?;
    book["spec"]["source"] = source(small);
    let mut provider = example(world, "InferenceProvider", name)?;
    provider["spec"]["priceBookRef"]["name"] = json!(name);
    let mut policy = example(world, "InferencePlacementPolicy", name)?;
    policy["spec"]["minDwell"] = json!("1s");
    policy["spec"]["confirmation"] = json!({"count": 2, "interval": "1s"});
    Ok(vec![book, provider, policy])
}

/// Makes a workload's spec use this market: its policy, and the provider for its external targets; at a quick pace.
pub fn use_it(spec: &mut Value, name: &str) {
    spec["placement"]["policyRef"]["name"] = json!(name);
    for target in spec["targets"].as_array_mut().into_iter().flatten() {
        if target["external"].is_object() {
            target["external"]["providerRef"]["name"] = json!(name);
        }
        if target["local"]["scaling"]["idleAfter"].is_string() {
            target["local"]["scaling"]["idleAfter"] = json!("1s");
        }
    }
    spec["traffic"]["canary"]["steps"] = json!([{"weight": 50, "pause": "1s"}]);
    spec["traffic"]["drain"]["timeout"] = json!("20s");
}

/// Changes the price of `acme-small`.
pub async fn set_price(world: &World, name: &str, small: Price) -> Result<()> {
    let api: Api<InferencePriceBook> = Api::all(world.stack.client.clone());
    let patch = json!({"spec": {"source": source(small)}});
    api.patch(name, &Default::default(), &Patch::Merge(&patch))
        .await
        .context("changing the price")?;
    Ok(())
}

/// Removes what [`objects`] made.
pub fn remove(world: &World, name: &str) -> Result<()> {
    for kind in [
        "inferenceprovider",
        "inferencepricebook",
        "inferenceplacementpolicy",
    ] {
        world.kubectl(&["delete", kind, name])?;
    }
    Ok(())
}

/// The example object of a kind, renamed.
pub fn example(world: &World, kind: &str, name: &str) -> Result<Value> {
    let mut examples = world.examples.fleet.iter();
    let found = examples.find(|object| object["kind"] == kind);
    let mut object = found
        .with_context(|| format!("no example of {kind}"))?
        .clone();
    object["metadata"] = json!({"name": name});
    Ok(object)
}

fn source(small: Price) -> Value {
    listed(&[("acme-small", small), ("acme-frontier", (3.0, 15.0))])
}

/// A price book's source with these models.
pub fn listed(prices: &[(&str, Price)]) -> Value {
    let entry = |(model, (input, output)): &(&str, Price)| {
        json!({
            "model": model,
            "inputUsdPerMillionTokens": format!("{input:.4}"),
            "outputUsdPerMillionTokens": format!("{output:.4}"),
        })
    };
    let entries: Vec<Value> = prices.iter().map(entry).collect();
    json!({"inline": {"entries": entries}})
}

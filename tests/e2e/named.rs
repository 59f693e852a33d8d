//! The cases that must come out right, by name, with Weir deciding, acting and answering requests.
//!
//! `placed` has those in which one side wins, all on one cluster at once; `moves` and `serving` the mixed ones,
//! `arrivals` models that no workload names.

mod arrivals;
mod moves;
mod placed;
mod serving;

use crate::market;
use crate::world::World;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weir_crds::decision::Decision;
use weir_tests::chat::{Answer, Ask, Endpoint};
use weir_tests::stack::PRICE_HIGH;

/// A tier of small replicas, for the node has two processors, at the price of the example tier.
fn tier(name: &str) -> Value {
    json!({
        "apiVersion": "inference.weir.dev/v1alpha1", "kind": "GPUTier",
        "metadata": {"name": name},
        "spec": {
            "nodeSelector": {"kubernetes.io/os": "linux"}, "sharing": "CPU",
            "resource": {"name": "cpu", "count": "100m"},
            "memory": "1Gi", "cost": {"rented": {"usdPerHour": "0.04"}},
        },
    })
}

/// The example model under another name, with an assumed speed on a tier.
fn model(world: &World, name: &str, tier: &str) -> Result<Value> {
    let mut model = market::example(world, "ModelProfile", name)?;
    model["spec"]["assumedThroughput"] = json!([{"tier": tier, "outputTokensPerSecond": 30}]);
    Ok(model)
}

/// Lets a workload's local target run the model of this name on the tier of this name.
fn run_on(workload: &mut Value, model: &str, tier: &str) {
    for target in workload["spec"]["targets"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        if target["local"].is_object() {
            target["local"]["modelRef"]["name"] = json!(model);
            target["local"]["tiers"] = json!([tier]);
        }
    }
}

/// The example `hybrid`, adapted, and its market, which have one name; with what else it needs.
fn apply(
    world: &World,
    (namespace, name): (&str, &str),
    others: Vec<Value>,
    adapt: impl FnOnce(&mut Value),
) -> Result<()> {
    world.namespace_with_model(namespace)?;
    let mut objects = market::objects(world, name, PRICE_HIGH)?;
    objects.extend(others);
    let mut workload = world.like("hybrid", (namespace, name))?;
    run_on(&mut workload, name, name);
    let spec = &mut workload["spec"];
    market::use_it(spec, name);
    adapt(spec);
    objects.push(workload);
    world.stack.apply(&objects)
}

/// Removes a scenario's workloads, and the market, tier and model that have its name.
fn clear(world: &World, namespace: &str, name: &str) -> Result<()> {
    world.clear(namespace)?;
    market::remove(world, name)?;
    world
        .kubectl(&["delete", "gputier,modelprofile", name])
        .map(drop)
}

/// The decision that stands in status.
async fn decision(world: &World, (namespace, name): (&str, &str)) -> Result<Decision> {
    let workload = world.stack.workload(namespace, name).await?;
    let status = workload.status.unwrap_or_default();
    status
        .decision
        .with_context(|| format!("{name} has no decision"))
}

/// A whole answer to one question.
async fn ask(endpoint: &Endpoint, about: &str) -> Result<Answer> {
    let ask = Ask {
        prompt: format!("Say something about {about}."),
        max_tokens: 4,
        stream: false,
    };
    let answer = endpoint.chat(&ask).await?;
    ensure!(answer.is_good(), "{answer:#?}");
    Ok(answer)
}

/// Monthly cost of a candidate in USD.
fn monthly(decision: &Decision, target: &str) -> Result<f64> {
    let mut candidates = decision.candidates.iter();
    let found = candidates.find(|candidate| candidate.name == target);
    let cost = found.and_then(|candidate| candidate.monthly_cost_usd.as_ref());
    let cost = cost.with_context(|| format!("{target} has no cost: {decision:#?}"))?;
    cost.parse().with_context(|| format!("cost {cost}"))
}

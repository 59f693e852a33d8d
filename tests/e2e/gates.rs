//! An edit that no operator accepts, and gateways that start after it: nothing opens that was not decided for.

use crate::market;
use crate::world::{World, scenario};
use anyhow::{Result, ensure};
use serde_json::json;
use std::time::Duration;
use weir_crds::condition::types;
use weir_tests::chat::{Ask, Endpoint};
use weir_tests::wait;

const NAMESPACE: &str = "e2e-gates";
const WORKLOAD: (&str, &str) = (NAMESPACE, "tenant");
const CLOSED: &str = "e2e-closed";
const CANARY: &str = "pangolin-4471";

#[test]
fn a_provider_that_is_closed_to_the_namespace_gets_nothing_before_and_after_a_rollout() {
    scenario("gates", async |world| {
        let outcome = stays_closed(world).await;
        world.kubectl(&["delete", "inferenceprovider", CLOSED, "--ignore-not-found"])?;
        outcome?;
        world.clear(NAMESPACE)
    });
}

async fn stays_closed(world: &World) -> Result<()> {
    let stack = &world.stack;
    world.namespace_with_model(NAMESPACE)?;
    let mut closed = market::example(world, "InferenceProvider", CLOSED)?;
    closed["spec"]["allowedNamespaces"] = json!(["nobody"]);
    let mut tenant = world.like("hybrid", WORKLOAD)?;
    tenant["spec"]["placement"] = json!({"mode": "Pinned", "pinnedTarget": "cloud"});
    stack.apply(&[closed, tenant.clone()])?;
    world.settled(WORKLOAD, "cloud").await?;
    let endpoint = stack.endpoint(NAMESPACE, "tenant").await?;
    let answer = endpoint.chat(&ask("echidna-3306")).await?;
    ensure!(
        answer.is_good() && answer.location == "External",
        "{answer:#?}"
    );

    for target in tenant["spec"]["targets"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        if target["external"].is_object() {
            target["external"]["providerRef"]["name"] = json!(CLOSED);
        } else {
            target["local"]["podTemplate"] = json!({"resources": {"requests": {"cpu": "banana"}}});
        }
    }
    stack.apply(&[tenant])?;
    let limit = Duration::from_secs(60);
    let refused = |workload: &weir_crds::InferenceWorkload| {
        let conditions = workload.status.iter().flat_map(|status| &status.conditions);
        let mut accepted = conditions.filter(|condition| condition.type_ == types::ACCEPTED);
        accepted.any(|condition| condition.status == "False")
    };
    let found = stack.workload_until(WORKLOAD, "the spec is refused", limit, refused);
    found.await?;
    is_refused(&endpoint).await?;
    let gateways = "deployment/weir-gateway-cloud";
    let inside = ["-n", "weir-system", "rollout"];
    world.kubectl(&[&inside[..], &["restart", gateways]].concat())?;
    world.kubectl(&[&inside[..], &["status", gateways, "--timeout=180s"]].concat())?;
    is_refused(&endpoint).await?;
    let seen = stack.fakes.bodies_with(CANARY).await?;
    ensure!(seen == 0, "the fake cloud was sent {seen} requests");
    let before = stack.fakes.bodies_with("echidna-3306").await?;
    ensure!(
        before == 1,
        "the fake cloud remembers {before} requests: the check proves nothing"
    );
    Ok(())
}

/// 503, and the same of every gateway that a Service may take.
async fn is_refused(endpoint: &Endpoint) -> Result<()> {
    let limit = Duration::from_secs(30);
    wait::until("requests are refused", limit, || async {
        let answer = endpoint.chat(&ask("nothing")).await?;
        Ok(if answer.status == 503 {
            Ok(())
        } else {
            Err(answer)
        })
    })
    .await?;
    for _ in 0..20 {
        let answer = endpoint.chat(&ask(CANARY)).await?;
        ensure!(answer.status == 503, "{answer:#?}");
    }
    Ok(())
}

fn ask(about: &str) -> Ask {
    Ask {
        prompt: format!("Say something about {about}."),
        max_tokens: 4,
        stream: false,
    }
}

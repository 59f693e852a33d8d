//! Children that fail: each failure is a typed reason on the workload, and clears with its cause.

use crate::look;
use crate::world::{World, scenario};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use weir_crds::condition::types;

const NAMESPACE: &str = "e2e-children";
const WITHOUT_CLAIM: &str = "e2e-claimless";

#[test]
fn failures_of_children_are_typed_reasons_and_clear_again() {
    scenario("children", async |world| {
        world.namespace_with_model(NAMESPACE)?;
        weir_tests::stack::namespace(&world.stack.cluster, WITHOUT_CLAIM)?;
        world.stack.apply(&[
            tier("tiny", "kubernetes.io/os", "linux"),
            tier("nowhere", "e2e.weir/place", "nowhere"),
        ])?;
        world
            .stack
            .apply(&[profile(world, Some(&"0".repeat(64)))?])?;
        let broken = [
            (
                (NAMESPACE, "checksum"),
                "tiny",
                "e2e-model",
                vec!["ChecksumMismatch"],
            ),
            (
                (WITHOUT_CLAIM, "claim"),
                "tiny",
                "smollm2-135m-instruct",
                vec!["ClaimMissing"],
            ),
            (
                (NAMESPACE, "nowhere"),
                "nowhere",
                "smollm2-135m-instruct",
                vec!["NoNodeForTier", "NoFeasibleTarget"],
            ),
        ];
        for (name, tier, model, _) in &broken {
            world.stack.apply(&[workload(world, *name, tier, model)?])?;
        }
        for (name, _, _, reasons) in &broken {
            has_reason(world, *name, reasons).await?;
        }
        names_the_tier(world).await?;

        world.stack.apply(&[profile(world, None)?])?;
        world.model_volume(WITHOUT_CLAIM)?;
        world.kubectl(&["label", "node", "node1", "e2e.weir/place=nowhere"])?;
        for (name, ..) in &broken {
            recovers(world, *name).await?;
        }
        world.kubectl(&["label", "node", "node1", "e2e.weir/place-"])?;
        an_image_that_cannot_be_pulled(world).await?;

        world.clear(NAMESPACE)?;
        world.clear(WITHOUT_CLAIM)?;
        world.kubectl(&["delete", "gputiers", "tiny", "nowhere"])?;
        world.kubectl(&["delete", "modelprofile", "e2e-model"])?;
        Ok(())
    });
}

/// The node forgets the engine's image, so that the next pod must pull it from a registry that is not there.
async fn an_image_that_cannot_be_pulled(world: &World) -> Result<()> {
    let images = &world.stack.images;
    let image = images
        .images
        .get("weir/engine")
        .context("the engine's image")?;
    world.stack.cluster.harness(&["remove-image", image])?;
    let name = (NAMESPACE, "image");
    let seen = async {
        world
            .stack
            .apply(&[workload(world, name, "tiny", "smollm2-135m-instruct")?])?;
        has_reason(world, name, &["ImagePullFailed"]).await
    }
    .await;
    world.stack.cluster.import(images)?;
    seen?;
    recovers(world, name).await
}

async fn has_reason(world: &World, name: (&str, &str), reasons: &[&str]) -> Result<()> {
    let begun = Instant::now();
    let told = |workload: &weir_crds::InferenceWorkload| {
        let ready = look::condition(workload, types::READY);
        ready.is_some_and(|ready| {
            ready.status == "False" && reasons.contains(&ready.reason.as_str())
        })
    };
    let what = format!("Ready=False with reason {}", reasons.join(" or "));
    let found = world
        .stack
        .workload_until(name, &what, Duration::from_secs(60), told)
        .await?;
    let ready = look::condition(&found, types::READY).context("Ready")?;
    println!(
        "children: {} after {:.0} s: {}: {}",
        name.1,
        begun.elapsed().as_secs_f64(),
        ready.reason,
        ready.message
    );
    Ok(())
}

/// The gate's own reason stands with the candidate.
async fn names_the_tier(world: &World) -> Result<()> {
    let workload = world.stack.workload(NAMESPACE, "nowhere").await?;
    let decision = workload.status.and_then(|status| status.decision);
    let candidates = decision
        .map(|decision| decision.candidates)
        .unwrap_or_default();
    let told = candidates
        .iter()
        .flat_map(|candidate| &candidate.rejected_by)
        .any(|rejection| rejection.reason == "NoNode" && rejection.message.contains("nowhere"));
    ensure!(
        told,
        "no candidate was rejected with reason NoNode: {candidates:#?}"
    );
    Ok(())
}

async fn recovers(world: &World, name: (&str, &str)) -> Result<()> {
    let begun = Instant::now();
    world.settled(name, "local").await?;
    println!(
        "children: {} is Ready {:.0} s later",
        name.1,
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

fn workload(world: &World, name: (&str, &str), tier: &str, model: &str) -> Result<Value> {
    let mut workload = world.like("private", name)?;
    let local = &mut workload["spec"]["targets"][0]["local"];
    local["tiers"] = json!([tier]);
    local["modelRef"]["name"] = json!(model);
    Ok(workload)
}

/// Small, for the node has two processors.
fn tier(name: &str, label: &str, value: &str) -> Value {
    json!({
        "apiVersion": "inference.weir.dev/v1alpha1", "kind": "GPUTier",
        "metadata": {"name": name},
        "spec": {
            "nodeSelector": {label: value}, "sharing": "CPU", "resource": {"name": "cpu", "count": "50m"},
            "memory": "1Gi", "cost": {"rented": {"usdPerHour": "0.01"}},
        },
    })
}

/// The example's model under another name, with the SHA-256 given.
fn profile(world: &World, sha256: Option<&str>) -> Result<Value> {
    let found = world
        .examples
        .fleet
        .iter()
        .find(|object| object["kind"] == "ModelProfile");
    let mut profile = found.context("no example profile")?.clone();
    profile["metadata"]["name"] = json!("e2e-model");
    if let Some(sha256) = sha256 {
        profile["spec"]["sha256"] = json!(sha256);
    }
    Ok(profile)
}

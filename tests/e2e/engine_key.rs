//! An upgrade from engines that anyone may use to engines that demand a key, under load.

use crate::world::{VALUES, World, scenario};
use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::ListParams;
use std::time::Duration;
use weir_tests::load::Load;
use weir_tests::stack::helm_install;
use weir_tests::wait;

const NAMESPACE: &str = "e2e-engine-key";
const WORKLOAD: (&str, &str) = (NAMESPACE, "open");

#[test]
fn engines_are_given_their_lock_under_load_and_no_request_fails() {
    scenario("engine key", async |world| {
        let outcome = locked_under_load(world).await;
        if outcome.is_err() {
            install(world, true)?;
        }
        outcome?;
        world.clear(NAMESPACE)?;
        world.nothing_panicked()
    });
}

async fn locked_under_load(world: &World) -> Result<()> {
    install(world, false)?;
    world.namespace_with_model(NAMESPACE)?;
    world.stack.apply(&[world.like("private", WORKLOAD)?])?;
    world.settled(WORKLOAD, "local").await?;
    let before = engines(world).await?;
    ensure!(
        before.len() == 1 && !before.iter().any(is_locked),
        "{before:#?}"
    );
    let endpoint = world.stack.endpoint(NAMESPACE, WORKLOAD.1).await?;
    let load = Load::start(&endpoint, 2, Duration::from_millis(300));
    tokio::time::sleep(Duration::from_secs(2)).await;
    install(world, true)?;
    let limit = Duration::from_secs(180);
    wait::until("every engine demands a key", limit, || async {
        let engines = engines(world).await?;
        let done = engines
            .iter()
            .all(|engine| is_locked(engine) && is_rolled_out(engine));
        Ok(if done { Ok(()) } else { Err(engines) })
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let seen = load.stop().await;
    println!("engine key: {} good while engines were locked", seen.good);
    ensure!(
        seen.failed == 0 && seen.cut == 0 && seen.good > 0,
        "{seen:#?}"
    );
    Ok(())
}

fn install(world: &World, require_key: bool) -> Result<()> {
    let value = format!("engine.requireKey={require_key}");
    let mut sets = VALUES.to_vec();
    sets.push(&value);
    let stack = &world.stack;
    tokio::task::block_in_place(|| helm_install(&stack.cluster, &stack.images, &sets))
}

async fn engines(world: &World) -> Result<Vec<Deployment>> {
    let api: Api<Deployment> = Api::namespaced(world.stack.client.clone(), NAMESPACE);
    Ok(api.list(&ListParams::default()).await?.items)
}

fn is_locked(engine: &Deployment) -> bool {
    let pod = engine
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref());
    let containers = pod.into_iter().flat_map(|pod| &pod.containers);
    let mut args = containers.flat_map(|container| container.args.iter().flatten());
    args.any(|arg| arg.starts_with("--key-root="))
}

/// Whether every pod is of the present template, and ready.
fn is_rolled_out(engine: &Deployment) -> bool {
    let Some(status) = &engine.status else {
        return false;
    };
    let wanted = engine.spec.as_ref().and_then(|spec| spec.replicas);
    status.observed_generation == engine.metadata.generation
        && status.updated_replicas == wanted
        && status.ready_replicas == wanted
        && status.replicas == wanted
}

//! NetworkPolicies of the chart and of engines, enforced by an engine that real clusters use.

use crate::world::{World, scenario};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use weir_tests::chat::Ask;
use weir_tests::stack::{DEMO_NAMESPACE, RELEASE_NAMESPACE};

const NAMESPACE: &str = "e2e-stranger";
/// Held beside the node by the harness: RFC 5737 gives it to nobody.
const OUTSIDE: &str = "203.0.113.10";

/// A connection that nothing of Weir needs.
struct Attempt {
    what: &'static str,
    namespace: &'static str,
    pod: String,
    address: String,
    port: &'static str,
}

#[test]
fn no_policy_lets_the_local_plane_or_an_engine_out_or_a_stranger_in() {
    scenario("policies", async |world| {
        world.examples_are_ready().await?;
        weir_tests::stack::namespace(&world.stack.cluster, NAMESPACE)?;
        world.stack.apply(&[stranger()])?;
        let ready = [
            "-n",
            NAMESPACE,
            "wait",
            "--for=condition=Ready",
            "pod/stranger",
            "--timeout=60s",
        ];
        world.kubectl(&ready)?;
        let cluster = &world.stack.cluster;
        cluster.harness(&["outside", "hold"])?;
        let attempts = attempts(world)?;
        all(world, &attempts, "connected", "without enforcement")?;

        cluster.harness(&["policies", "enforce"])?;
        let begun = dropped(world)?;
        all(world, &attempts, "refused", "with the policies enforced")?;
        let dropped = dropped(world)? - begun;
        ensure!(
            dropped >= attempts.len() as u64,
            "the engine counted {dropped} refused packets of {} attempts",
            attempts.len()
        );
        // What Weir needs is let through: the other plane's way out, and the way to an engine.
        for (name, location) in [("private", "Local"), ("frontier", "External")] {
            let answer = world
                .stack
                .endpoint(DEMO_NAMESPACE, name)
                .await?
                .chat(&ask())
                .await?;
            ensure!(
                answer.is_good() && answer.location == location,
                "{name}: {answer:#?}"
            );
        }

        cluster.harness(&["policies", "release"])?;
        all(world, &attempts, "connected", "with the engine gone again")?;
        let by_service = [to_the_provider(world)?];
        all(
            world,
            &by_service,
            "connected",
            "with the engine gone again",
        )?;
        let came = cluster.harness(&["outside", "leave"])?;
        ensure!(
            came.trim() == "4",
            "the outside was reached {} times, by two pods twice while nothing was enforced",
            came.trim()
        );
        world
            .kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"])
            .map(drop)
    });
}

fn attempts(world: &World) -> Result<Vec<Attempt>> {
    let plane = "app.kubernetes.io/component=gateway,inference.weir.dev/plane=local";
    let (gateway, _) = pod(world, RELEASE_NAMESPACE, plane)?;
    let workload = world.kubectl(&[
        "-n",
        DEMO_NAMESPACE,
        "get",
        "inferenceworkload",
        "private",
        "-o",
        "jsonpath={.metadata.uid}",
    ])?;
    let (engine, address) = pod(
        world,
        DEMO_NAMESPACE,
        &format!("{}={workload}", weir_crds::names::LABEL_WORKLOAD_UID),
    )?;
    let attempt = |what, namespace, pod: &str, address: &str, port| Attempt {
        what,
        namespace,
        pod: pod.to_owned(),
        address: address.to_owned(),
        port,
    };
    Ok(vec![
        attempt(
            "the local plane to the outside",
            RELEASE_NAMESPACE,
            &gateway,
            OUTSIDE,
            "443",
        ),
        attempt(
            "an engine to the outside",
            DEMO_NAMESPACE,
            &engine,
            OUTSIDE,
            "443",
        ),
        attempt(
            "a stranger to an engine",
            NAMESPACE,
            "stranger",
            &address,
            "8000",
        ),
    ])
}

/// A pod reaches another of its node by a Service, whose answers the node has to translate.
fn to_the_provider(world: &World) -> Result<Attempt> {
    let plane = "app.kubernetes.io/component=gateway,inference.weir.dev/plane=cloud";
    let (pod, _) = pod(world, RELEASE_NAMESPACE, plane)?;
    let path = "jsonpath={.spec.clusterIP}";
    let service = [
        "-n",
        "weir-fakes",
        "get",
        "service",
        "fake-cloud",
        "-o",
        path,
    ];
    Ok(Attempt {
        what: "the cloud plane to a provider",
        namespace: RELEASE_NAMESPACE,
        pod,
        address: world.kubectl(&service)?,
        port: "443",
    })
}

/// Name and address of the first running pod that a selector finds.
fn pod(world: &World, namespace: &str, selector: &str) -> Result<(String, String)> {
    let path = "jsonpath={.items[0].metadata.name} {.items[0].status.podIP}";
    let running = "--field-selector=status.phase=Running";
    let found = world.kubectl(&[
        "-n", namespace, "get", "pods", "-l", selector, running, "-o", path,
    ])?;
    let (name, address) = found.split_once(' ').context("a pod without an address")?;
    Ok((name.to_owned(), address.to_owned()))
}

fn all(world: &World, attempts: &[Attempt], expected: &str, when: &str) -> Result<()> {
    for attempt in attempts {
        let target = [attempt.pod.as_str(), &attempt.address, attempt.port];
        let words = [&["connect", "--namespace", attempt.namespace][..], &target].concat();
        let outcome = world.stack.cluster.harness(&words)?;
        ensure!(
            outcome.trim() == expected,
            "{} {when}: {}",
            attempt.what,
            outcome.trim()
        );
    }
    Ok(())
}

fn dropped(world: &World) -> Result<u64> {
    let printed = world.stack.cluster.harness(&["policies", "verdicts"])?;
    let verdicts: BTreeMap<String, u64> = serde_json::from_str(&printed)?;
    Ok(verdicts.get("drop").copied().unwrap_or(0))
}

fn ask() -> Ask {
    Ask {
        prompt: "Say hello.".to_owned(),
        max_tokens: 4,
        stream: false,
    }
}

/// A pod that does nothing; only its network is used.
fn stranger() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": NAMESPACE, "name": "stranger"},
        "spec": {
            "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "stranger", "image": "localhost/pause:1", "imagePullPolicy": "Never",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}

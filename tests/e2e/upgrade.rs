//! `helm upgrade`, `helm test`, `helm uninstall` and installing again, with live workloads.

use crate::look;
use crate::world::{VALUES, World, scenario};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use std::time::Duration;
use weir_tests::chat::Ask;
use weir_tests::cluster::output;
use weir_tests::load::Load;
use weir_tests::stack::{DEMO_NAMESPACE, RELEASE_NAMESPACE, helm_install};
use weir_tests::wait;

#[test]
fn upgrade_and_uninstall_with_live_workloads_do_what_people_expect() {
    scenario("upgrade", async |world| {
        world.examples_are_ready().await?;
        let engines = look::engine_pods(&world.stack, DEMO_NAMESPACE).await?;
        ensure!(
            engines.len() == 2,
            "engines of private and hybrid are expected: {engines:?}"
        );
        upgraded_under_load(world).await?;
        same_engines(world, &engines, "the upgrade").await?;
        helm_test(world)?;
        uninstalled(world, &engines).await?;
        installed_again(world).await?;
        same_engines(world, &engines, "installing again").await?;
        world.nothing_panicked()
    });
}

async fn upgraded_under_load(world: &World) -> Result<()> {
    let stack = &world.stack;
    let mut loads = Vec::new();
    for name in ["hybrid", "private"] {
        let endpoint = stack.endpoint(DEMO_NAMESPACE, name).await?;
        loads.push((name, Load::start(&endpoint, 2, Duration::from_millis(300))));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let private = stack.workload(DEMO_NAMESPACE, "private").await?;
    let status = private.status.context("private has no status")?;
    let key = status.client_key.context("private has no key")?.secret_name;
    let model = status.endpoint.context("private has no endpoint")?.model;
    let values = [
        format!("test.namespace={DEMO_NAMESPACE}"),
        format!("test.keySecret={key}"),
        format!("test.model={model}"),
        "operator.podAnnotations.rolled=once".to_owned(),
        "gateway.podAnnotations.rolled=once".to_owned(),
        "nodeAgent.podAnnotations.rolled=once".to_owned(),
    ];
    let mut sets: Vec<&str> = VALUES.to_vec();
    sets.extend(values.iter().map(String::as_str));
    let before = gateways(world).await?;
    let upgraded =
        tokio::task::block_in_place(|| helm_install(&stack.cluster, &stack.images, &sets));
    upgraded?;
    wait::until(
        "the old gateways are gone",
        Duration::from_secs(60),
        || async {
            let now = gateways(world).await?;
            let old = now.iter().filter(|pod| before.contains(pod)).count();
            Ok(if old == 0 { Ok(()) } else { Err(now) })
        },
    )
    .await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    for (name, load) in loads {
        let seen = load.stop().await;
        println!("upgrade: {name}: {} good during the upgrade", seen.good);
        ensure!(
            seen.failed == 0 && seen.cut == 0 && seen.good > 0,
            "{name}: {seen:#?}"
        );
    }
    Ok(())
}

/// UIDs of the gateways' pods.
async fn gateways(world: &World) -> Result<Vec<String>> {
    let pods: Api<Pod> = Api::namespaced(world.stack.client.clone(), RELEASE_NAMESPACE);
    let gateways = ListParams::default().labels("app.kubernetes.io/component=gateway");
    let list = pods.list(&gateways).await?;
    Ok(list
        .iter()
        .filter_map(|pod| pod.metadata.uid.clone())
        .collect())
}

async fn same_engines(world: &World, engines: &[(String, String)], after: &str) -> Result<()> {
    let now = look::engine_pods(&world.stack, DEMO_NAMESPACE).await?;
    ensure!(
        now == engines,
        "engines were replaced by {after}: {engines:?} → {now:?}"
    );
    let path = "jsonpath={range .items[*]}{.status.containerStatuses[0].restartCount}{end}";
    let selector = "app.kubernetes.io/component=engine";
    let restarts = world.kubectl(&[
        "-n",
        DEMO_NAMESPACE,
        "get",
        "pods",
        "-l",
        selector,
        "-o",
        path,
    ])?;
    ensure!(
        restarts.chars().all(|count| count == '0'),
        "engines were restarted by {after}: {restarts}"
    );
    Ok(())
}

fn helm_test(world: &World) -> Result<()> {
    let arguments = [
        "test",
        "weir",
        "--namespace",
        RELEASE_NAMESPACE,
        "--timeout",
        "60s",
    ];
    let mut helm = world.stack.cluster.helm(arguments);
    output(helm.stderr(std::process::Stdio::piped())).context("helm test")?;
    // Helm's own `--logs` looks in the release's namespace alone; the key, and with it the pod, is beside the workload.
    let answer = world.kubectl(&["-n", DEMO_NAMESPACE, "logs", "weir-test-chat"])?;
    ensure!(!answer.trim().is_empty(), "the test pod printed nothing");
    println!(
        "upgrade: helm test: {}",
        answer.lines().last().unwrap_or_default()
    );
    world
        .kubectl(&[
            "-n",
            DEMO_NAMESPACE,
            "delete",
            "pod",
            "weir-test-chat",
            "--ignore-not-found",
        ])
        .map(drop)
}

async fn uninstalled(world: &World, engines: &[(String, String)]) -> Result<()> {
    let before = kept(world)?;
    let arguments = [
        "uninstall",
        "weir",
        "--namespace",
        RELEASE_NAMESPACE,
        "--wait",
        "--timeout",
        "60s",
    ];
    output(&mut world.stack.cluster.helm(arguments)).context("helm uninstall")?;
    wait::until(
        "Weir's own pods are gone",
        Duration::from_secs(60),
        || async {
            let pods: Api<Pod> = Api::namespaced(world.stack.client.clone(), RELEASE_NAMESPACE);
            let left = pods.list(&ListParams::default()).await?.items.len();
            Ok(if left == 0 { Ok(()) } else { Err(left) })
        },
    )
    .await?;
    // Long enough for garbage collection to take what it should not.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = kept(world)?;
    ensure!(
        before == after,
        "uninstalling changed what it should keep:\n{before}\n→\n{after}"
    );
    same_engines(world, engines, "uninstalling").await
}

/// Kinds, workloads, key Secrets, Deployments, Services and provider keys, each with its UID.
fn kept(world: &World) -> Result<String> {
    let path = "jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name} {.metadata.uid}{\"\\n\"}{end}";
    let cluster = world.kubectl(&[
        "get",
        "crd,inferenceproviders,gputiers,modelprofiles,inferencepricebooks",
        "-o",
        path,
    ])?;
    let demo = world.kubectl(&[
        "-n",
        DEMO_NAMESPACE,
        "get",
        "inferenceworkloads,secrets,deployments,services,pvc",
        "-o",
        path,
    ])?;
    let keys = world.kubectl(&["-n", "weir-providers", "get", "secrets", "-o", path])?;
    for expected in [
        "InferenceWorkload demo/private",
        "Secret demo/private-",
        "CustomResourceDefinition",
        "Deployment demo/private-local-",
    ] {
        ensure!(
            format!("{cluster}{demo}{keys}").contains(expected),
            "no {expected} in\n{cluster}{demo}{keys}"
        );
    }
    Ok(cluster + &demo + &keys)
}

async fn installed_again(world: &World) -> Result<()> {
    let stack = &world.stack;
    let keys = |text: &str| {
        text.lines()
            .filter(|line| line.starts_with("Secret demo/"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let before = keys(&kept(world)?);
    tokio::task::block_in_place(|| helm_install(&stack.cluster, &stack.images, &VALUES))
        .context("installing again")?;
    for (name, target) in [
        ("private", "local"),
        ("hybrid", "local"),
        ("frontier", "cloud"),
    ] {
        world.settled((DEMO_NAMESPACE, name), target).await?;
        let endpoint = stack.endpoint(DEMO_NAMESPACE, name).await?;
        let ask = Ask {
            prompt: "Say hello.".into(),
            max_tokens: 4,
            stream: false,
        };
        wait::until(
            &format!("{name} answers again"),
            Duration::from_secs(30),
            || async {
                // The gateways' Services are new: until proxies have their endpoints, there is no connection.
                Ok(match endpoint.chat(&ask).await {
                    Ok(answer) if answer.is_good() => Ok(()),
                    other => Err(other),
                })
            },
        )
        .await?;
    }
    ensure!(before == keys(&kept(world)?), "client keys were replaced");
    Ok(())
}

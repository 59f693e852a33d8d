//! The API server away: what is placed goes on being served.

use crate::world::{World, scenario};
use anyhow::{Result, ensure};
use std::time::Duration;
use tokio::net::TcpStream;
use weir_tests::load::Load;
use weir_tests::stack::{DEMO_NAMESPACE, RELEASE_NAMESPACE, Stack};
use weir_tests::wait;

const AWAY: Duration = Duration::from_secs(20);

#[test]
fn requests_are_served_while_the_api_server_is_away() {
    scenario("outage", async |world| {
        world.examples_are_ready().await?;
        let stack = &world.stack;
        let mut loads = Vec::new();
        for name in ["hybrid", "private"] {
            let endpoint = stack.endpoint(DEMO_NAMESPACE, name).await?;
            loads.push((name, Load::start(&endpoint, 2, Duration::from_millis(300))));
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before: Vec<u64> = loads.iter().map(|(_, load)| load.seen().good).collect();
        stack
            .cluster
            .harness(&["component", "kube-apiserver", "stop"])?;
        tokio::time::sleep(AWAY).await;
        let during: Vec<u64> = loads.iter().map(|(_, load)| load.seen().good).collect();
        stack
            .cluster
            .harness(&["component", "kube-apiserver", "start"])?;
        operator_is_back(stack).await?;
        services_change_again(world).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        for (at, (name, load)) in loads.into_iter().enumerate() {
            let seen = load.stop().await;
            println!(
                "outage: {name}: {} good, {} of them while it was away",
                seen.good,
                during[at] - before[at]
            );
            ensure!(
                during[at] > before[at],
                "{name} was asked nothing while the API server was away"
            );
            ensure!(seen.failed == 0 && seen.cut == 0, "{name}: {seen:#?}");
        }
        world.nothing_panicked()
    });
}

/// A Service made now is reached: Kubernetes' controllers and proxy watch again, which they try ever more rarely while the
/// API server is away. Until then no new replica of anything can be reached.
async fn services_change_again(world: &World) -> Result<()> {
    let name = "after-outage";
    let gateways = "deployment/weir-gateway-local";
    let named = format!("--name={name}");
    let inside = ["-n", RELEASE_NAMESPACE];
    let expose = [
        "expose",
        gateways,
        &named,
        "--port=80",
        "--target-port=8080",
    ];
    world.kubectl(&[&inside[..], &expose].concat())?;
    let address = world.stack.service(RELEASE_NAMESPACE, name).await?;
    let limit = Duration::from_secs(90);
    wait::until("a new Service is reached", limit, || async {
        let connect = tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(address));
        Ok(match connect.await {
            Ok(Ok(_)) => Ok(()),
            other => Err(other.map(drop)),
        })
    })
    .await?;
    world
        .kubectl(&[&inside[..], &["delete", "service", name]].concat())
        .map(drop)
}

/// The API server answers, and an operator leads again.
async fn operator_is_back(stack: &Stack) -> Result<()> {
    let limit = Duration::from_secs(90);
    wait::until("an operator renews its lease again", limit, || async {
        let renewed = || {
            let arguments = [
                "-n",
                "weir-system",
                "get",
                "lease",
                "weir-operator",
                "-o",
                "jsonpath={.spec.renewTime}",
            ];
            let mut kubectl = stack.cluster.kubectl(arguments);
            kubectl
                .arg("--request-timeout=2s")
                .stderr(std::process::Stdio::null());
            weir_tests::cluster::output(&mut kubectl).unwrap_or_default()
        };
        let first = renewed();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let second = renewed();
        Ok(
            if !first.is_empty() && !second.is_empty() && first != second {
                Ok(())
            } else {
                Err((first, second))
            },
        )
    })
    .await?;
    let arguments = [
        "-n",
        "weir-system",
        "rollout",
        "status",
        "deployment/weir-operator",
        "--timeout=60s",
    ];
    weir_tests::cluster::output(&mut stack.cluster.kubectl(arguments)).map(drop)
}

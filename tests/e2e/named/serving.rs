//! Mixed cases in which both sides serve: over a cold start, and over a burst.

use super::{apply, ask, clear, model, tier};
use crate::world::{World, scenario};
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;
use weir_tests::load::Load;
use weir_tests::wait;

const LIMIT: Duration = Duration::from_secs(60);

/// The example `hybrid` with the scaling and the spillover given.
fn apply_with(world: &World, workload: (&str, &str), scaling: Value, spill: Value) -> Result<()> {
    let name = workload.1;
    let objects = vec![tier(name), model(world, name, name)?];
    apply(world, workload, objects, |spec| {
        spec["targets"][0]["local"]["scaling"] = scaling;
        spec["traffic"]["spillover"] = spill;
    })
}

/// While the local target loads its model, the cloud answers; from then on the local one does.
#[test]
fn cold_start_bridge() {
    const NAME: &str = "cold-start-bridge";
    const NAMESPACE: &str = "e2e-cold-start";
    scenario(NAME, async |world| {
        let scaling = json!({"minReplicas": 0, "maxReplicas": 1, "idleAfter": "15m"});
        let spill = json!({"enabled": true, "queueWait": "500ms", "onColdStart": "Spill"});
        apply_with(world, (NAMESPACE, NAME), scaling, spill)?;
        let placed = |workload: &weir_crds::InferenceWorkload| {
            let status = workload.status.as_ref();
            let placement = status.and_then(|status| status.placement.as_ref());
            placement.is_some_and(|placement| placement.target == "local")
        };
        world
            .stack
            .workload_until((NAMESPACE, NAME), "placed locally", LIMIT, placed)
            .await?;
        let endpoint = world.stack.endpoint(NAMESPACE, NAME).await?;
        let load = Load::start(&endpoint, 1, Duration::from_millis(50));
        world.settled((NAMESPACE, NAME), "local").await?;
        wait::until("the local target answers", LIMIT, || async {
            let answer = ask(&endpoint, "a hare").await?;
            Ok(if answer.location == "Local" {
                Ok(())
            } else {
                Err(answer)
            })
        })
        .await?;
        let seen = load.stop().await;
        // The route itself may be a moment behind the status: until a gateway knows it, requests are refused.
        let early = seen
            .failures
            .iter()
            .all(|failure| failure.starts_with("401"));
        ensure!(seen.cut == 0 && early, "{seen:#?}");
        let bridged = ("External".to_owned(), "cold-start".to_owned());
        let bridged = seen.by_route.get(&bridged).copied().unwrap_or_default();
        ensure!(bridged > 0, "nothing was bridged: {seen:#?}");
        println!(
            "{NAME}: {bridged} requests were bridged: {:?}",
            seen.by_route
        );
        clear(world, NAMESPACE, NAME)
    });
}

/// One replica serves the base load; what queues behind a burst goes to the cloud, and nothing once the burst is over.
#[test]
fn base_local_burst_cloud() {
    const NAME: &str = "base-local-burst-cloud";
    const NAMESPACE: &str = "e2e-burst";
    scenario(NAME, async |world| {
        let scaling = json!({"minReplicas": 1, "maxReplicas": 1});
        let spill = json!({"enabled": true, "queueWait": "50ms"});
        apply_with(world, (NAMESPACE, NAME), scaling, spill)?;
        world.settled((NAMESPACE, NAME), "local").await?;
        let endpoint = world.stack.endpoint(NAMESPACE, NAME).await?;
        let count = |seen: &weir_tests::load::Seen, location: &str, reason: &str| {
            let route = (location.to_owned(), reason.to_owned());
            seen.by_route.get(&route).copied().unwrap_or_default()
        };

        let base = Load::start(&endpoint, 1, Duration::from_millis(200));
        tokio::time::sleep(Duration::from_secs(3)).await;
        let base = base.stop().await;
        ensure!(
            base.failed == 0 && count(&base, "Local", "placement") > 0,
            "{base:#?}"
        );
        let burst = Load::start(&endpoint, 32, Duration::ZERO);
        wait::until("the burst spills", LIMIT, || async {
            let seen = burst.seen();
            Ok(match count(&seen, "External", "spill") {
                0 => Err(seen),
                _ => Ok(()),
            })
        })
        .await?;
        let burst = burst.stop().await;
        ensure!(
            burst.failed == 0 && burst.cut == 0 && count(&burst, "Local", "placement") > 0,
            "{burst:#?}"
        );
        println!("{NAME}: the burst went {:?}", burst.by_route);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let after = ask(&endpoint, "a hare").await?;
        ensure!(
            after.location == "Local" && after.reason == "placement",
            "{after:#?}"
        );
        clear(world, NAMESPACE, NAME)
    });
}

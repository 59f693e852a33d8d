//! Step 6: a price change moves a workload to the cloud, and back, while requests run.

use super::Shown;
use crate::load::{Load, Seen};
use crate::stack::{DEMO_NAMESPACE, PRICE_HIGH, PRICE_LOW, Stack};
use crate::wait;
use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, ResourceExt};
use std::cell::RefCell;
use std::time::{Duration, Instant};
use weir_crds::InferenceWorkload;
use weir_crds::names;
use weir_crds::placement::Phase;

const WORKLOAD: (&str, &str) = (DEMO_NAMESPACE, "hybrid");
const LIMIT: Duration = Duration::from_secs(150);

/// Runs the load, lowers and raises the price, and checks that both moves were clean.
pub async fn a_price_moves_the_workload(stack: &Stack) -> Shown {
    let endpoint = stack.endpoint(WORKLOAD.0, WORKLOAD.1).await?;
    let before = stack.workload(WORKLOAD.0, WORKLOAD.1).await?;
    let entries = before
        .status
        .as_ref()
        .map_or(0, |status| status.history.len());
    let load = Load::start(&endpoint, 2, Duration::from_millis(300));
    let outcome = there_and_back(stack, &load).await;
    let seen = load.stop().await;
    let mut said = outcome.map_err(|error| error.context(format!("the load saw {seen:#?}")))?;
    clean(&seen)?;
    said.push(format!(
        "{} requests, {} of them streams: 0 failed, 0 cut; {:?}",
        seen.good, seen.streams, seen.by_route
    ));
    let after = stack.workload(WORKLOAD.0, WORKLOAD.1).await?;
    let history = after.status.unwrap_or_default().history;
    ensure!(
        history.len() >= entries + 2,
        "two new entries in status.history are expected: {history:#?}"
    );
    for entry in history.iter().take(2) {
        let from = entry.from.as_deref().unwrap_or("-");
        said.push(format!(
            "history: {} {} → {} ({})",
            entry.id, from, entry.to, entry.reason
        ));
    }
    let both = |notes: &[String]| notes.len() >= 2;
    let moved = stack.events_until(&before, "PlacementMoved", both).await?;
    said.extend(
        moved
            .into_iter()
            .map(|note| format!("event: PlacementMoved: {note}")),
    );
    Ok(((), said))
}

async fn there_and_back(stack: &Stack, load: &Load) -> Result<Vec<String>> {
    let mut said = Vec::new();
    tokio::time::sleep(Duration::from_secs(5)).await;
    for (price, target, word) in [
        (PRICE_LOW, "cloud", "falls"),
        (PRICE_HIGH, "local", "rises"),
    ] {
        let start = Instant::now();
        stack.fakes.set_price("acme-small", price).await?;
        let workload = settled_on(stack, target, &mut said).await?;
        let status = workload.status.clone().unwrap_or_default();
        let decision = status.decision.unwrap_or(missing_decision(&workload)?);
        said.push(format!(
            "the price {word}: {} after {:.0} s: {}",
            target,
            start.elapsed().as_secs_f64(),
            decision.message
        ));
        if target == "cloud" {
            released(stack, &workload).await?;
            said.push(format!(
                "the local replica was drained and scaled to 0 after {:.0} s",
                start.elapsed().as_secs_f64()
            ));
        }
        let routed = load
            .seen()
            .by_route
            .keys()
            .any(|(location, _)| location == "External");
        ensure!(
            routed,
            "no request was answered by the cloud: {:#?}",
            load.seen()
        );
    }
    Ok(said)
}

fn missing_decision(workload: &InferenceWorkload) -> Result<weir_crds::decision::Decision> {
    let decision = workload
        .status
        .as_ref()
        .and_then(|status| status.decision.clone());
    decision.ok_or_else(|| anyhow::anyhow!("{} has no decision", workload.name_any()))
}

/// Waits until no move is in progress and the target has the traffic; notes the weights on the way.
async fn settled_on(
    stack: &Stack,
    target: &str,
    said: &mut Vec<String>,
) -> Result<InferenceWorkload> {
    let shares = RefCell::new(Vec::<String>::new());
    let found = wait::until(&format!("hybrid settles on {target}"), LIMIT, || async {
        let workload = stack.workload(WORKLOAD.0, WORKLOAD.1).await?;
        let Some(placement) = workload
            .status
            .as_ref()
            .and_then(|status| status.placement.clone())
        else {
            return Ok(Err(workload.status));
        };
        let share: Vec<String> = placement
            .weights
            .iter()
            .map(|weight| format!("{} {}", weight.target, weight.weight))
            .collect();
        let share = format!("{:?}: {}", placement.phase, share.join(", "));
        if shares.borrow().last() != Some(&share) {
            shares.borrow_mut().push(share);
        }
        let settled = placement.phase == Phase::Steady && placement.target == target;
        Ok(if settled {
            Ok(workload)
        } else {
            Err(workload.status)
        })
    })
    .await;
    said.extend(
        shares
            .into_inner()
            .into_iter()
            .map(|share| format!("  {share}")),
    );
    found
}

/// Waits until the local Deployment has no replica.
async fn released(stack: &Stack, workload: &InferenceWorkload) -> Result<()> {
    let name = names::child_name(
        &workload.name_any(),
        "local",
        &workload.uid().unwrap_or_default(),
    );
    let deployments: Api<Deployment> = Api::namespaced(stack.client.clone(), DEMO_NAMESPACE);
    wait::until(
        "the local Deployment is scaled to 0",
        Duration::from_secs(60),
        || async {
            let deployment = deployments.get(&name).await?;
            let wished = deployment.spec.as_ref().and_then(|spec| spec.replicas);
            let running = deployment
                .status
                .as_ref()
                .and_then(|status| status.replicas)
                .unwrap_or(0);
            Ok(if wished == Some(0) && running == 0 {
                Ok(())
            } else {
                Err((wished, running))
            })
        },
    )
    .await
}

fn clean(seen: &Seen) -> Result<()> {
    ensure!(
        seen.failed == 0 && seen.cut == 0,
        "requests failed or were cut: {seen:#?}"
    );
    ensure!(
        seen.unlabelled == 0,
        "answers lack x-weir headers: {seen:#?}"
    );
    ensure!(
        seen.by_decision.len() >= 2,
        "two decisions are expected in the headers: {seen:#?}"
    );
    ensure!(
        seen.streams > 0 && seen.good > seen.streams,
        "streams and whole answers are expected: {seen:#?}"
    );
    Ok(())
}

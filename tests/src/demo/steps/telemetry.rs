//! Step 8: what the agents read is seen, and what they no longer say is unknown.

use super::{Shown, table};
use crate::cluster::output;
use crate::stack::{DEMO_NAMESPACE, Stack};
use crate::wait;
use anyhow::{Context, Result, ensure};
use kube::Api;
use std::time::Duration;
use weir_crds::GPUTier;

/// Utilization appears; the agent is stopped, utilization is unknown, nothing moves; the agent goes on, it is back.
pub async fn telemetry_is_seen(stack: &Stack) -> Shown {
    utilization(
        stack,
        "the tier's utilization is known",
        Duration::from_secs(75),
        true,
    )
    .await?;
    let (_, mut said) = table(stack, &["get", "gputiers,gpunodes"])?;
    let metrics = agent_metrics(stack)?;
    ensure!(
        metrics.contains("quantity=\"cpu_utilization_percent\""),
        "the agent's metrics lack the processor's utilization:\n{metrics}"
    );
    let before = placements(stack).await?;
    silence(stack, true)?;
    let what = "a silent agent makes utilization unknown";
    let silent = utilization(stack, what, Duration::from_secs(40), false).await;
    silence(stack, false)?;
    silent?;
    let after = placements(stack).await?;
    ensure!(
        before == after,
        "placements changed while the agent was silent: {before:?} → {after:?}"
    );
    said.push("the agent was stopped: utilization unknown, no placement changed".into());
    utilization(
        stack,
        "utilization is known again",
        Duration::from_secs(100),
        true,
    )
    .await?;
    said.push("the agent goes on: utilization is known again".into());
    Ok(((), said))
}

async fn utilization(stack: &Stack, what: &str, limit: Duration, known: bool) -> Result<()> {
    let tiers: Api<GPUTier> = Api::all(stack.client.clone());
    wait::until(what, limit, || async {
        let status = tiers.get("cpu").await?.status.unwrap_or_default();
        Ok(if status.utilization_percent.is_some() == known {
            Ok(())
        } else {
            Err(status)
        })
    })
    .await
}

async fn placements(stack: &Stack) -> Result<Vec<(String, String)>> {
    let mut placements = Vec::new();
    for name in ["private", "hybrid", "frontier"] {
        let status = stack
            .workload(DEMO_NAMESPACE, name)
            .await?
            .status
            .unwrap_or_default();
        let placement = status
            .placement
            .with_context(|| format!("{name} is not placed"))?;
        placements.push((placement.target, format!("{:?}", placement.since)));
    }
    Ok(placements)
}

/// Stops the agent's process, or lets it go on; on a cluster that is not ours the agents are taken away instead.
fn silence(stack: &Stack, silent: bool) -> Result<()> {
    if stack.cluster.is_external() {
        let nowhere = if silent { "\"true\"" } else { "null" };
        let patch = format!(
            "{{\"spec\":{{\"template\":{{\"spec\":{{\"nodeSelector\":{{\"weir.dev/nowhere\":{nowhere}}}}}}}}}}}"
        );
        let arguments = [
            "-n",
            "weir-system",
            "patch",
            "daemonset",
            "weir-node-agent",
            "--type=merge",
            "-p",
            &patch,
        ];
        return output(&mut stack.cluster.kubectl(arguments)).map(drop);
    }
    let found = output(
        &mut stack
            .cluster
            .enter(["pgrep", "-f", "weir-node-agent telemetry"]),
    )?;
    let process = found.lines().next().context("no agent process was found")?;
    let signal = if silent { "-STOP" } else { "-CONT" };
    output(&mut stack.cluster.enter(["kill", signal, process])).map(drop)
}

fn agent_metrics(stack: &Stack) -> Result<String> {
    let pod = output(&mut stack.cluster.kubectl([
        "-n",
        "weir-system",
        "get",
        "pod",
        "-l",
        "app.kubernetes.io/component=node-agent",
        "-o",
        "jsonpath={.items[0].metadata.name}",
    ]))?;
    let path = format!("/api/v1/namespaces/weir-system/pods/{pod}:9090/proxy/metrics");
    output(&mut stack.cluster.kubectl(["get", "--raw", &path]))
}

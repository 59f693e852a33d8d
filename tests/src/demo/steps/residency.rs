//! Step 7: a workload that may not leave the cluster loses its pod.

use super::{CANARY, Shown};
use crate::chat::Ask;
use crate::cluster::output;
use crate::stack::{DEMO_NAMESPACE, Stack};
use anyhow::ensure;
use http::StatusCode;
use std::time::{Duration, Instant};
use weir_crds::names;

/// Kills the pod by force and polls until it is back.
pub async fn private_never_leaves(stack: &Stack) -> Shown {
    let workload = stack.workload(DEMO_NAMESPACE, "private").await?;
    let endpoint = stack.endpoint(DEMO_NAMESPACE, "private").await?;
    let ask = Ask {
        prompt: format!("Say something about {CANARY}."),
        max_tokens: 4,
        stream: false,
    };
    let before = endpoint.chat(&ask).await?;
    ensure!(
        before.is_good(),
        "private does not answer before the fault: {before:#?}"
    );
    let uid = workload.metadata.uid.clone().unwrap_or_default();
    let selector = format!("{}={uid}", names::LABEL_WORKLOAD_UID);
    output(&mut stack.cluster.kubectl([
        "-n",
        DEMO_NAMESPACE,
        "delete",
        "pod",
        "-l",
        &selector,
        "--force",
        "--grace-period=0",
        "--wait=false",
    ]))?;
    let start = Instant::now();
    let (mut refused, mut answered) = (0, 0);
    while refused == 0 || answered < 3 {
        let answer = endpoint.chat(&ask).await?;
        match answer.status {
            StatusCode::SERVICE_UNAVAILABLE => {
                ensure!(
                    answer.retry_after.is_some(),
                    "503 without Retry-After: {answer:#?}"
                );
                refused += 1;
                answered = 0;
            }
            _ => {
                ensure!(
                    answer.is_good() && answer.location == "Local",
                    "only 503 and 200 are expected: {answer:#?}"
                );
                answered += 1;
            }
        }
        ensure!(
            start.elapsed() < Duration::from_secs(90),
            "{refused} refused, {answered} answered: not back after 90 s"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let elsewhere = stack.fakes.bodies_with(CANARY).await?;
    let cloud: u64 = stack.fakes.counters().await?.requests.values().sum();
    ensure!(
        elsewhere == 0,
        "the fake cloud was sent {elsewhere} requests of private"
    );
    ensure!(
        cloud > 0,
        "the fake cloud counted nothing at all: the check would prove nothing"
    );
    let said = vec![
        format!(
            "{refused} requests got 503 with Retry-After, then 200 after {:.1} s",
            start.elapsed().as_secs_f64()
        ),
        format!("of {cloud} requests that the fake cloud counted, {elsewhere} were of private"),
    ];
    Ok(((), said))
}

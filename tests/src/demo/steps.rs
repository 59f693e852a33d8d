//! What each step of the demo does and checks. A step returns the lines that it shows.

mod moves;
mod residency;
mod telemetry;

use crate::chat::Ask;
use crate::cluster::output;
use crate::stack::{DEMO_NAMESPACE, Examples, RELEASE_NAMESPACE, Stack};
use crate::wait;
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use std::path::Path;
use std::time::Duration;
use weir_crds::condition::{is_true, types};
use weir_crds::{InferencePriceBook, InferenceProvider, ModelProfile};

pub use moves::a_price_moves_the_workload;
pub use residency::private_never_leaves;
pub use telemetry::telemetry_is_seen;

/// A text in every prompt for `private`, so that it can be looked for where it must not be.
pub(super) const CANARY: &str = "quokka-7341";
/// A step's value, and the lines that it shows.
pub(super) type Shown<T = ()> = Result<(T, Vec<String>)>;

const LIMIT: Duration = Duration::from_secs(60);

/// The release is there, whole, and made by the chart alone.
pub async fn installed(stack: &Stack) -> Result<Vec<String>> {
    let deployments: Api<Deployment> = Api::namespaced(stack.client.clone(), RELEASE_NAMESPACE);
    let list = deployments.list(&ListParams::default()).await?;
    let mut said = Vec::new();
    for deployment in &list {
        let by_helm = deployment
            .labels()
            .get("app.kubernetes.io/managed-by")
            .map(String::as_str)
            == Some("Helm");
        ensure!(
            by_helm,
            "{} was not installed by the chart",
            deployment.name_any()
        );
        let ready = deployment
            .status
            .as_ref()
            .and_then(|status| status.ready_replicas)
            .unwrap_or(0);
        said.push(format!("{}: {ready} ready", deployment.name_any()));
    }
    ensure!(
        said.len() == 3,
        "three Deployments are expected, there are {said:?}"
    );
    Ok(said)
}

/// The fakes listen with TLS.
pub async fn fakes_answer(stack: &Stack) -> Shown {
    stack.fakes.counters().await?;
    let said = vec![
        format!("provider {}", stack.fakes.provider_url),
        format!("prices   {}", stack.fakes.prices_url),
    ];
    Ok(((), said))
}

/// The model file is behind a claim, its profile is accepted, and prices and provider are known.
pub async fn model_is_there(stack: &Stack, examples: &Examples, model: &Path) -> Shown {
    examples.apply_fleet(stack, model)?;
    let profiles: Api<ModelProfile> = Api::all(stack.client.clone());
    let profile = wait::until("the model profile is Ready", LIMIT, || async {
        let profile = profiles.get("smollm2-135m-instruct").await?;
        let status = profile.status.clone().unwrap_or_default();
        Ok(if is_true(&status.conditions, types::READY) {
            Ok(profile)
        } else {
            Err(status)
        })
    })
    .await?;
    let books: Api<InferencePriceBook> = Api::all(stack.client.clone());
    let book = wait::until("the price book has prices", LIMIT, || async {
        let status = books.get("acme").await?.status.unwrap_or_default();
        Ok(if status.prices.len() == 2 {
            Ok(status)
        } else {
            Err(status)
        })
    })
    .await?;
    let providers: Api<InferenceProvider> = Api::all(stack.client.clone());
    wait::until("the provider is Ready", LIMIT, || async {
        let status = providers.get("acme").await?.status.unwrap_or_default();
        Ok(if is_true(&status.conditions, types::READY) {
            Ok(())
        } else {
            Err(status)
        })
    })
    .await?;
    let mut said = vec![
        format!("{} from {}", profile.spec.sha256, profile.spec.source),
        format!("prices of revision {}", book.revision.unwrap_or_default()),
    ];
    for price in book.prices {
        said.push(format!(
            "{}: {} USD per 1M input tokens, {} per 1M output tokens",
            price.model,
            price.tokens.input_usd_per_million_tokens,
            price.tokens.output_usd_per_million_tokens
        ));
    }
    Ok(((), said))
}

/// The three workloads are Ready where they must be, and `kubectl` shows why.
pub async fn workloads_are_placed(stack: &Stack, examples: &Examples) -> Shown {
    stack.apply(&examples.workloads)?;
    output(&mut stack.cluster.kubectl([
        "-n",
        DEMO_NAMESPACE,
        "wait",
        "--for=condition=Ready",
        "inferenceworkload",
        "--all",
        "--timeout=120s",
    ]))
    .context("kubectl wait")?;
    for (name, target) in [
        ("private", "local"),
        ("hybrid", "local"),
        ("frontier", "cloud"),
    ] {
        let status = stack
            .workload(DEMO_NAMESPACE, name)
            .await?
            .status
            .unwrap_or_default();
        let placed = status
            .placement
            .as_ref()
            .map(|placement| placement.target.as_str());
        ensure!(
            placed == Some(target),
            "{name} is on {placed:?}, not on {target}: {:#?}",
            status.decision
        );
    }
    let frontier = stack
        .workload(DEMO_NAMESPACE, "frontier")
        .await?
        .status
        .unwrap_or_default();
    let decision = frontier.decision.context("frontier has no decision")?;
    let rejected = decision
        .candidates
        .iter()
        .any(|candidate| candidate.name == "local" && !candidate.rejected_by.is_empty());
    ensure!(
        rejected,
        "frontier's local target is not rejected: {decision:#?}"
    );
    let hybrid = stack
        .workload(DEMO_NAMESPACE, "hybrid")
        .await?
        .status
        .unwrap_or_default();
    let break_even = hybrid
        .decision
        .as_ref()
        .and_then(|decision| decision.break_even_requests_per_month);
    ensure!(
        break_even.is_some(),
        "hybrid has no break-even: {:#?}",
        hybrid.decision
    );
    table(stack, &["get", "inferenceworkloads", "-A"])
}

/// What kubectl prints, as lines to show.
pub(super) fn table(stack: &Stack, arguments: &[&str]) -> Shown {
    let printed = output(&mut stack.cluster.kubectl(arguments))?;
    Ok(((), printed.lines().map(str::to_owned).collect()))
}

/// One chat completion through each endpoint, streamed and not.
pub async fn every_endpoint_answers(stack: &Stack) -> Shown {
    let mut said = Vec::new();
    for (name, location) in [
        ("private", "Local"),
        ("hybrid", "Local"),
        ("frontier", "External"),
    ] {
        let endpoint = stack.endpoint(DEMO_NAMESPACE, name).await?;
        for stream in [false, true] {
            let marker = if name == "private" { CANARY } else { "fox" };
            let ask = Ask {
                prompt: format!("Write one sentence about a {marker}."),
                max_tokens: 24,
                stream,
            };
            let answer = endpoint.chat(&ask).await?;
            ensure!(
                answer.is_good() && !answer.text.trim().is_empty(),
                "{name}: {answer:#?}"
            );
            ensure!(
                answer.location == location,
                "{name} was answered from {}",
                answer.location
            );
            let way = if stream { "streamed" } else { "whole" };
            said.push(format!(
                "{name} ({}, {way}): {}",
                answer.target,
                answer.text.trim().replace('\n', " ")
            ));
        }
    }
    Ok(((), said))
}

//! The simulated API server answers as a real one does.

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use http::Request;
use kube::{Client, ResourceExt};
use serde_json::json;
use weir_simapi::SimApi;
use weir_tests::cluster::{Cluster, UpOptions};
use weir_tests::conformance::{Sequence, Side, Step};

/// Sequences that are compared. One that differs is repeated in a namespace of its own and has to differ again: what a second's
/// boundary falls into orders the owners of fields differently. The first seed is printed; `WEIR_CONFORMANCE_SEED` repeats a run.
const SEQUENCES: u64 = 200;
const AT_ONCE: usize = 4;

async fn prepare(client: &Client, namespace: &str) -> Result<()> {
    let body = serde_json::to_vec(&json!({"metadata": {"name": namespace}}))?;
    let request = Request::post("/api/v1/namespaces")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body)?;
    client
        .request::<serde_json::Value>(request)
        .await
        .with_context(|| format!("creating {namespace}"))?;
    Ok(())
}

/// The real server, with our kinds served.
async fn real() -> Result<(Option<Cluster>, Client)> {
    let (cluster, client) = match std::env::var_os("WEIR_CONFORMANCE_KUBECONFIG") {
        Some(path) => {
            let kubeconfig = kube::config::Kubeconfig::read_from(path)?;
            let config =
                kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
            (None, Client::try_from(config)?)
        }
        None => {
            let options = UpOptions {
                fresh: true,
                control_plane_only: true,
                keep: false,
            };
            let cluster = Cluster::up("conformance", options)?;
            // Its controllers would write to what is compared.
            cluster.harness(&["component", "kube-controller-manager", "stop"])?;
            let client = cluster.client().await?;
            (Some(cluster), client)
        }
    };
    let definitions: kube::Api<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> = kube::Api::all(client.clone());
    let params = kube::api::PatchParams::apply("conformance").force();
    for definition in weir_crds::all() {
        let name = definition.name_any();
        definitions
            .patch(&name, &params, &kube::api::Patch::Apply(&definition))
            .await?;
        let established = kube::runtime::conditions::is_crd_established();
        tokio::time::timeout(
            std::time::Duration::from_secs(30),
            kube::runtime::wait::await_condition(definitions.clone(), &name, established),
        )
        .await??;
    }
    // Established is not yet served.
    for plural in [
        "inferenceworkloads",
        "gpunodes",
        "inferencedemands",
        "inferencepricebooks",
    ] {
        let uri = format!("/apis/inference.weir.dev/v1alpha1/{plural}");
        for _ in 0..100 {
            let request = Request::get(&uri).body(Vec::new())?;
            if client.request::<serde_json::Value>(request).await.is_ok() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
    Ok((cluster, client))
}

/// Runs a sequence on both; answers with the first difference.
async fn compare(simulated: &Client, real: &Client, sequence: &Sequence) -> Result<Option<String>> {
    let (mut simulated, mut real) = (Side::new(simulated.clone()), Side::new(real.clone()));
    let mut sent: Vec<&Step> = Vec::new();
    for step in &sequence.steps {
        sent.push(step);
        let (ours, theirs) = (simulated.send(step).await?, real.send(step).await?);
        if ours != theirs {
            let steps: Vec<_> = sent.iter().map(|step| step.describe()).collect();
            let diff = differences(
                "",
                &json!([ours.code, ours.body]),
                &json!([theirs.code, theirs.body]),
            );
            return Ok(Some(format!(
                "{}\nsimulated and real differ:\n{}",
                steps.join("\n"),
                diff.join("\n")
            )));
        }
    }
    Ok(None)
}

fn differences(path: &str, ours: &serde_json::Value, theirs: &serde_json::Value) -> Vec<String> {
    use serde_json::Value::{Array, Object};
    match (ours, theirs) {
        (Object(ours), Object(theirs)) => {
            let mut names: Vec<_> = ours.keys().chain(theirs.keys()).collect();
            names.sort();
            names.dedup();
            let null = serde_json::Value::Null;
            let each = names.into_iter().flat_map(|name| {
                differences(
                    &format!("{path}.{name}"),
                    ours.get(name).unwrap_or(&null),
                    theirs.get(name).unwrap_or(&null),
                )
            });
            each.collect()
        }
        (Array(ours), Array(theirs)) if ours.len() == theirs.len() => ours
            .iter()
            .zip(theirs)
            .enumerate()
            .flat_map(|(at, (ours, theirs))| differences(&format!("{path}[{at}]"), ours, theirs))
            .collect(),
        _ if ours == theirs => Vec::new(),
        _ => vec![format!("{path}: simulated {ours}, real {theirs}")],
    }
}

/// Requests that were sent for a seed, and how the answers differ, also when it is repeated.
async fn repeated(simulated: &Client, real: &Client, seed: u64) -> Result<(usize, Option<String>)> {
    let (mut steps, mut difference) = (0, None);
    for namespace in [format!("c-{seed}"), format!("c-{seed}-again")] {
        prepare(simulated, &namespace).await?;
        prepare(real, &namespace).await?;
        let sequence = Sequence::random(seed, &namespace);
        steps += sequence.steps.len();
        difference = compare(simulated, real, &sequence).await?;
        if difference.is_none() {
            break;
        }
    }
    let told = difference.map(|difference| format!("seed {seed}:\n{difference}"));
    Ok((steps, told))
}

#[tokio::test]
async fn random_sequences_get_the_same_answers_from_the_simulated_and_the_real_server() -> Result<()>
{
    let first: u64 = match std::env::var("WEIR_CONFORMANCE_SEED") {
        Ok(seed) => seed.parse().context("WEIR_CONFORMANCE_SEED")?,
        Err(_) => 20_261_123,
    };
    let count = std::env::var("WEIR_CONFORMANCE_SEQUENCES")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(SEQUENCES);
    println!("first seed {first}, {count} sequences");
    let (_cluster, real) = real().await?;
    let simulated = SimApi::builder()
        .crds(weir_crds::all())
        .build()
        .client("conformance");
    let compared = futures::stream::iter(0..count)
        .map(|at| repeated(&simulated, &real, first.wrapping_add(at)))
        .buffered(AT_ONCE);
    let compared: Vec<(usize, Option<String>)> = compared.try_collect().await?;
    let steps: usize = compared.iter().map(|(steps, _)| steps).sum();
    let failures: Vec<String> = compared.into_iter().filter_map(|each| each.1).collect();
    println!(
        "{count} sequences, {steps} requests, {} differ",
        failures.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    Ok(())
}

//! The chart's examples, adapted to the fakes and to a demo's pace.

use super::{FakeServices, Stack, namespace};
use crate::cluster::{output, repository, weir_cluster};
use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;

/// Namespace of the workloads.
pub const DEMO_NAMESPACE: &str = "demo";
/// USD per million tokens of prompts and answers at which the cloud costs `hybrid` 1.34 times its local replica:
/// 12 million and 6 million tokens a month, 67.2 against 50.0 USD.
pub const PRICE_HIGH: (f64, f64) = (2.8, 5.6);
/// 1.8 times less: 37.3 USD, so that the local replica costs 1.34 times the cloud.
pub const PRICE_LOW: (f64, f64) = (2.8 / 1.8, 5.6 / 1.8);

/// Models of the fake provider with their prices at the start.
pub(super) fn models() -> impl Iterator<Item = (&'static str, (f64, f64))> {
    [("acme-small", PRICE_HIGH), ("acme-frontier", (3.0, 15.0))].into_iter()
}

/// The chart's example objects.
pub struct Examples {
    /// Tiers, models, price book, provider and policy, adapted.
    pub fleet: Vec<Value>,
    /// `private`, `hybrid` and `frontier`, adapted.
    pub workloads: Vec<Value>,
}

impl Examples {
    /// Reads the examples from the chart and adapts what the demo needs otherwise.
    pub fn read(fakes: &FakeServices) -> Result<Self> {
        let mut fleet = documents("fleet.yaml")?;
        for object in &mut fleet {
            let kind = object["kind"].as_str().map(str::to_owned);
            let spec = &mut object["spec"];
            match kind.as_deref() {
                Some("InferencePriceBook") => {
                    spec["source"]["http"] = json!({
                        "url": fakes.prices_url, "format": "LiteLLM", "interval": "2s",
                        "caBundle": fakes.ca, "allowPrivateAddresses": true,
                    });
                }
                Some("InferenceProvider") => {
                    spec["endpoint"] = json!(fakes.provider_url);
                    spec["caBundle"] = json!(fakes.ca);
                    spec["allowPrivateAddresses"] = json!(true);
                }
                Some("InferencePlacementPolicy") => {
                    spec["minDwell"] = json!("20s");
                    spec["confirmation"] = json!({"count": 2, "interval": "3s"});
                }
                _ => {}
            }
        }
        let mut workloads = Vec::new();
        for file in ["private.yaml", "hybrid.yaml", "frontier.yaml"] {
            workloads.extend(documents(file)?);
        }
        for workload in &mut workloads {
            workload["metadata"]["namespace"] = json!(DEMO_NAMESPACE);
            workload["spec"]["operations"]["maxMovesPerWeek"] = json!(1000);
            if workload["metadata"]["name"] == "hybrid" {
                hasten(&mut workload["spec"]);
            }
        }
        Ok(Self { fleet, workloads })
    }

    /// Applies everything: namespace, model volume, provider key, fleet, workloads.
    pub fn apply(&self, stack: &Stack, model: &Path) -> Result<()> {
        self.apply_fleet(stack, model)?;
        stack.apply(&self.workloads)
    }

    /// Applies everything but the workloads.
    pub fn apply_fleet(&self, stack: &Stack, model: &Path) -> Result<()> {
        namespace(&stack.cluster, DEMO_NAMESPACE)?;
        model_volume(stack, DEMO_NAMESPACE, model)?;
        stack.apply(&[FakeServices::provider_key()])?;
        stack.apply(&self.fleet)
    }
}

/// A claim `models` in the namespace with the model file in it.
pub fn model_volume(stack: &Stack, namespace: &str, model: &Path) -> Result<()> {
    if stack.cluster.is_external() {
        return copied_model(stack, namespace, model);
    }
    let folder = model.parent().context("the model is in no folder")?;
    let mut pv = weir_cluster([
        "pv",
        "--print",
        "--namespace",
        namespace,
        "--claim",
        "models",
        "--path",
    ]);
    let manifests = output(pv.arg(folder))?;
    stack.cluster.apply(&manifests)
}

/// On a cluster whose nodes do not show our files: a volume of the default StorageClass, filled through a pod.
fn copied_model(stack: &Stack, namespace: &str, model: &Path) -> Result<()> {
    let name = model
        .file_name()
        .and_then(|name| name.to_str())
        .context("the model has no name")?;
    let image = stack
        .images
        .images
        .get("weir/fakes")
        .context("the fakes have no image")?;
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "models", "namespace": namespace},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "512Mi"}}},
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "model-loader", "namespace": namespace},
        "spec": {
            "restartPolicy": "Never", "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "loader", "image": image, "imagePullPolicy": "IfNotPresent", "args": ["store", format!("/models/{name}")],
                "stdin": true, "stdinOnce": true,
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "models", "mountPath": "/models"}],
            }],
            "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "models"}}],
        },
    });
    stack.apply(&[claim, pod])?;
    let pod = [
        "-n",
        namespace,
        "wait",
        "--for=condition=Ready",
        "pod/model-loader",
        "--timeout=120s",
    ];
    output(&mut stack.cluster.kubectl(pod)).context("the pod that takes the model in")?;
    let mut attach = stack
        .cluster
        .kubectl(["-n", namespace, "attach", "-i", "model-loader"]);
    output(attach.stdin(std::fs::File::open(model)?)).context("sending the model")?;
    let done = [
        "-n",
        namespace,
        "wait",
        "--for=jsonpath={.status.phase}=Succeeded",
        "pod/model-loader",
        "--timeout=120s",
    ];
    output(&mut stack.cluster.kubectl(done)).map(drop)
}

fn hasten(spec: &mut Value) {
    spec["targets"][0]["local"]["scaling"]["idleAfter"] = json!("10s");
    spec["traffic"]["canary"]["steps"] =
        json!([{"weight": 20, "pause": "5s"}, {"weight": 50, "pause": "5s"}]);
    spec["traffic"]["drain"]["timeout"] = json!("60s");
}

fn documents(file: &str) -> Result<Vec<Value>> {
    let path = repository().join("charts/weir/examples").join(file);
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let documents: Result<Vec<Value>, _> = serde_yaml_ng::Deserializer::from_str(&text)
        .map(Value::deserialize)
        .collect();
    Ok(documents?)
}

//! The chart as Helm renders it without a cluster.
#![allow(dead_code)]

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;

/// Namespace of the release.
pub const RELEASE: &str = "weir-system";

fn helm() -> &'static Path {
    static HELM: OnceLock<String> = OnceLock::new();
    Path::new(HELM.get_or_init(|| {
        let harness = concat!(env!("CARGO_MANIFEST_DIR"), "/../cluster/weir-cluster");
        let printed = output(Command::new(harness).args(["clients", "helm"]));
        printed.trim().to_owned()
    }))
}

fn output(command: &mut Command) -> String {
    let done = command.output().expect("runs");
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {told}");
    String::from_utf8(done.stdout).expect("text")
}

/// The manifests with these values of `networkPolicy`.
pub fn chart(network_policy: &Value) -> String {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/weir");
    let mut helm = Command::new(helm());
    helm.args(["template", "weir", chart, "--namespace", RELEASE]);
    helm.arg("--set-json");
    helm.arg(format!("networkPolicy={network_policy}"));
    output(&mut helm)
}

/// The objects in a stream of manifests.
pub fn documents(manifests: &str) -> Vec<Value> {
    let documents = serde_yaml_ng::Deserializer::from_str(manifests);
    let objects = documents.map(|each| Value::deserialize(each).expect("an object"));
    objects.filter(|object| !object.is_null()).collect()
}

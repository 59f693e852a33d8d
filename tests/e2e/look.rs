//! Looking at what is in the cluster: conditions, engine pods, audit lines.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use weir_crds::{InferenceWorkload, names};
use weir_tests::stack::Stack;

/// A condition of a workload.
pub fn condition<'a>(workload: &'a InferenceWorkload, type_: &str) -> Option<&'a Condition> {
    let conditions = workload.status.as_ref().map(|status| &status.conditions);
    conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == type_)
}

/// Names and UIDs of the running engine pods of a namespace.
pub async fn engine_pods(stack: &Stack, namespace: &str) -> Result<Vec<(String, String)>> {
    let api: Api<Pod> = Api::namespaced(stack.client.clone(), namespace);
    let selector = format!("{}={}", names::LABEL_COMPONENT, names::COMPONENT_ENGINE);
    let pods = api.list(&ListParams::default().labels(&selector)).await?;
    let mut found: Vec<(String, String)> = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .map(|pod| (pod.name_any(), pod.uid().unwrap_or_default()))
        .collect();
    found.sort();
    Ok(found)
}

/// A mutating request of one of Weir's components, by the API server's audit log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Write {
    /// ServiceAccount of the component.
    pub by: String,
    /// Verb of the request.
    pub verb: String,
    /// Resource with its subresource, such as `gputiers/status`.
    pub resource: String,
    /// Namespace and name.
    pub object: String,
    /// When it was received.
    pub time: String,
}

/// A place in the audit log.
pub struct AuditMark {
    path: PathBuf,
    offset: u64,
}

impl AuditMark {
    /// The log's present end.
    pub fn now(stack: &Stack) -> Result<Self> {
        let path = stack.cluster.facts.audit_log.clone();
        let offset = std::fs::metadata(&path)
            .with_context(|| format!("reading {}", path.display()))?
            .len();
        Ok(Self { path, offset })
    }

    /// Mutating requests of Weir's components since then; renewals of the leader's Lease are not among them.
    pub fn writes(&self) -> Result<Vec<Write>> {
        self.lines()?
            .lines()
            .filter_map(|line| write(line).transpose())
            .collect()
    }

    /// What was written since then, but for a line that is being written at this moment and has no end yet.
    pub fn lines(&self) -> Result<String> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        text.truncate(text.rfind('\n').unwrap_or(0));
        Ok(text)
    }

    /// The log's beginning.
    pub fn first(stack: &Stack) -> Self {
        Self {
            path: stack.cluster.facts.audit_log.clone(),
            offset: 0,
        }
    }
}

fn write(line: &str) -> Result<Option<Write>> {
    let event: Value =
        serde_json::from_str(line).with_context(|| format!("audit line {line:?}"))?;
    let text = |pointer: &str| {
        let value = event.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let user = text("/user/username");
    let Some(by) = user.strip_prefix("system:serviceaccount:weir-system:") else {
        return Ok(None);
    };
    let verb = text("/verb");
    let mutates =
        ["create", "update", "patch", "delete", "deletecollection"].contains(&verb.as_str());
    if !mutates || text("/objectRef/resource") == "leases" {
        return Ok(None);
    }
    let subresource = text("/objectRef/subresource");
    let mut resource = text("/objectRef/resource");
    if !subresource.is_empty() {
        resource = format!("{resource}/{subresource}");
    }
    Ok(Some(Write {
        by: by.to_owned(),
        verb,
        resource,
        object: format!(
            "{}/{}",
            text("/objectRef/namespace"),
            text("/objectRef/name")
        ),
        time: text("/requestReceivedTimestamp"),
    }))
}

//! Stands in for the Deployment controller, the scheduler and the kubelets: pods that become ready, or fail as told.

use crate::core::Answer;
use crate::request::RequestInfo;
use crate::status::ApiError;
use crate::{Core, SimApi};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

/// What becomes of a Deployment's pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Outcome {
    /// They run and are ready.
    #[default]
    Ready,
    /// They run and are not ready.
    Running,
    /// No node takes them; the message is the scheduler's.
    Unschedulable(String),
    /// Their container waits for this reason, such as `ImagePullBackOff`, with this message.
    Waiting(String, String),
    /// Their container ended for this reason, such as `OOMKilled`, with this exit code, and waits in CrashLoopBackOff.
    Crashed(String, i32),
}

/// Makes pods for Deployments and says how they fare. Deterministic: `step` does all there is to do.
#[derive(Clone)]
pub struct FakeDeploymentController {
    api: SimApi,
    outcomes: Arc<Mutex<BTreeMap<String, Outcome>>>,
    addresses: Arc<Mutex<u32>>,
}

impl FakeDeploymentController {
    /// A controller of all Deployments of the server.
    pub fn new(api: &SimApi) -> Self {
        Self {
            api: api.clone(),
            outcomes: Arc::default(),
            addresses: Arc::default(),
        }
    }

    /// What becomes of the pods of Deployments whose name starts so, from the next step on. The longest prefix counts.
    pub fn set(&self, prefix: &str, outcome: Outcome) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.insert(prefix.to_owned(), outcome);
    }

    /// Follows the store until the task is aborted.
    pub fn spawn(&self) -> tokio::task::JoinHandle<()> {
        let controller = self.clone();
        tokio::spawn(async move {
            loop {
                let mut seen = controller.step();
                loop {
                    let now = controller.api.changed_since(seen).await;
                    if controller.is_concerned(seen) {
                        break;
                    }
                    seen = now;
                }
            }
        })
    }

    /// Whether a Deployment or anything below one changed after a revision.
    fn is_concerned(&self, revision: u64) -> bool {
        const KINDS: [&str; 3] = ["deployments.apps", "replicasets.apps", "pods"];
        self.api.0.with_core(|core| {
            let changes = core.store.since(revision).iter();
            changes
                .map(|change| change.key.resource.as_str())
                .any(|resource| KINDS.contains(&resource))
        })
    }

    /// Brings all Deployments to where they are going; answers with the revision that it left.
    pub fn step(&self) -> u64 {
        loop {
            let before = self.api.revision();
            let ends = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_string();
            for pod in self.api.objects_where("pods", "", ends) {
                self.finish(&pod);
            }
            for deployment in self.api.objects("deployments.apps", "") {
                if deployment["metadata"]["deletionTimestamp"].is_null() {
                    self.reconcile(&deployment);
                }
            }
            let after = self.api.revision();
            if after == before {
                return after;
            }
        }
    }

    fn outcome(&self, name: &str) -> Outcome {
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        let matching = outcomes
            .iter()
            .filter(|(prefix, _)| name.starts_with(prefix.as_str()));
        let longest = matching.max_by_key(|(prefix, _)| prefix.len());
        longest
            .map(|(_, outcome)| outcome.clone())
            .unwrap_or_default()
    }

    fn reconcile(&self, deployment: &Value) {
        let name = text(&deployment["metadata"]["name"]);
        let namespace = text(&deployment["metadata"]["namespace"]);
        let hash = template_hash(&deployment["spec"]["template"]);
        let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
        let uid = &deployment["metadata"]["uid"];
        let set = format!("{name}-{hash}");
        let Some(set_object) = self.replica_set(deployment, &namespace, &set, &hash) else {
            return;
        };
        let is_own = |pod: &Value| pod["metadata"]["annotations"]["simapi/deployment"] == *uid;
        let pods = self.api.objects_where("pods", &namespace, is_own);
        let (current, old): (Vec<_>, Vec<_>) = pods
            .iter()
            .partition(|pod| pod["metadata"]["labels"]["pod-template-hash"] == hash.as_str());
        for pod in old.iter().chain(
            current
                .iter()
                .skip(usize::try_from(wanted).unwrap_or(usize::MAX)),
        ) {
            self.finish(pod);
        }
        for at in current.len() as u64..wanted {
            self.start_pod(deployment, &set_object, &hash, at);
        }
        for pod in current {
            self.report_pod(pod, &self.outcome(&name));
        }
        self.report(deployment, wanted, &namespace, &hash);
    }

    fn replica_set(
        &self,
        deployment: &Value,
        namespace: &str,
        name: &str,
        hash: &str,
    ) -> Option<Value> {
        if let Some(found) = self.api.object("replicasets.apps", namespace, name) {
            return Some(found);
        }
        let mut template = deployment["spec"]["template"].clone();
        template["metadata"]["labels"]["pod-template-hash"] = json!(hash);
        let mut selector = deployment["spec"]["selector"].clone();
        selector["matchLabels"]["pod-template-hash"] = json!(hash);
        let object = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": name, "namespace": namespace, "labels": template["metadata"]["labels"],
                "ownerReferences": [owner(deployment)]},
            "spec": {"replicas": deployment["spec"]["replicas"], "selector": selector, "template": template}});
        self.api.seed(&object).ok()
    }

    fn start_pod(&self, deployment: &Value, set: &Value, hash: &str, at: u64) {
        let template = &deployment["spec"]["template"];
        let mut metadata = template["metadata"].clone();
        let namespace = text(&deployment["metadata"]["namespace"]);
        let free = (at..).map(|at| format!("{}-{at}", text(&set["metadata"]["name"])));
        let name = free
            .into_iter()
            .find(|name| self.api.object("pods", &namespace, name).is_none());
        metadata["name"] = json!(name);
        metadata["namespace"] = json!(namespace);
        metadata["labels"]["pod-template-hash"] = json!(hash);
        metadata["annotations"]["simapi/deployment"] = deployment["metadata"]["uid"].clone();
        metadata["ownerReferences"] = json!([owner(set)]);
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]});
        if let Ok(pod) = self.api.seed(&pod) {
            self.report_pod(&pod, &self.outcome(&text(&deployment["metadata"]["name"])));
        }
    }

    /// Writes the pod's node and status unless they are so already.
    fn report_pod(&self, pod: &Value, outcome: &Outcome) {
        let placed = !matches!(outcome, Outcome::Unschedulable(_));
        if placed && pod["spec"]["nodeName"].is_null() {
            self.send("patch", pod, "", json!({"spec": {"nodeName": "sim-node"}}));
        }
        let address = match pod["status"]["podIP"].as_str() {
            Some(address) => address.to_owned(),
            None => self.next_address(),
        };
        let status = pod_status(
            pod,
            outcome,
            &address,
            &text(&pod["metadata"]["creationTimestamp"]),
        );
        if pod["status"] != status {
            let mut new = pod.clone();
            new["status"] = status;
            new["metadata"]["resourceVersion"] = Value::Null;
            self.send("update", &new, "status", new.clone());
        }
    }

    fn next_address(&self) -> String {
        let mut count = self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        format!("10.245.{}.{}", (*count >> 8) & 0xff, *count & 0xff)
    }

    fn finish(&self, pod: &Value) {
        self.send("delete", pod, "", json!({"gracePeriodSeconds": 0}));
    }

    fn report(&self, deployment: &Value, wanted: u64, namespace: &str, hash: &str) {
        let uid = &deployment["metadata"]["uid"];
        let is_own = |pod: &Value| {
            pod["metadata"]["annotations"]["simapi/deployment"] == *uid
                && pod["metadata"]["labels"]["pod-template-hash"] == hash
        };
        let pods = self.api.objects_where("pods", namespace, is_own);
        let ready = pods.iter().filter(|pod| is_ready(pod)).count() as u64;
        let all = pods.len() as u64;
        let condition = |kind: &str, status: bool, reason: &str, message: &str| json!({"type": kind, "status": if status { "True" } else { "False" }, "reason": reason, "message": message});
        let available = ready >= wanted;
        let mut status = json!({"observedGeneration": deployment["metadata"]["generation"], "conditions": [
            condition("Available", available, if available { "MinimumReplicasAvailable" } else { "MinimumReplicasUnavailable" }, ""),
            condition("Progressing", true, if available { "NewReplicaSetAvailable" } else { "ReplicaSetUpdated" }, ""),
        ]});
        let counts = [
            ("replicas", all),
            ("updatedReplicas", all),
            ("readyReplicas", ready),
            ("availableReplicas", ready),
            ("unavailableReplicas", wanted.saturating_sub(ready)),
        ];
        for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            status[name] = json!(count);
        }
        if deployment["status"] != status {
            let mut new = deployment.clone();
            new["status"] = status;
            new["metadata"]["resourceVersion"] = Value::Null;
            self.send("update", &new, "status", new.clone());
        }
    }

    fn send(&self, verb: &str, object: &Value, subresource: &str, body: Value) {
        let Some(mut request) = request_for(&self.api, verb, object) else {
            return;
        };
        request.subresource = subresource.to_owned();
        request.content_type = "application/merge-patch+json".to_owned();
        request.body = body;
        // What was changed or removed meanwhile is seen in the next step.
        drop::<Answer>(self.api.handle(&request));
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .into_iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn template_hash(template: &Value) -> String {
    let mut hasher = DefaultHasher::new();
    template.to_string().hash(&mut hasher);
    format!("{:08x}", hasher.finish() >> 32)
}

fn owner(object: &Value) -> Value {
    json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "name": object["metadata"]["name"],
        "uid": object["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true})
}

fn pod_status(pod: &Value, outcome: &Outcome, address: &str, since: &str) -> Value {
    let condition = |kind: &str, status: bool| json!({"type": kind, "status": if status { "True" } else { "False" }, "lastTransitionTime": since});
    if let Outcome::Unschedulable(message) = outcome {
        let mut scheduled = condition("PodScheduled", false);
        scheduled["reason"] = json!("Unschedulable");
        scheduled["message"] = json!(message);
        return json!({"phase": "Pending", "qosClass": pod["status"]["qosClass"], "conditions": [scheduled]});
    }
    let ready = *outcome == Outcome::Ready;
    let (phase, state, last) = match outcome {
        Outcome::Waiting(reason, message) => (
            "Pending",
            json!({"waiting": {"reason": reason, "message": message}}),
            json!({}),
        ),
        Outcome::Crashed(reason, code) => (
            "Running",
            json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}}),
            json!({"terminated": {"reason": reason, "exitCode": code, "startedAt": since, "finishedAt": since}}),
        ),
        _ => (
            "Running",
            json!({"running": {"startedAt": since}}),
            json!({}),
        ),
    };
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let statuses: Vec<_> = containers
        .map(|container| {
            json!({"name": container["name"], "image": container["image"], "imageID": "", "ready": ready, "started": ready,
                "restartCount": i32::from(last["terminated"].is_object()), "state": state, "lastState": last})
        })
        .collect();
    json!({"phase": phase, "qosClass": pod["status"]["qosClass"], "hostIP": "10.99.0.1", "podIP": address, "podIPs": [{"ip": address}], "startTime": since,
        "conditions": [condition("PodScheduled", true), condition("Initialized", true), condition("ContainersReady", ready), condition("Ready", ready)],
        "containerStatuses": statuses})
}

fn request_for(api: &SimApi, verb: &str, object: &Value) -> Option<RequestInfo> {
    let kind = api.0.with_core(|core: &mut Core| core.kind_of(object))?;
    Some(RequestInfo {
        actor: "cluster".to_owned(),
        verb: verb.to_owned(),
        group: kind.group.clone(),
        version: kind.version.clone(),
        resource: kind.plural.clone(),
        namespace: text(&object["metadata"]["namespace"]),
        name: if verb == "create" {
            String::new()
        } else {
            text(&object["metadata"]["name"])
        },
        ..RequestInfo::default()
    })
}

/// Creates an object, then its status.
pub(crate) fn seed(api: &SimApi, object: &Value) -> Result<Value, ApiError> {
    let mut request = request_for(api, "create", object).ok_or_else(ApiError::no_such_path)?;
    let kind = api.0.with_core(|core| core.kind(&request))?;
    if kind.namespaced && request.namespace.is_empty() {
        request.namespace = "default".to_owned();
    }
    request.body = object.clone();
    let (_, mut created) = api.handle(&request)?;
    let status = object
        .get("status")
        .filter(|status| kind.status && status.is_object());
    let Some(status) = status else {
        return Ok(created);
    };
    created["status"] = status.clone();
    request.verb = "update".to_owned();
    request.name = text(&created["metadata"]["name"]);
    request.subresource = "status".to_owned();
    request.body = created;
    api.handle(&request).map(|(_, stored)| stored)
}

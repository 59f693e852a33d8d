//! Why a local target is not ready, in typed reasons that clear when their cause does. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;

use super::moves::Failure;

/// A reason why a local target is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A namespace's quota does not admit the pod.
    QuotaExceeded,
    /// The namespace's Pod Security level does not admit the pod.
    PodSecurityDenied,
    /// The pod was refused for another reason.
    PodRefused,
    /// The claim with the model does not exist.
    ClaimMissing,
    /// The claim with the model is bound to no volume.
    ClaimPending,
    /// The claim with the model can be mounted on one node, and pods are on several.
    ClaimNotShareable,
    /// The volume could not be attached or mounted.
    AttachFailed,
    /// The image could not be pulled.
    ImagePullFailed,
    /// The container could not be created from its settings.
    ContainerConfigInvalid,
    /// The model file has another SHA-256 than its profile.
    ChecksumMismatch,
    /// The model file is not on the claim.
    ModelNotFound,
    /// The model file is malformed, or of a kind that the engine does not run.
    ModelInvalid,
    /// Weights and KV cache do not fit into the memory that the pod has.
    OutOfMemory,
    /// The engine ends again and again.
    CrashLooping,
    /// No node has the tier's labels and tolerates the pod.
    NoNodeForTier,
    /// A node for the pod is to be provisioned.
    WaitingForNode,
    /// Every device of the tier is taken.
    WaitingForGPU,
    /// The node has too little memory or processor time left.
    InsufficientResources,
    /// The scheduler cannot place the pod for another reason.
    Unschedulable,
    /// Something else holds the pod back from the scheduler, and lets it go when it is ready.
    SchedulingGated,
    /// Pods are starting.
    Starting,
    /// Pods are ready, and a gateway has no endpoint of them yet.
    EndpointPending,
}

impl Reason {
    /// As conditions and events spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QuotaExceeded => "QuotaExceeded",
            Self::PodSecurityDenied => "PodSecurityDenied",
            Self::PodRefused => "PodRefused",
            Self::ClaimMissing => "ClaimMissing",
            Self::ClaimPending => "ClaimPending",
            Self::ClaimNotShareable => "ClaimNotShareable",
            Self::AttachFailed => "AttachFailed",
            Self::ImagePullFailed => "ImagePullFailed",
            Self::ContainerConfigInvalid => "ContainerConfigInvalid",
            Self::ChecksumMismatch => "ChecksumMismatch",
            Self::ModelNotFound => "ModelNotFound",
            Self::ModelInvalid => "ModelInvalid",
            Self::OutOfMemory => "OutOfMemory",
            Self::CrashLooping => "CrashLooping",
            Self::NoNodeForTier => "NoNodeForTier",
            Self::WaitingForNode => "WaitingForNode",
            Self::WaitingForGPU => "WaitingForGPU",
            Self::InsufficientResources => "InsufficientResources",
            Self::Unschedulable => "Unschedulable",
            Self::SchedulingGated => "SchedulingGated",
            Self::Starting => "Starting",
            Self::EndpointPending => "EndpointPending",
        }
    }

    /// Whether waiting alone does not help.
    pub fn lasting(self) -> bool {
        !matches!(
            self,
            Self::WaitingForNode
                | Self::WaitingForGPU
                | Self::InsufficientResources
                | Self::ClaimPending
                | Self::SchedulingGated
                | Self::Starting
                | Self::EndpointPending
        )
    }

    /// Whether its pods have no node: they hold no device, and can stand until the cause is gone.
    pub fn without_node(self) -> bool {
        matches!(
            self,
            Self::QuotaExceeded
                | Self::PodSecurityDenied
                | Self::PodRefused
                | Self::ClaimMissing
                | Self::ClaimPending
                | Self::NoNodeForTier
                | Self::Unschedulable
        )
    }

    /// Whether a further node would help.
    pub fn asks_for_a_node(self) -> bool {
        matches!(
            self,
            Self::NoNodeForTier | Self::WaitingForGPU | Self::InsufficientResources
        )
    }

    /// Whether the engine reported it after it was started.
    pub fn is_load_failure(self) -> bool {
        matches!(
            self,
            Self::ChecksumMismatch
                | Self::ModelNotFound
                | Self::ModelInvalid
                | Self::OutOfMemory
                | Self::CrashLooping
        )
    }

    /// The first word of an engine's termination message.
    fn of_engine(message: &str) -> Option<Self> {
        let (word, _) = message.trim().split_once(':')?;
        [
            Self::ChecksumMismatch,
            Self::ModelNotFound,
            Self::ModelInvalid,
            Self::OutOfMemory,
        ]
        .into_iter()
        .find(|reason| reason.as_str() == word.trim())
    }
}

/// The weightiest reason why a target's pods are not ready; `None` when nothing speaks against it.
pub fn diagnose(
    deployment: Option<&Deployment>,
    pods: &[&Pod],
    mount_failures: &BTreeMap<String, String>,
) -> Option<(Reason, String)> {
    let of_pods = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none() && !is_ready(pod))
        .filter_map(|pod| of_pod(pod, mount_failures));
    let refused = deployment.and_then(replica_failure);
    refused
        .into_iter()
        .chain(of_pods)
        .min_by_key(|(reason, _)| *reason)
}

/// The same as moves see it.
pub fn as_failure(diagnosis: &(Reason, String)) -> Failure {
    let (reason, message) = diagnosis;
    Failure {
        reason: reason.as_str().to_owned(),
        message: message.clone(),
        lasting: reason.lasting(),
        without_node: reason.without_node(),
        of_engine: reason.is_load_failure(),
    }
}

/// Whether the pod passes its readiness probe.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn replica_failure(deployment: &Deployment) -> Option<(Reason, String)> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let failure = conditions
        .iter()
        .find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")?;
    let message = failure.message.clone().unwrap_or_default();
    let reason = if message.contains("exceeded quota") {
        Reason::QuotaExceeded
    } else if message.contains("violates PodSecurity") {
        Reason::PodSecurityDenied
    } else {
        Reason::PodRefused
    };
    Some((reason, message))
}

fn of_pod(pod: &Pod, mount_failures: &BTreeMap<String, String>) -> Option<(Reason, String)> {
    let status = pod.status.as_ref()?;
    let named = |message: String| format!("pod {}: {message}", pod.name_any());
    let containers = status.init_container_statuses.iter().flatten();
    let containers = containers.chain(status.container_statuses.iter().flatten());
    if let Some((reason, message)) = containers.clone().find_map(of_container) {
        return Some((reason, named(message)));
    }
    let mounting = pod
        .metadata
        .uid
        .as_ref()
        .and_then(|uid| mount_failures.get(uid));
    if let Some(message) = mounting {
        return Some((of_mount(message), named(message.clone())));
    }
    let scheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled");
    if let Some(scheduled) = scheduled.filter(|condition| condition.status == "False") {
        let message = scheduled.message.clone().unwrap_or_default();
        if scheduled.reason.as_deref() == Some("SchedulingGated") {
            return Some((Reason::SchedulingGated, named(message)));
        }
        return Some((of_scheduler(&message), named(message)));
    }
    Some((Reason::Starting, named("starting".to_owned())))
}

fn of_container(container: &ContainerStatus) -> Option<(Reason, String)> {
    let state = container.state.as_ref();
    let waiting = state.and_then(|state| state.waiting.as_ref());
    let waiting_reason = waiting.and_then(|waiting| waiting.reason.as_deref());
    let waiting_message = waiting
        .and_then(|waiting| waiting.message.clone())
        .unwrap_or_default();
    match waiting_reason {
        Some(
            "ErrImagePull"
            | "ImagePullBackOff"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "RegistryUnavailable",
        ) => {
            let message = format!("image {}: {waiting_message}", container.image);
            return Some((Reason::ImagePullFailed, message));
        }
        Some("CreateContainerConfigError" | "CreateContainerError" | "RunContainerError") => {
            return Some((Reason::ContainerConfigInvalid, waiting_message));
        }
        _ => {}
    }
    let last = container
        .last_state
        .as_ref()
        .and_then(|last| last.terminated.as_ref());
    let ended = state.and_then(|state| state.terminated.as_ref()).or(last)?;
    let said = ended.message.clone().unwrap_or_default();
    if let Some(reason) = Reason::of_engine(&said) {
        return Some((reason, said));
    }
    if ended.reason.as_deref() == Some("OOMKilled") {
        return Some((
            Reason::OutOfMemory,
            "the engine was killed for using more memory than its limit".to_owned(),
        ));
    }
    let looping = waiting_reason == Some("CrashLoopBackOff") || container.restart_count > 2;
    (looping && ended.exit_code != 0).then(|| {
        let said = said.lines().last().unwrap_or_default().to_owned();
        let message = format!(
            "the engine ended with code {} after {} restarts: {said}",
            ended.exit_code, container.restart_count
        );
        (Reason::CrashLooping, message)
    })
}

fn of_mount(message: &str) -> Reason {
    if message.contains("Multi-Attach") {
        Reason::ClaimNotShareable
    } else {
        Reason::AttachFailed
    }
}

/// What the scheduler says is made for people, but it has been stable for years.
fn of_scheduler(message: &str) -> Reason {
    let says = |text: &str| message.contains(text);
    if says("persistentvolumeclaim") && says("not found") {
        Reason::ClaimMissing
    } else if says("unbound immediate PersistentVolumeClaims")
        || says("unbound PersistentVolumeClaims")
    {
        Reason::ClaimPending
    } else if says("volume node affinity conflict") || says("ReadWriteOncePod") {
        Reason::ClaimNotShareable
    } else if lacks_accelerators(message) {
        Reason::WaitingForGPU
    } else if says("Insufficient") {
        Reason::InsufficientResources
    } else if says("node affinity")
        || says("node selector")
        || says("untolerated taint")
        || says("no nodes available")
    {
        Reason::NoNodeForTier
    } else {
        Reason::Unschedulable
    }
}

/// Whether some node lacks an extended resource: only those have a domain in their name.
fn lacks_accelerators(message: &str) -> bool {
    let lacking = message.split("Insufficient ").skip(1);
    lacking
        .filter_map(|rest| rest.split([',', ' ']).next())
        .any(|resource| resource.contains('/'))
}

#[cfg(test)]
mod tests;

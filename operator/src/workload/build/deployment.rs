//! The Deployment of a local target: engine pods under Pod Security `restricted`.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EmptyDirVolumeSource, HTTPGetAction,
    PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    ResourceRequirements, SeccompProfile, SecurityContext, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use weir_crds::model::ClaimPath;
use weir_crds::tier::Sharing;
use weir_crds::workload::PodTemplate;
use weir_crds::{names, quantity, resource};
use weir_engine_key::Audience;

use super::{ANNOTATION_TIER, BuildError, Plan, metadata, sealed};
use crate::cli::Plane;
use crate::workload::labels;

/// Flag of an engine that demands a key: the public half of the root that certifies it.
pub const FLAG_KEY_ROOT: &str = "--key-root";
const MOUNT: &str = "/models";
/// Memory of the node that an engine asks for whose model lies in a device's memory, unless the team asks otherwise.
const HOST_MEMORY: &str = "1Gi";
/// A user without a name, as images of this kind use it.
const USER: i64 = 65_532;
/// Time for streams to end after the pod was told to: gateways stop sending before.
const TERMINATION_GRACE_SECONDS: i64 = 330;
/// A model may take this long to load, at one probe every two seconds.
const STARTUP_PROBES: i32 = 900;

/// The Deployment of a local target.
pub fn deployment(plan: &Plan<'_>) -> Result<Deployment, BuildError> {
    let uid = plan.workload.metadata.uid.as_deref().unwrap_or_default();
    let selector = labels::selector(uid, plan.target);
    let mut metadata = metadata(plan.workload, plan.target);
    let tier = plan.tier.metadata.name.clone().unwrap_or_default();
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(ANNOTATION_TIER.to_owned(), tier);
    Ok(sealed(Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: Some(plan.replicas),
            revision_history_limit: Some(2),
            progress_deadline_seconds: Some(1_800),
            selector: LabelSelector {
                match_labels: Some(selector),
                ..LabelSelector::default()
            },
            strategy: Some(strategy()),
            template: template(plan)?,
            ..DeploymentSpec::default()
        }),
        status: None,
    }))
}

/// New pods first, so that a change of the spec interrupts nothing. Where every device is taken, the new pod waits and the
/// old one goes on serving, which is reported; `Recreate` would end it for a pod that may never start.
fn strategy() -> DeploymentStrategy {
    DeploymentStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(IntOrString::Int(1)),
            max_unavailable: Some(IntOrString::Int(0)),
        }),
    }
}

/// What keeps autoscalers from taking the node of an engine that runs to save money. An engine that has no work is scaled to
/// nothing, and its node goes then. They never change while a pod lives, so that no weight rolls one.
const KEPT: [(&str, &str); 2] = [
    ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
    ("karpenter.sh/do-not-disrupt", "true"),
];

fn template(plan: &Plan<'_>) -> Result<PodTemplateSpec, BuildError> {
    let given = plan.local.pod_template.clone().unwrap_or_default();
    let meta = &plan.workload.metadata;
    let mut pod_labels = given.labels.clone();
    pod_labels.extend(labels::all(
        meta.name.as_deref().unwrap_or_default(),
        meta.uid.as_deref().unwrap_or_default(),
        plan.target,
    ));
    // What an engine measures is credited to its tier and model by these.
    let name = |meta: &ObjectMeta| names::label_value(meta.name.as_deref().unwrap_or_default());
    pod_labels.insert(names::LABEL_TIER.to_owned(), name(&plan.tier.metadata));
    pod_labels.insert(names::LABEL_MODEL.to_owned(), name(&plan.model.metadata));
    let mut annotations = given.annotations.clone();
    let port = names::ENGINE_PORT.to_string();
    let scraped = [
        ("prometheus.io/scrape", "true"),
        ("prometheus.io/port", port.as_str()),
    ];
    annotations.extend(scraped.map(|(key, value)| (key.to_owned(), value.to_owned())));
    if plan.tier.spec.provisionable.is_some() {
        annotations.extend(KEPT.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
    Ok(PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod_labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(pod(plan, given)?),
    })
}

fn pod(plan: &Plan<'_>, given: PodTemplate) -> Result<PodSpec, BuildError> {
    let ClaimPath { claim, path } = plan.model.spec.location()?;
    let mut node_selector = given.node_selector.clone();
    node_selector.extend(plan.tier.spec.node_selector.clone());
    let mut tolerations: Vec<Toleration> = plan.tier.spec.tolerations.clone();
    tolerations.extend(given.tolerations.clone());
    Ok(PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        node_selector: (!node_selector.is_empty()).then_some(node_selector),
        tolerations: (!tolerations.is_empty()).then_some(tolerations),
        affinity: given.affinity.clone(),
        priority_class_name: given.priority_class_name.clone(),
        runtime_class_name: plan.tier.spec.runtime_class_name.clone(),
        termination_grace_period_seconds: Some(termination_grace(plan)),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        containers: vec![container(plan, path, &given)?],
        volumes: Some(vec![
            Volume {
                name: "models".to_owned(),
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: claim.to_owned(),
                    read_only: Some(true),
                }),
                ..Volume::default()
            },
            Volume {
                name: "tmp".to_owned(),
                empty_dir: Some(EmptyDirVolumeSource {
                    size_limit: Some(Quantity("64Mi".to_owned())),
                    ..EmptyDirVolumeSource::default()
                }),
                ..Volume::default()
            },
        ]),
        ..PodSpec::default()
    })
}

/// Streams that the drain of a move waits for must not be cut by the pod's end.
fn termination_grace(plan: &Plan<'_>) -> i64 {
    let drain = quantity::duration(&plan.workload.spec.traffic.drain.timeout);
    let seconds = drain.map_or(0, |drain| drain.as_secs().min(86_400));
    i64::try_from(seconds + 30).unwrap_or(TERMINATION_GRACE_SECONDS)
}

fn container(plan: &Plan<'_>, path: &str, given: &PodTemplate) -> Result<Container, BuildError> {
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        // The API server leaves `false` out, and the Deployment would never be as it was wished for.
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    Ok(Container {
        name: "engine".to_owned(),
        image: Some(plan.engine.image.clone()),
        image_pull_policy: Some(plan.engine.pull_policy.clone()),
        args: Some(args(plan, path)?),
        ports: Some(vec![ContainerPort {
            name: Some(names::SERVICE_PORT_NAME.to_owned()),
            protocol: Some("TCP".to_owned()),
            container_port: i32::from(names::ENGINE_PORT),
            ..ContainerPort::default()
        }]),
        resources: Some(resources(plan, given)?),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: None,
            }),
            ..SecurityContext::default()
        }),
        startup_probe: Some(probe("/healthz", 2, STARTUP_PROBES)),
        readiness_probe: Some(probe("/readyz", 2, 2)),
        liveness_probe: Some(probe("/healthz", 10, 3)),
        termination_message_path: Some("/dev/termination-log".to_owned()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(vec![
            mount("models", MOUNT, true),
            mount("tmp", "/tmp", false),
        ]),
        ..Container::default()
    })
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(i32::from(names::ENGINE_PORT)),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn args(plan: &Plan<'_>, path: &str) -> Result<Vec<String>, BuildError> {
    let mut args = vec![
        "serve".to_owned(),
        "--model".to_owned(),
        format!("{MOUNT}/{path}"),
        "--listen".to_owned(),
        format!("0.0.0.0:{}", names::ENGINE_PORT),
        "--served-model-name".to_owned(),
        plan.workload.served_model_name().to_owned(),
        "--sha256".to_owned(),
        plan.model.spec.sha256.clone(),
        "--context".to_owned(),
        plan.model.spec.context_tokens.to_string(),
        "--memory".to_owned(),
        memory(plan)?.to_string(),
    ];
    if let Some(root) = plan.locked_by {
        let plane = Plane::from(plan.workload.spec.data_policy.egress);
        let uid = plan.workload.metadata.uid.as_deref().unwrap_or_default();
        let audience = Audience::new(plane.as_str(), uid);
        // In one word each: a key may begin with a hyphen.
        args.push(format!("{FLAG_KEY_ROOT}={root}"));
        args.push(format!("--key-audience={audience}"));
    }
    if plan.tier.spec.sharing == Sharing::CPU {
        args.extend(["--threads".to_owned(), threads(plan)?.to_string()]);
    }
    Ok(args)
}

/// As many threads as the container may use processors: its limit, or else what the tier gives it.
fn threads(plan: &Plan<'_>) -> Result<u64, BuildError> {
    let template = plan.local.pod_template.as_ref();
    let limit = template
        .and_then(|template| template.resources.as_ref()?.limits.get("cpu"))
        .and_then(|limit| u64::try_from(resource::nanos(limit)?).ok())
        .map(|nanos| nanos.div_ceil(1_000_000_000));
    match limit {
        Some(threads) => Ok(threads.max(1)),
        None => Ok(milli_count(plan)?.div_ceil(1_000).max(1)),
    }
}

/// Bytes for weights and KV cache: on an accelerator what the tier gives a replica, on processors what the model needs, for
/// there the node's own memory is taken.
fn memory(plan: &Plan<'_>) -> Result<u64, BuildError> {
    let (meta, text) = match plan.tier.spec.sharing {
        Sharing::CPU => (&plan.model.metadata, &plan.model.spec.memory),
        _ => (&plan.tier.metadata, &plan.tier.spec.memory),
    };
    quantity::memory(text).map_err(|source| BuildError::Memory {
        of: meta.name.clone().unwrap_or_default(),
        source,
    })
}

fn milli_count(plan: &Plan<'_>) -> Result<u64, BuildError> {
    quantity::milli_count(&plan.tier.spec.resource.count).map_err(|source| BuildError::Count {
        tier: plan.tier.metadata.name.clone().unwrap_or_default(),
        source,
    })
}

/// What the team asks for, with the tier's own resource, which is ours, and memory of the node where it asks for none.
fn resources(plan: &Plan<'_>, given: &PodTemplate) -> Result<ResourceRequirements, BuildError> {
    milli_count(plan)?;
    let given = given.resources.clone().unwrap_or_default();
    let quantities = |amounts: BTreeMap<String, String>| -> BTreeMap<String, Quantity> {
        amounts
            .into_iter()
            .map(|(name, amount)| (name, Quantity(amount)))
            .collect()
    };
    let (mut requests, mut limits) = (quantities(given.requests), quantities(given.limits));
    let resource = &plan.tier.spec.resource;
    let count = Quantity(resource.count.clone());
    requests.insert(resource.name.clone(), count.clone());
    if plan.tier.spec.sharing != Sharing::CPU {
        limits.insert(resource.name.clone(), count);
    }
    // Where the model lies in a device's memory, the node's own only holds the process.
    let needed = match plan.tier.spec.sharing {
        Sharing::CPU => plan.model.spec.memory.as_str(),
        _ => HOST_MEMORY,
    };
    let limit = limits.get("memory").cloned();
    requests
        .entry("memory".to_owned())
        .or_insert_with(|| limit.unwrap_or_else(|| Quantity(needed.to_owned())));
    Ok(ResourceRequirements {
        requests: Some(requests),
        limits: (!limits.is_empty()).then_some(limits),
        claims: None,
    })
}

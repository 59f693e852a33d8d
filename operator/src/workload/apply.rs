//! Writes the children of a workload: server-side apply, only what differs, only what is ours.

mod compare;

use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use weir_crds::names;

use super::build::Wanted;
use super::facts::Children;
use super::labels;

pub use compare::covers;

/// Why children could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// An object could not be read.
    #[error("{kind} {name} could not be read")]
    Read {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// An object could not be written.
    #[error("{kind} {name} could not be written")]
    Write {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// An object could not be deleted.
    #[error("{kind} {name} could not be deleted")]
    Delete {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// An object could not be put into the form that is sent.
    #[error("{kind} {name} could not be serialized")]
    Serialize {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// Why a target's children are not as they are to be, where only a person can help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildProblem {
    /// `ForeignObject` or `ChildRefused`.
    pub reason: &'static str,
    /// What is in the way.
    pub message: String,
}

/// By target.
pub type ChildProblems = BTreeMap<String, ChildProblem>;

enum Refusal {
    Problem(ChildProblem),
    Error(ApplyError),
}

impl From<ApplyError> for Refusal {
    fn from(error: ApplyError) -> Self {
        Self::Error(error)
    }
}

/// Makes the children of a workload as they are wished for. An unchanged child costs no request.
///
/// # Errors
/// When the API server cannot be reached or answers with an error that may pass.
pub async fn apply(
    client: &Client,
    (namespace, uid): (&str, &str),
    existing: &Children,
    wanted: &Wanted,
) -> Result<ChildProblems, ApplyError> {
    let mut problems = ChildProblems::new();
    for (target, children) in wanted {
        let name = children.deployment.name_any();
        let deployment = existing
            .deployments
            .iter()
            .find(|each| each.name_any() == name);
        let service = existing
            .services
            .iter()
            .find(|each| each.name_any() == name);
        let owner = (namespace, uid);
        let result =
            match ensure(client, owner, service.map(AsRef::as_ref), &children.service).await {
                Ok(()) => {
                    let deployment = deployment.map(AsRef::as_ref);
                    ensure(client, owner, deployment, &children.deployment).await
                }
                refused => refused,
            };
        match result {
            Ok(()) => {}
            Err(Refusal::Problem(problem)) => {
                problems.insert(target.clone(), problem);
            }
            Err(Refusal::Error(error)) => return Err(error),
        }
    }
    Ok(problems)
}

/// Deletes the children of these targets, as they were read and no later version of them.
///
/// # Errors
/// When the API server refuses.
pub async fn delete(
    client: &Client,
    (namespace, uid): (&str, &str),
    existing: &Children,
    targets: &[String],
) -> Result<(), ApplyError> {
    let gone =
        |meta| labels::target_of(meta).is_some_and(|of| targets.iter().any(|each| each == of));
    for deployment in &existing.deployments {
        if gone(&deployment.metadata) && is_owned(deployment.as_ref(), uid) {
            delete_one::<Deployment>(client, namespace, deployment).await?;
        }
    }
    for service in &existing.services {
        if gone(&service.metadata) && is_owned(service.as_ref(), uid) {
            delete_one::<Service>(client, namespace, service).await?;
        }
    }
    Ok(())
}

/// Creates the Secret with the client key. That it is there already is success: what is in it follows from its name.
///
/// # Errors
/// When the API server refuses.
pub async fn ensure_secret(client: &Client, secret: &Secret) -> Result<(), ApplyError> {
    let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
    let api = Api::<Secret>::namespaced(client.clone(), namespace);
    let params = PostParams {
        field_manager: Some(names::MANAGER_CHILDREN.to_owned()),
        ..PostParams::default()
    };
    match api.create(&params, secret).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(source) => Err(ApplyError::Write {
            kind: "Secret".to_owned(),
            name: secret.name_any(),
            source: Box::new(source),
        }),
    }
}

/// Whether the workload with this UID is the object's controller.
pub fn is_owned<K: Resource>(object: &K, uid: &str) -> bool {
    let owners = object.meta().owner_references.iter().flatten();
    owners
        .filter(|owner| owner.controller == Some(true))
        .any(|owner| owner.uid == uid)
}

async fn ensure<K>(
    client: &Client,
    (namespace, uid): (&str, &str),
    known: Option<&K>,
    wanted: &K,
) -> Result<(), Refusal>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let (kind, name) = (K::kind(&()).into_owned(), wanted.name_any());
    let api = Api::<K>::namespaced(client.clone(), namespace);
    // Only objects with our labels are watched: a foreign one of the same name has to be asked for.
    let found;
    let existing = match known {
        Some(known) => Some(known),
        None => {
            found = api
                .get_opt(&name)
                .await
                .map_err(|source| ApplyError::Read {
                    kind: kind.clone(),
                    name: name.clone(),
                    source: Box::new(source),
                })?;
            found.as_ref()
        }
    };
    let serialize = |object: &K| {
        serde_json::to_value(object).map_err(|source| ApplyError::Serialize {
            kind: kind.clone(),
            name: name.clone(),
            source,
        })
    };
    let mut body = serialize(wanted)?;
    if let Some(existing) = existing {
        if !is_owned(existing, uid) {
            return Err(Refusal::Problem(ChildProblem {
                reason: "ForeignObject",
                message: format!("{kind} {name} exists and belongs to something else"),
            }));
        }
        if covers(&serialize(existing)?, &body) {
            return Ok(());
        }
        let meta = &mut body["metadata"];
        meta["uid"] = existing.uid().map_or(Value::Null, Value::from);
        meta["resourceVersion"] = existing.resource_version().map_or(Value::Null, Value::from);
    }
    body["apiVersion"] = Value::from(K::api_version(&()));
    body["kind"] = Value::from(kind.as_str());
    let params = PatchParams::apply(names::MANAGER_CHILDREN).force();
    match api.patch(&name, &params, &Patch::Apply(&body)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_invalid() || is_denied(&status) => {
            Err(Refusal::Problem(ChildProblem {
                reason: "ChildRefused",
                message: format!("{kind} {name} was refused: {}", status.message),
            }))
        }
        Err(source) => Err(Refusal::Error(ApplyError::Write {
            kind,
            name,
            source: Box::new(source),
        })),
    }
}

/// Refused by an admission rule or a quota, and not for a lack of rights of ours.
fn is_denied(status: &kube::core::Status) -> bool {
    status.is_forbidden()
        && [
            "exceeded quota",
            "admission webhook",
            "ValidatingAdmissionPolicy",
            "violates",
        ]
        .iter()
        .any(|sign| status.message.contains(sign))
}

pub(super) async fn delete_one<K>(
    client: &Client,
    namespace: &str,
    object: &K,
) -> Result<(), ApplyError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
{
    if object.meta().deletion_timestamp.is_some() {
        return Ok(());
    }
    let name = object.name_any();
    let params = DeleteParams::background().preconditions(Preconditions {
        uid: object.uid(),
        resource_version: object.resource_version(),
    });
    match Api::<K>::namespaced(client.clone(), namespace)
        .delete(&name, &params)
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(ApplyError::Delete {
            kind: K::kind(&()).into_owned(),
            name,
            source: Box::new(source),
        }),
    }
}

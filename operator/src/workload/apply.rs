//! Writes the children of a workload: server-side apply, only what differs, only what is ours.

mod compare;
mod problem;

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use weir_crds::names;
use weir_operator_core::owner::Owner;

use super::build::Wanted;
use super::facts::Children;
use super::labels;

pub use compare::covers;
pub use problem::{ChildProblem, ChildProblems, ProblemReason};

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

/// Makes the children of a workload as they are wished for. An unchanged child costs no request, and what is refused keeps
/// no other child back, but for pods that nothing, or everybody, could reach: where there is no Deployment yet, Service and
/// NetworkPolicy come first.
pub async fn apply(
    client: &Client,
    owner: &Owner,
    existing: &Children,
    wanted: &Wanted,
) -> ChildProblems {
    let mut problems = ChildProblems::new();
    for (target, children) in wanted {
        let problem = ensure_all(client, owner, existing, children).await;
        problems.extend(problem.map(|problem| (target.clone(), problem)));
    }
    problems
}

/// The children of one target, and what is in the way of them.
async fn ensure_all(
    client: &Client,
    owner: &Owner,
    existing: &Children,
    wanted: &super::build::Children,
) -> Option<ChildProblem> {
    let name = wanted.deployment.name_any();
    let service = named(&existing.services, &name);
    let policy = named(&existing.network_policies, &name);
    let deployment = named(&existing.deployments, &name);
    let of_service = ensure(client, owner, service, &wanted.service).await.err();
    let of_policy = match (&wanted.network_policy, policy) {
        (Some(wanted), policy) => ensure(client, owner, policy, wanted).await.err(),
        (None, Some(policy)) => {
            let gone = delete_one(client, &owner.namespace, policy).await;
            gone.map_err(ChildProblem::from).err()
        }
        (None, None) => None,
    };
    let unreachable = of_service.is_some() && service.is_none();
    let waits = deployment.is_none() && (unreachable || of_policy.is_some());
    let of_deployment = if waits {
        None
    } else {
        let ensured = ensure(client, owner, deployment, &wanted.deployment).await;
        ensured.err()
    };
    let problems = [of_service, of_policy, of_deployment].into_iter().flatten();
    problems.reduce(|first, next| first.and(Some(next)))
}

fn named<'a, K: Resource>(objects: &'a [Arc<K>], name: &str) -> Option<&'a K> {
    let mut objects = objects.iter().map(AsRef::as_ref);
    objects.find(|object| object.meta().name.as_deref() == Some(name))
}

/// Deletes the children of these targets, as they were read and no later version of them.
pub async fn delete(
    client: &Client,
    owner: &Owner,
    existing: &Children,
    targets: &[String],
) -> ChildProblems {
    let mut problems = ChildProblems::new();
    let mut note = |target: &String, result: Result<(), ApplyError>| {
        let problem = result.map_err(ChildProblem::from).err();
        // A later version comes by the watch, and is looked at then.
        let problem = problem.filter(|problem| problem.reason != ProblemReason::ChildConflict);
        problems.extend(problem.map(|problem| (target.clone(), problem)));
    };
    for target in targets {
        let of_target = |meta| labels::target_of(meta) == Some(target.as_str());
        for deployment in &existing.deployments {
            if of_target(&deployment.metadata) {
                let result = delete_one::<Deployment>(client, &owner.namespace, deployment).await;
                note(target, result);
            }
        }
        for service in &existing.services {
            if of_target(&service.metadata) {
                let result = delete_one::<Service>(client, &owner.namespace, service).await;
                note(target, result);
            }
        }
        for policy in &existing.network_policies {
            if of_target(&policy.metadata) {
                let result = delete_one::<NetworkPolicy>(client, &owner.namespace, policy).await;
                note(target, result);
            }
        }
    }
    problems
}

/// Creates the Secret with the client key. That it is there already is success: what is in it follows from its name.
/// Where it was made before, it is asked for first, which writes nothing and needs no right to read.
///
/// # Errors
/// When the API server refuses.
pub async fn ensure_secret(
    client: &Client,
    secret: &Secret,
    made_before: bool,
) -> Result<(), ApplyError> {
    if made_before && create_secret(client, secret, true).await? == Made::Before {
        return Ok(());
    }
    create_secret(client, secret, false).await.map(drop)
}

#[derive(PartialEq, Eq)]
enum Made {
    Now,
    Before,
}

async fn create_secret(
    client: &Client,
    secret: &Secret,
    dry_run: bool,
) -> Result<Made, ApplyError> {
    let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
    let api = Api::<Secret>::namespaced(client.clone(), namespace);
    let params = PostParams {
        field_manager: Some(names::MANAGER_CHILDREN.to_owned()),
        dry_run,
    };
    match api.create(&params, secret).await {
        Ok(_) => Ok(Made::Now),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(Made::Before),
        Err(source) => Err(ApplyError::Write {
            kind: "Secret".to_owned(),
            name: secret.name_any(),
            source: Box::new(source),
        }),
    }
}

/// Deletes a Secret by its name. That it is gone already is success.
///
/// # Errors
/// When the API server refuses.
pub async fn delete_secret(client: &Client, namespace: &str, name: &str) -> Result<(), ApplyError> {
    let api = Api::<Secret>::namespaced(client.clone(), namespace);
    match api.delete(name, &DeleteParams::background()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(ApplyError::Delete {
            kind: "Secret".to_owned(),
            name: name.to_owned(),
            source: Box::new(source),
        }),
    }
}

/// Makes one child as it is wished for. What was read may be older than what is there: then it is asked for once.
async fn ensure<K>(
    client: &Client,
    owner: &Owner,
    known: Option<&K>,
    wanted: &K,
) -> Result<(), ChildProblem>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    match attempt(client, owner, known, wanted).await {
        Err(problem) if problem.reason == ProblemReason::ChildConflict => {
            attempt(client, owner, None, wanted).await
        }
        settled => settled,
    }
}

async fn attempt<K>(
    client: &Client,
    owner: &Owner,
    known: Option<&K>,
    wanted: &K,
) -> Result<(), ChildProblem>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let (kind, name) = (K::kind(&()).into_owned(), wanted.name_any());
    let api = Api::<K>::namespaced(client.clone(), &owner.namespace);
    // Only the workload's own children are known: a foreign object of the same name has to be asked for.
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
        if !owner.owns(existing) {
            return Err(ChildProblem {
                reason: ProblemReason::ForeignObject,
                message: format!("{kind} {name} exists and belongs to something else"),
            });
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
    let written = api.patch(&name, &params, &Patch::Apply(&body)).await;
    written.map(drop).map_err(|source| {
        let source = Box::new(source);
        ApplyError::Write { kind, name, source }.into()
    })
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

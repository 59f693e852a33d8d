//! Reads the cluster: a client of the kubeconfig, single objects, lists, and what a workload refers to.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use k8s_openapi::ClusterResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Api, Client, Config, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use weir_crds::{InferencePriceBook, InferenceWorkload, ModelProfile, names};
use weir_operator::workload::validate::claims_of;

use crate::cli::Connection;
use crate::objects::{Objects, Reference};

/// Bound on every call.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Objects asked for at a time.
const PAGE: u32 = 500;

/// Why the cluster gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No kubeconfig, or one that cannot be used.
    #[error("no cluster can be reached: check --kubeconfig, --context and the KUBECONFIG variable")]
    Kubeconfig(#[source] Box<KubeconfigError>),
    /// The client cannot be made.
    #[error("cannot make a client of the API server")]
    Client(#[source] Box<kube::Error>),
    /// No answer in time.
    #[error(
        "no answer from the API server within {CALL_TIMEOUT:?}: is the cluster of this context up?"
    )]
    Timeout,
    /// The user may not read it.
    #[error("you may not read {what}: ask for a role that can get and list it")]
    Forbidden {
        /// Kind or object.
        what: String,
    },
    /// The user may not change it.
    #[error("you may not change {what}: ask for a role that can patch it")]
    MayNotChange {
        /// Kind and name.
        what: String,
    },
    /// It is no longer what was shown.
    #[error("{what} has changed meanwhile: look again, and confirm what is held then")]
    Changed {
        /// Kind and name.
        what: String,
    },
    /// The kind is not known.
    #[error(
        "the cluster has no kind {kind}: is Weir installed there (helm install weir charts/weir)?"
    )]
    NotInstalled {
        /// The kind.
        kind: String,
    },
    /// There is no such object.
    #[error("{kind} {name} does not exist{place}: `kubectl weir status -A` lists every workload", place = in_namespace(namespace))]
    NotFound {
        /// The kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The namespace that was looked in; empty for the cluster scope.
        namespace: String,
    },
    /// Anything else.
    #[error("cannot read or change {what}")]
    Call {
        /// Kind or object.
        what: String,
        /// Why.
        source: Box<kube::Error>,
    },
}

fn in_namespace(namespace: &str) -> String {
    match namespace {
        "" => String::new(),
        namespace => format!(" in namespace {namespace}"),
    }
}

/// How the cluster is reached.
#[derive(Clone)]
pub enum Access {
    /// By the kubeconfig, once it is needed.
    Kubeconfig(Connection),
    /// By a client that is there, with the namespace to look in.
    Client(Client, String),
}

/// A cluster that can be asked.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// The namespace of flags or context.
    pub namespace: String,
}

impl Access {
    /// A client; nothing is asked yet.
    ///
    /// # Errors
    /// When there is no usable kubeconfig.
    pub async fn connect(&self) -> Result<Cluster, ClusterError> {
        let connection = match self {
            Self::Client(client, namespace) => {
                return Ok(Cluster {
                    client: client.clone(),
                    namespace: namespace.clone(),
                });
            }
            Self::Kubeconfig(connection) => connection,
        };
        let config = config(connection)
            .await
            .map_err(|error| ClusterError::Kubeconfig(Box::new(error)))?;
        let namespace = connection.namespace.clone();
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(weir_operator::client::prepared(config))
            .map_err(|error| ClusterError::Client(Box::new(error)))?;
        Ok(Cluster { client, namespace })
    }
}

async fn config(connection: &Connection) -> Result<Config, KubeconfigError> {
    let options = KubeConfigOptions {
        context: connection.context.clone(),
        ..KubeConfigOptions::default()
    };
    match &connection.kubeconfig {
        Some(file) => Config::from_custom_kubeconfig(Kubeconfig::read_from(file)?, &options).await,
        None => Config::from_kubeconfig(&options).await,
    }
}

impl Cluster {
    /// A workload.
    ///
    /// # Errors
    /// When it cannot be read or does not exist.
    pub async fn workload(&self, name: &str) -> Result<InferenceWorkload, ClusterError> {
        let api = Api::<InferenceWorkload>::namespaced(self.client.clone(), &self.namespace);
        let what = format!("InferenceWorkload {name}");
        let found = answer(&what, "InferenceWorkload", api.get_opt(name)).await?;
        found.ok_or_else(|| ClusterError::NotFound {
            kind: "InferenceWorkload",
            name: name.to_owned(),
            namespace: self.namespace.clone(),
        })
    }

    /// Workloads of the namespace, or of all, by namespace and name.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn workloads(&self, all: bool) -> Result<Vec<InferenceWorkload>, ClusterError> {
        let api = if all {
            Api::all(self.client.clone())
        } else {
            Api::namespaced(self.client.clone(), &self.namespace)
        };
        let mut workloads: Vec<InferenceWorkload> = list(&api, "").await?;
        workloads.sort_by_key(|workload| (workload.namespace(), workload.name_any()));
        Ok(workloads)
    }

    /// Every object of a kind of the cluster scope, by name.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn all<K>(&self) -> Result<BTreeMap<String, K>, ClusterError>
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let objects = list(&Api::<K>::all(self.client.clone()), "").await?;
        Ok(objects
            .into_iter()
            .map(|object| (object.name_any(), object))
            .collect())
    }

    /// An object of the cluster scope; `None` when it does not exist.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn one<K>(&self, name: &str) -> Result<Option<K>, ClusterError>
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let kind = K::kind(&()).into_owned();
        let api = Api::<K>::all(self.client.clone());
        answer(&format!("{kind} {name}"), &kind, api.get_opt(name)).await
    }

    /// Adds what the workload refers to and is absent, and profiles that may stand in for those that it names. What cannot be
    /// read is told and left out.
    pub async fn complete(
        &self,
        objects: &mut Objects,
        workload: &InferenceWorkload,
    ) -> Vec<ClusterError> {
        let mut failed = Vec::new();
        let mut tried = Vec::new();
        loop {
            let absent = objects.absent(workload);
            let Some(reference) = absent.into_iter().find(|each| !tried.contains(each)) else {
                failed.extend(self.add_beside(objects, workload).await.err());
                return failed;
            };
            if let Err(error) = self.add(objects, &reference).await {
                failed.push(error);
            }
            tried.push(reference);
        }
    }

    async fn add_beside(
        &self,
        objects: &mut Objects,
        workload: &InferenceWorkload,
    ) -> Result<(), ClusterError> {
        let claims = claims_of(&workload.spec, |name| objects.models.get(name));
        if claims.is_empty() {
            return Ok(());
        }
        for (name, profile) in self.all::<ModelProfile>().await? {
            let claim = profile.spec.claim();
            if claim.is_some_and(|claim| claims.contains(claim)) {
                objects.models.entry(name).or_insert(profile);
            }
        }
        Ok(())
    }

    async fn add(&self, objects: &mut Objects, reference: &Reference) -> Result<(), ClusterError> {
        let name = reference.name();
        let named = || name.to_owned();
        match reference {
            Reference::Policy(_) => {
                let found = self.one(name).await?;
                objects.policies.extend(found.map(|found| (named(), found)));
            }
            Reference::Model(_) => {
                let found = self.one(name).await?;
                objects.models.extend(found.map(|found| (named(), found)));
            }
            Reference::Provider(_) => {
                let found = self.one(name).await?;
                objects
                    .providers
                    .extend(found.map(|found| (named(), found)));
            }
            Reference::PriceBook(_) => {
                let found = self.one(name).await?;
                objects
                    .price_books
                    .extend(found.map(|found| (named(), found)));
            }
            Reference::Tier(_) => {
                let found = self.one(name).await?;
                objects.tiers.extend(found.map(|found| (named(), found)));
            }
        }
        Ok(())
    }

    /// Sets an annotation of a price book that is still what `book` is.
    ///
    /// # Errors
    /// When it has changed, or may not be changed.
    pub async fn annotate(
        &self,
        book: &InferencePriceBook,
        (key, value): (&str, &str),
    ) -> Result<(), ClusterError> {
        let name = book.name_any();
        let what = format!("InferencePriceBook {name}");
        let api = Api::<InferencePriceBook>::all(self.client.clone());
        let patch = Patch::Merge(json!({"metadata": {
            "resourceVersion": book.metadata.resource_version,
            "annotations": {key: value},
        }}));
        let params = PatchParams {
            field_manager: Some("kubectl-weir".to_owned()),
            ..PatchParams::default()
        };
        let answer = tokio::time::timeout(CALL_TIMEOUT, api.patch(&name, &params, &patch)).await;
        match answer.map_err(|_| ClusterError::Timeout)? {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_forbidden() => {
                Err(ClusterError::MayNotChange { what })
            }
            Err(kube::Error::Api(status)) if status.is_conflict() => {
                Err(ClusterError::Changed { what })
            }
            Err(error) => Err(ClusterError::Call {
                what,
                source: Box::new(error),
            }),
        }
    }

    /// The pods that serve a workload.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn pods(&self, workload: &InferenceWorkload) -> Result<Vec<Pod>, ClusterError> {
        let (Some(uid), Some(namespace)) = (workload.uid(), workload.namespace()) else {
            return Ok(Vec::new());
        };
        let api = Api::<Pod>::namespaced(self.client.clone(), &namespace);
        list(&api, &format!("{}={uid}", names::LABEL_WORKLOAD_UID)).await
    }
}

/// Every object, a page at a time.
async fn list<K>(api: &Api<K>, labels: &str) -> Result<Vec<K>, ClusterError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let kind = K::kind(&()).into_owned();
    let what = K::plural(&()).into_owned();
    let mut params = ListParams::default().labels(labels).limit(PAGE);
    let mut objects = Vec::new();
    loop {
        let page = answer(&what, &kind, api.list(&params)).await?;
        objects.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(objects),
        }
    }
}

async fn answer<T>(
    what: &str,
    kind: &str,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, ClusterError> {
    let answer = tokio::time::timeout(CALL_TIMEOUT, call)
        .await
        .map_err(|_| ClusterError::Timeout)?;
    answer.map_err(|error| match &error {
        kube::Error::Api(status) if status.is_forbidden() => ClusterError::Forbidden {
            what: what.to_owned(),
        },
        kube::Error::Api(status) if status.is_not_found() => ClusterError::NotInstalled {
            kind: kind.to_owned(),
        },
        _ => ClusterError::Call {
            what: what.to_owned(),
            source: Box::new(error),
        },
    })
}

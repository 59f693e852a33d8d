//! Reads and writes the `GPUNode` object at the API server.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::timeout;
use weir_crds::names::MANAGER_AGENT;
use weir_crds::{GPUNode, GPUNodeSpec, GPUNodeStatus};

const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the object was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The object could not be read.
    #[error("gpunode {name} cannot be read")]
    Read {
        /// Name of the object.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// The object could not be created.
    #[error("gpunode {name} cannot be created")]
    Create {
        /// Name of the object.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// The status could not be applied.
    #[error("status of gpunode {name} cannot be applied")]
    Apply {
        /// Name of the object.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server did not answer.
    #[error("api server did not answer in time")]
    Timeout,
}

/// Reads and writes the object; needs `get` and `create` on `gpunodes` and `patch` on `gpunodes/status`.
pub struct ApiWriter {
    api: Api<GPUNode>,
    name: String,
    owner: Option<OwnerReference>,
    created: bool,
}

impl ApiWriter {
    /// For the node of this name, owned by its Node object where the UID is known.
    pub fn new(client: Client, node_name: &str, node_uid: Option<&str>) -> Self {
        let owner = node_uid
            .filter(|uid| !uid.is_empty())
            .map(|uid| OwnerReference {
                api_version: "v1".into(),
                kind: "Node".into(),
                name: node_name.to_owned(),
                uid: uid.to_owned(),
                ..OwnerReference::default()
            });
        Self {
            api: Api::all(client),
            name: node_name.to_owned(),
            owner,
            created: false,
        }
    }

    /// The status that an earlier run of the agent left, if there is one.
    pub(super) async fn read(&mut self) -> Result<Option<GPUNodeStatus>, WriteError> {
        let found = timeout(CALL_TIMEOUT, self.api.get_opt(&self.name))
            .await
            .map_err(|_| WriteError::Timeout)?
            .map_err(|source| WriteError::Read {
                name: self.name.clone(),
                source: Box::new(source),
            })?;
        self.created = found.is_some();
        Ok(found.and_then(|object| object.status))
    }

    pub(super) async fn write(&mut self, status: &GPUNodeStatus) -> Result<(), WriteError> {
        if !self.created {
            self.create().await?;
            self.created = true;
        }
        let result = self.apply(status).await;
        if matches!(&result, Err(WriteError::Apply { source, .. }) if is_not_found(source)) {
            // Deleted by somebody: made anew with the next write.
            self.created = false;
        }
        result
    }

    async fn create(&self) -> Result<(), WriteError> {
        let mut object = GPUNode::new(&self.name, GPUNodeSpec::default());
        object.metadata.owner_references = self.owner.clone().map(|owner| vec![owner]);
        let params = PostParams {
            field_manager: Some(MANAGER_AGENT.to_owned()),
            ..PostParams::default()
        };
        match timeout(CALL_TIMEOUT, self.api.create(&params, &object)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(kube::Error::Api(status))) if status.is_already_exists() => Ok(()),
            Ok(Err(source)) => Err(WriteError::Create {
                name: self.name.clone(),
                source: Box::new(source),
            }),
            Err(_) => Err(WriteError::Timeout),
        }
    }

    async fn apply(&self, status: &GPUNodeStatus) -> Result<(), WriteError> {
        let body = json!({
            "apiVersion": "inference.weir.dev/v1alpha1",
            "kind": "GPUNode",
            "metadata": { "name": self.name },
            "status": status,
        });
        let params = PatchParams::apply(MANAGER_AGENT).force();
        let patch = Patch::Apply(&body);
        timeout(
            CALL_TIMEOUT,
            self.api.patch_status(&self.name, &params, &patch),
        )
        .await
        .map_err(|_| WriteError::Timeout)?
        .map(|_| ())
        .map_err(|source| WriteError::Apply {
            name: self.name.clone(),
            source: Box::new(source),
        })
    }
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found())
}

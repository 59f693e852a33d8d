//! The node's `GPUNode` object: written on material change alone, and at most once a minute.

mod publication;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use weir_crds::names::MANAGER_AGENT;
use weir_crds::{GPUNode, GPUNodeSpec, GPUNodeStatus};

use super::metrics::Metrics;
use super::sampler::{Latest, Sampler};
pub use publication::{MIN_WRITE_INTERVAL, Publication};

const LOOK_INTERVAL: Duration = Duration::from_secs(2);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The object is read this often, in case somebody deleted or changed it.
const READ_INTERVAL: Duration = Duration::from_secs(300);

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
    async fn read(&mut self) -> Result<Option<GPUNodeStatus>, WriteError> {
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

    async fn write(&mut self, status: &GPUNodeStatus) -> Result<(), WriteError> {
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

/// Looks at the samples and writes when there is something to say.
pub struct NodeObject {
    writer: ApiWriter,
    sampler: Sampler,
    metrics: Arc<Metrics>,
    publication: Publication,
    read_at: Option<Instant>,
}

impl NodeObject {
    /// Nothing is written before [`NodeObject::run`].
    pub fn new(writer: ApiWriter, sampler: Sampler, metrics: Arc<Metrics>) -> Self {
        Self {
            writer,
            sampler,
            metrics,
            publication: Publication::default(),
            read_at: None,
        }
    }

    /// Writes until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = looks.tick() => {}
            }
            let latest = self.sampler.latest();
            self.look(&latest).await;
        }
    }

    async fn look(&mut self, latest: &Latest) {
        self.publication.observe(latest, Instant::now());
        let now = Instant::now();
        let first = self.read_at.is_none() && self.publication.due(now).is_some();
        let again = self.read_at.is_some_and(|at| now >= at + READ_INTERVAL);
        if first || again {
            self.read_at = Some(now);
            if let Err(error) = self.adopt(latest).await {
                self.read_at = self.read_at.filter(|_| again);
                self.failed(&error);
                return;
            }
        }
        let Some(status) = self.publication.due(Instant::now()) else {
            return;
        };
        let body = GPUNodeStatus {
            updated: Some(Time(Timestamp::now())),
            ..status.clone()
        };
        match self.writer.write(&body).await {
            Ok(()) => {
                self.metrics.object_written(true);
                self.publication.written(status, Instant::now());
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Takes the object as it is for what was written, so that a restart alone changes nothing.
    async fn adopt(&mut self, latest: &Latest) -> Result<(), WriteError> {
        let status = self.writer.read().await?;
        self.publication
            .adopt(status, Timestamp::now(), Instant::now());
        self.publication.observe(latest, Instant::now());
        Ok(())
    }

    fn failed(&mut self, error: &WriteError) {
        let source = std::error::Error::source(error);
        tracing::warn!(%error, source = source.map(tracing::field::display), "gpunode not written");
        self.metrics.object_written(false);
        self.publication.failed(error, Instant::now());
    }
}

#[cfg(test)]
mod tests;

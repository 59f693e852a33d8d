//! Controller of model profiles: measured throughput, and how many workloads use them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::ResourceExt;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use weir_crds::tier::Sharing;
use weir_crds::{ModelProfile, names};
use weir_operator_core::model::{self, throughput::Measurement};
use weir_operator_core::owner::{Owner, deployment_of};

use crate::context::Context;
use crate::queue::{self, Key, Requeue};
use crate::status_writer::{StatusError, StatusWriter};
use crate::stores::{Kind, Stores, Trigger};
use crate::telemetry::Processor;
use crate::workload::build::ANNOTATION_TIER;

/// Engines report their benchmark some time after their pods are there.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// A node with more than this to do has other work than the engine that measures.
const BUSY_PERCENT: u8 = 80;
/// Measurements that are remembered.
const MOST_MEASUREMENTS: usize = 100_000;

struct Controller {
    context: Context,
    writer: StatusWriter<ModelProfile>,
    /// Measurements that were heard of, and whether the node was quiet then.
    first: Mutex<HashMap<String, bool>>,
}

/// Keeps the status of every profile right until `stop`.
pub async fn run(context: Context, stop: CancellationToken) {
    let controller = Arc::new(Controller {
        writer: StatusWriter::new(context.client.clone()),
        first: Mutex::default(),
        context: context.clone(),
    });
    let stores = context.stores.clone();
    let changed = context
        .stores
        // How many workloads use a profile is counted when it is looked at again: each status of each would ask otherwise.
        .changes([Kind::Model, Kind::EnginePod])
        .flat_map(move |trigger| stream::iter(affected(&stores, trigger)));
    let at_start = stream::iter(all(&context.stores));
    let reconcile = move |key: Key| {
        let controller = Arc::clone(&controller);
        async move { controller.reconcile(&key).await }
    };
    queue::run(
        context.queue("model"),
        at_start.chain(changed),
        reconcile,
        stop,
    )
    .await;
}

fn affected(stores: &Stores, trigger: Trigger) -> Vec<Key> {
    match trigger {
        Trigger::Changed(change) if change.kind == Kind::Model => vec![Key::cluster(change.name)],
        _ => all(stores),
    }
}

fn all(stores: &Stores) -> Vec<Key> {
    stores
        .models
        .state()
        .iter()
        .map(|model| Key::of(model.as_ref()))
        .collect()
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<Requeue, StatusError> {
        let Some(profile) = Stores::get(&self.context.stores.models, None, &key.name) else {
            return Ok(Requeue::OnChange);
        };
        let previous = self.writer.current(&profile);
        let at = (
            profile.metadata.generation.unwrap_or(0),
            self.context.clock.now(),
        );
        let next = model::status(
            &profile.spec,
            &previous,
            &self.measurements(&key.name),
            self.workloads(&key.name),
            at,
        );
        self.writer.write(&profile, &next).await?;
        Ok(Requeue::After(LOOK_AGAIN))
    }

    /// What the engines measured that serve the profile. An engine is a pod of a Deployment of ours, with its image, and
    /// what it measured is heard from the agent of its own node.
    fn measurements(&self, profile: &str) -> Vec<Measurement> {
        let stores = &self.context.stores;
        let label = names::label_value(profile);
        let mut measurements = Vec::new();
        for pod in stores.engine_pods.state() {
            let labels = pod.labels();
            if labels.get(names::LABEL_MODEL) != Some(&label) {
                continue;
            }
            let Some(tier) = owned_tier(stores, &pod) else {
                continue;
            };
            let (uid, node) = (pod.uid(), pod.spec.as_ref());
            let node = node.and_then(|spec| spec.node_name.as_deref());
            let Some((uid, node)) = uid.zip(node) else {
                continue;
            };
            let engine = self.context.telemetry.engine(node, &uid);
            let Some(rate) = engine.and_then(|engine| engine.benchmark_tokens_per_second) else {
                continue;
            };
            let digest = hex::encode(Sha256::digest(format!("{uid} {rate}")));
            let id = digest[..12].to_owned();
            let undisturbed = self.undisturbed(&id, node, &tier);
            measurements.push(Measurement {
                id,
                tier,
                rate,
                undisturbed,
            });
        }
        measurements
    }

    /// Whether the node had little to do when a measurement was first heard of: the engine that made it was done, so what
    /// the node did then is others' load. A load that nobody measures speaks against nothing.
    fn undisturbed(&self, id: &str, node: &str, tier: &str) -> bool {
        let now = || {
            let tier = Stores::get(&self.context.stores.tiers, None, tier);
            let processor = match tier.map(|tier| tier.spec.sharing) {
                Some(Sharing::CPU) => Processor::Cpu,
                _ => Processor::Gpu,
            };
            let heard = self.context.telemetry.heard(node, processor);
            let load = heard.and_then(|heard| heard.percent());
            load.is_none_or(|load| load <= f64::from(BUSY_PERCENT))
        };
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if first.len() > MOST_MEASUREMENTS {
            first.clear();
        }
        *first.entry(id.to_owned()).or_insert_with(now)
    }

    fn workloads(&self, profile: &str) -> usize {
        let serves = |workload: &weir_crds::InferenceWorkload| {
            let mut locals = workload
                .spec
                .targets
                .iter()
                .filter_map(|target| target.local.as_ref());
            let stands_in = |name: &str| {
                let target = workload.spec.target(name).and_then(|target| target.local);
                target.is_some_and(|local| local.model_ref.name == profile)
            };
            let placement = workload
                .status
                .as_ref()
                .and_then(|it| it.placement.as_ref());
            locals.any(|local| local.model_ref.name == profile)
                || placement.is_some_and(|placement| stands_in(&placement.target))
        };
        self.context.stores.workloads.state_filter(serves).len()
    }
}

/// The tier of an engine pod, as the Deployment says that it is of; `None` for a pod of anything that is not ours.
fn owned_tier(stores: &Stores, pod: &Pod) -> Option<String> {
    let owner = Owner::of_pod(pod)?;
    let deployment = stores
        .deployments
        .get(&owner.namespace, deployment_of(pod)?)?;
    if !owner.owns(deployment.as_ref()) {
        return None;
    }
    let template = &deployment.spec.as_ref()?.template;
    let image = |spec: Option<&PodSpec>| Some(spec?.containers.first()?.image.clone());
    let labels = template.metadata.as_ref()?.labels.as_ref()?;
    // A pod of the template before may be of another tier or model.
    let same = [names::LABEL_TIER, names::LABEL_MODEL]
        .iter()
        .all(|label| pod.labels().get(*label) == labels.get(*label));
    let same = same && image(pod.spec.as_ref()) == image(template.spec.as_ref());
    deployment
        .annotations()
        .get(ANNOTATION_TIER)
        .filter(|_| same)
        .cloned()
}

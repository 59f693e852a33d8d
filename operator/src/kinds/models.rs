//! Controller of model profiles: measured throughput, and how many workloads use them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use kube::ResourceExt;
use tokio_util::sync::CancellationToken;
use weir_crds::{ModelProfile, names};

use crate::context::Context;
use crate::model;
use crate::queue::{self, Key, Requeue};
use crate::status_writer::{StatusError, StatusWriter};
use crate::stores::{Kind, Stores, Trigger};

/// Engines report their benchmark some time after their pods are there.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

struct Controller {
    context: Context,
    writer: StatusWriter<ModelProfile>,
}

pub async fn run(context: Context, stop: CancellationToken) {
    let controller = Arc::new(Controller {
        writer: StatusWriter::new(context.client.clone()),
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
            &self.reported(&key.name),
            self.workloads(&key.name),
            at,
        );
        self.writer.write(&profile, &next).await?;
        Ok(Requeue::After(LOOK_AGAIN))
    }

    /// Mean benchmark of the engines that serve the profile, by tier.
    fn reported(&self, profile: &str) -> BTreeMap<String, f64> {
        let mut sums: BTreeMap<String, (f64, u32)> = BTreeMap::new();
        let label = names::label_value(profile);
        for pod in self.context.stores.engine_pods.state() {
            let labels = pod.labels();
            if labels.get(names::LABEL_MODEL) != Some(&label) {
                continue;
            }
            let engine = pod
                .uid()
                .and_then(|uid| self.context.telemetry.engine(&uid));
            let rate = engine.and_then(|engine| engine.benchmark_tokens_per_second);
            if let Some((rate, tier)) = rate.zip(labels.get(names::LABEL_TIER)) {
                let (sum, count) = sums.entry(tier.clone()).or_default();
                *sum += rate;
                *count += 1;
            }
        }
        sums.into_iter()
            .map(|(tier, (sum, count))| (tier, sum / f64::from(count)))
            .collect()
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

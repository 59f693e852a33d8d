//! Controller of tiers: capacity, cost and utilization.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_crds::tier::Sharing;
use weir_crds::{GPUTier, names};
use weir_operator_core::owner::Owner;
use weir_operator_core::tier::nodes;
use weir_operator_core::tier::utilization::{NodeReading, TierReading, occupancy, of_nodes};
use weir_operator_core::tier::{self, NodeFacts};

use super::snapshot::Snapshot;
use crate::context::Context;
use crate::queue::{self, Key, Requeue};
use crate::status_writer::{StatusError, StatusWriter};
use crate::stores::{Kind, Stores, Trigger};
use crate::telemetry::{Heard, Processor, TelemetryChange};
use crate::workload::failure;

/// Utilization of a tier is written at most once in this time; that it is unknown is written at once.
const TELEMETRY_WRITES: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_secs(15);

struct Controller {
    context: Context,
    writer: StatusWriter<GPUTier>,
    telemetry_written: Mutex<HashMap<String, Instant>>,
    snapshot: Snapshot,
}

pub async fn run(context: Context, stop: CancellationToken) {
    let controller = Arc::new(Controller {
        writer: StatusWriter::new(context.client.clone()),
        telemetry_written: Mutex::default(),
        snapshot: Snapshot::default(),
        context: context.clone(),
    });
    let stores = context.stores.clone();
    let counting = Arc::clone(&controller);
    let changed = context
        .stores
        .changes([Kind::Tier, Kind::Node, Kind::Pod, Kind::GpuNode])
        .flat_map(move |trigger| {
            counting.snapshot.changed();
            stream::iter(affected(&stores, trigger))
        });
    let stores = context.stores.clone();
    let reported = context.telemetry.subscribe().flat_map(move |change| {
        let any = matches!(change, TelemetryChange::Node(_) | TelemetryChange::Missed);
        stream::iter(if any { all(&stores) } else { Vec::new() })
    });
    let at_start = stream::iter(all(&context.stores));
    let triggers = at_start.chain(stream::select(changed, reported));
    let reconcile = move |key: Key| {
        let controller = Arc::clone(&controller);
        async move { controller.reconcile(&key).await }
    };
    queue::run(context.queue("tier"), triggers, reconcile, stop).await;
}

/// Nodes and pods may matter to every tier.
fn affected(stores: &Stores, trigger: Trigger) -> Vec<Key> {
    match trigger {
        Trigger::Changed(change) if change.kind == Kind::Tier => vec![Key::cluster(change.name)],
        _ => all(stores),
    }
}

fn all(stores: &Stores) -> Vec<Key> {
    stores
        .tiers
        .state()
        .iter()
        .map(|tier| Key::of(tier.as_ref()))
        .collect()
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<Requeue, StatusError> {
        let stores = &self.context.stores;
        let Some(tier) = Stores::get(&stores.tiers, None, &key.name) else {
            self.written().remove(&key.name);
            return Ok(Requeue::OnChange);
        };
        let count = || nodes::nodes(&stores.nodes.state(), &stores.pods.state());
        let nodes = match self.snapshot.nodes(count) {
            Ok(nodes) => nodes,
            Err(wait) => return Ok(Requeue::After(wait)),
        };
        let previous = self.writer.current(&tier);
        let tiers = stores.tiers.state();
        let others = tiers.iter().map(|other| (other.name_any(), other));
        let others: Vec<_> = others.filter(|(name, _)| *name != key.name).collect();
        let others = others
            .iter()
            .map(|(name, other)| (name.as_str(), &other.spec));
        let reading = self.reading(&tier, &nodes);
        let occupancy = self.occupancy(&tier, &reading);
        let before = (previous.utilization_percent, previous.occupancy_percent);
        let (utilization, occupancy) =
            self.writable(&key.name, before, (reading.percent(), occupancy));
        let seen = tier::Seen {
            nodes: &nodes,
            shared_with: tier::shared_with(&tier.spec, others, &nodes),
            utilization,
            occupancy,
            reading,
        };
        let at = (
            tier.metadata.generation.unwrap_or(0),
            self.context.clock.now(),
        );
        let next = tier::status(&tier.spec, &previous, seen, at);
        let told = (next.utilization_percent, next.occupancy_percent) != before;
        if self.writer.write(&tier, &next).await? && told {
            self.written().insert(tier.name_any(), Instant::now());
        }
        Ok(Requeue::After(LOOK_AGAIN))
    }

    /// What is heard of the tier's nodes. An agent that once wrote its node's object and is silent now was lost.
    fn reading(&self, tier: &GPUTier, nodes: &[NodeFacts]) -> TierReading {
        let processor = match tier.spec.sharing {
            Sharing::CPU => Processor::Cpu,
            Sharing::Exclusive | Sharing::MIG | Sharing::MPS | Sharing::TimeSlicing => {
                Processor::Gpu
            }
        };
        let gpu_nodes = &self.context.stores.gpu_nodes;
        let of_node = |node: &NodeFacts| match self.context.telemetry.heard(&node.name, processor) {
            Some(Heard::Percent(percent)) => NodeReading::Percent(percent),
            Some(Heard::Partly(percent, why)) => NodeReading::Partly(percent, why),
            Some(Heard::NotMeasurable(why)) => NodeReading::NotMeasurable(why),
            Some(Heard::Failed(why)) => NodeReading::Failed(why),
            None => match Stores::get(gpu_nodes, None, &node.name) {
                Some(reported) if reported.status.is_some() => NodeReading::Silent,
                _ => NodeReading::NeverHeard,
            },
        };
        let of_tier = nodes.iter().filter(|node| tier::has(&tier.spec, node));
        of_nodes(of_tier.map(|node| (node.name.as_str(), of_node(node))))
    }

    /// How full the tier is, by its engines first.
    fn occupancy(&self, tier: &GPUTier, reading: &TierReading) -> Option<f64> {
        let label = names::label_value(&tier.name_any());
        let mut pods = self.context.stores.engine_pods.state();
        pods.retain(|pod| {
            let of_tier = pod.labels().get(names::LABEL_TIER) == Some(&label);
            of_tier && Owner::of_pod(pod).is_some() && failure::is_ready(pod)
        });
        let said = |pod: &Arc<Pod>| {
            let node = pod.spec.as_ref()?.node_name.as_deref()?;
            let uid = pod.metadata.uid.as_deref()?;
            self.context.telemetry.engine(node, uid)?.occupancy()
        };
        let engines: Vec<Option<f64>> = pods.iter().map(said).collect();
        occupancy(&engines, reading, tier.spec.sharing != Sharing::CPU)
    }

    /// What may be written now of how busy and how full the tier is.
    fn writable(
        &self,
        tier: &str,
        before: (Option<i32>, Option<i32>),
        readings: (Option<f64>, Option<f64>),
    ) -> (Option<i32>, Option<i32>) {
        let written = self.written().get(tier).copied();
        let soon = written.is_some_and(|written| written.elapsed() < TELEMETRY_WRITES);
        let one = |before, reading| match tier::stepped(before, reading) {
            Some(_) if soon => before,
            next => next,
        };
        (one(before.0, readings.0), one(before.1, readings.1))
    }

    fn written(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        self.telemetry_written
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

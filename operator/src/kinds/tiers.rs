//! Controller of tiers: capacity, cost and utilization.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use kube::ResourceExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_crds::GPUTier;
use weir_crds::tier::Sharing;

use super::facts;
use super::snapshot::Snapshot;
use crate::context::Context;
use crate::queue::{self, Key, Requeue};
use crate::status_writer::{StatusError, StatusWriter};
use crate::stores::{Kind, Stores, Trigger};
use crate::telemetry::{Processor, TelemetryChange};
use crate::tier::{self, NodeFacts};

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
        let count = || facts::nodes(&stores.nodes.state(), &stores.pods.state());
        let nodes = match self.snapshot.nodes(count) {
            Ok(nodes) => nodes,
            Err(wait) => return Ok(Requeue::After(wait)),
        };
        let previous = self.writer.current(&tier);
        let utilization = self.utilization(&tier, &nodes, previous.utilization_percent);
        let at = (
            tier.metadata.generation.unwrap_or(0),
            self.context.clock.now(),
        );
        let next = tier::status(&tier.spec, &previous, &nodes, utilization, at);
        let told = next.utilization_percent != previous.utilization_percent;
        if self.writer.write(&tier, &next).await? && told {
            self.written().insert(tier.name_any(), Instant::now());
        }
        Ok(Requeue::After(LOOK_AGAIN))
    }

    /// What may be written now.
    fn utilization(&self, tier: &GPUTier, nodes: &[NodeFacts], before: Option<i32>) -> Option<i32> {
        let processor = match tier.spec.sharing {
            Sharing::CPU => Processor::Cpu,
            Sharing::Exclusive | Sharing::MIG | Sharing::MPS | Sharing::TimeSlicing => {
                Processor::Gpu
            }
        };
        let of_tier = nodes
            .iter()
            .filter(|node| node.usable && tier::matches(&tier.spec, node))
            .map(|node| node.name.as_str());
        let reading = self
            .context
            .telemetry
            .utilization(of_tier, processor)
            .percent;
        let next = tier::stepped(before, reading.map(f64::from));
        let soon = self
            .written()
            .get(&tier.name_any())
            .is_some_and(|written| written.elapsed() < TELEMETRY_WRITES);
        match next {
            Some(_) if soon => before,
            next => next,
        }
    }

    fn written(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        self.telemetry_written
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

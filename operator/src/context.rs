//! What every controller is given.

use std::sync::Arc;

use kube::Client;
use weir_engine_key::RootPublic;

use crate::ca::ClientKeyRoot;
use crate::cli::Settings;
use crate::client::Budget;
use crate::clock::Clock;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::queue::QueueOptions;
use crate::stores::Stores;
use crate::telemetry::Telemetry;

/// Shared by all controllers of the replica that leads; clones are cheap.
#[derive(Clone)]
pub struct Context {
    /// Talks to the API server: with timeouts and our retry policy, and writes only while this replica leads.
    pub client: Client,
    /// What its writes are counted against.
    pub budget: Budget,
    /// The time, since this replica leads.
    pub clock: Clock,
    /// Flags and environment.
    pub settings: Arc<Settings>,
    /// What the cluster looks like.
    pub stores: Stores,
    /// What agents and gateways report.
    pub telemetry: Telemetry,
    /// Events on objects.
    pub events: Events,
    /// Counters and gauges.
    pub metrics: Arc<Metrics>,
    /// Client keys are derived from it.
    pub client_keys: ClientKeyRoot,
    /// What engines know of the root of the keys that open them.
    pub engine_root: RootPublic,
}

impl Context {
    /// How a controller of this name runs its queue.
    pub fn queue(&self, name: &'static str) -> QueueOptions {
        QueueOptions {
            name,
            concurrency: usize::from(self.settings.concurrency),
            debounce: self.settings.debounce,
            metrics: Arc::clone(&self.metrics),
        }
    }
}

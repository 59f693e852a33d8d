//! What all parts of the gateway share: the table in force, wake-ups, the state of draining.

use crate::lock::lock;
use crate::routing::engine_keys::EngineKeys;
use crate::routing::table::{RouteTable, Uid};
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

/// Wake-ups that a slow reader may lag behind.
const WAKE_UPS_KEPT: usize = 256;

/// A request came for a target that sleeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WakeUp {
    /// The workload.
    pub(crate) uid: Uid,
    /// The target's name.
    pub target: Arc<str>,
}

/// Shared by all parts of the gateway.
#[derive(Debug)]
pub struct SharedState {
    table: ArcSwap<RouteTable>,
    /// Counts the tables that were put in force; 0 before the first.
    version: watch::Sender<u64>,
    /// When each kind was last heard.
    contacts: Mutex<BTreeMap<&'static str, Instant>>,
    external_closed: AtomicBool,
    watches: Mutex<BTreeMap<&'static str, bool>>,
    refusals: Mutex<BTreeMap<&'static str, u64>>,
    wake_ups: broadcast::Sender<WakeUp>,
    draining: watch::Sender<bool>,
    /// What opens engines.
    pub engine_keys: Arc<EngineKeys>,
    /// Names this run of the gateway.
    pub(crate) boot_id: String,
}

impl Default for SharedState {
    fn default() -> Self {
        Self {
            table: ArcSwap::default(),
            version: watch::Sender::new(0),
            contacts: Mutex::default(),
            external_closed: AtomicBool::new(false),
            watches: Mutex::default(),
            refusals: Mutex::default(),
            wake_ups: broadcast::Sender::new(WAKE_UPS_KEPT),
            draining: watch::Sender::new(false),
            engine_keys: Arc::default(),
            boot_id: format!(
                "{:016x}{:016x}",
                rand::random::<u64>(),
                rand::random::<u64>()
            ),
        }
    }
}

impl SharedState {
    /// The table in force.
    pub fn table(&self) -> Arc<RouteTable> {
        self.table.load_full()
    }

    /// Puts a table in force; from here on every new request sees it, and it is acknowledged.
    pub fn publish(&self, table: RouteTable) {
        self.table.store(Arc::new(table));
        self.version.send_modify(|version| *version += 1);
    }

    /// Follows the versions of the table.
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Whether a complete table has been in force.
    pub fn is_synced(&self) -> bool {
        *self.version.borrow() > 0
    }

    /// The API server was heard on a kind: by a list, news, or an answer that shows that there are none.
    pub(crate) fn record_contact(&self, what: &'static str) {
        lock(&self.contacts).insert(what, Instant::now());
    }

    /// Since when nothing was heard of the kind that was heard least recently; `None` before the first time.
    pub fn since_contact(&self) -> Option<Duration> {
        let oldest = lock(&self.contacts).values().min().copied();
        oldest.map(|at| at.elapsed())
    }

    /// Whether targets at providers have no route, because the API server was not heard for too long.
    pub(crate) fn is_external_closed(&self) -> bool {
        self.external_closed.load(Ordering::Relaxed)
    }

    /// Says whether they have; true when that is news.
    pub(crate) fn set_external_closed(&self, closed: bool) -> bool {
        self.external_closed.swap(closed, Ordering::Relaxed) != closed
    }

    /// Whether the watch of a kind fails at present, so that what the table has of it may be old.
    pub(crate) fn record_watch(&self, what: &'static str, fails: bool) {
        lock(&self.watches).insert(what, fails);
    }

    /// Every kind that is watched, and whether its watch fails.
    pub(crate) fn watch_failures(&self) -> BTreeMap<&'static str, bool> {
        lock(&self.watches).clone()
    }

    /// A request was answered with an error before it had a target.
    pub(crate) fn record_refusal(&self, code: &'static str) {
        *lock(&self.refusals).entry(code).or_default() += 1;
    }

    /// Requests that never had a target, by the error's code.
    pub(crate) fn refusals(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.refusals).clone()
    }

    /// Reports that a sleeping target is wanted.
    pub(crate) fn wake(&self, wake_up: WakeUp) {
        // No operator listens: the next request reports again.
        let _ = self.wake_ups.send(wake_up);
    }

    /// Follows the wake-ups.
    pub fn wake_ups(&self) -> broadcast::Receiver<WakeUp> {
        self.wake_ups.subscribe()
    }

    /// Begins to drain.
    pub fn start_draining(&self) {
        self.draining.send_replace(true);
    }

    /// Whether the gateway drains.
    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Follows the state of draining.
    pub(crate) fn draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }
}

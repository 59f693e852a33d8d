//! What the handlers share: how far loading is, and the engine once it runs.

use crate::args::ServeArgs;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use weir_engine::engine::Engine;
use weir_engine::model::Model;
use weir_engine_key::EngineLock;

/// Where the server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The file's SHA-256 is taken.
    Verifying,
    /// Weights are read and packed.
    Loading,
    /// A first token is generated.
    Warming,
    /// Requests are served.
    Ready,
    /// No new work is wanted.
    Draining,
}

impl Phase {
    const ALL: [Self; 5] = [
        Self::Verifying,
        Self::Loading,
        Self::Warming,
        Self::Ready,
        Self::Draining,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Verifying => "Verifying",
            Self::Loading => "Loading",
            Self::Warming => "Warming",
            Self::Ready => "Ready",
            Self::Draining => "Draining",
        }
    }
}

/// A loaded model and its engine.
pub(crate) struct Served {
    pub(crate) model: Model,
    pub(crate) engine: Engine,
}

/// The server's state.
pub(crate) struct Server {
    configured_name: Option<String>,
    pub(crate) created: u64,
    pub(crate) lock: Option<EngineLock>,
    refused: AtomicU64,
    phase: AtomicU8,
    verified_bytes: AtomicU64,
    total_bytes: AtomicU64,
    next_id: AtomicU64,
    served: OnceLock<Served>,
}

impl Server {
    pub(crate) fn new(args: &ServeArgs) -> Self {
        let created = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        Self {
            configured_name: args.served_model_name.clone(),
            created,
            lock: args.lock(),
            refused: AtomicU64::new(0),
            phase: AtomicU8::new(0),
            verified_bytes: AtomicU64::new(0),
            total_bytes: AtomicU64::new(0),
            next_id: AtomicU64::new(1),
            served: OnceLock::new(),
        }
    }

    /// The model's name in requests and answers.
    pub(crate) fn name(&self) -> &str {
        match (&self.configured_name, self.served.get()) {
            (Some(name), _) => name,
            (None, Some(served)) => &served.model.spec.name,
            (None, None) => "",
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Ordering::Acquire)).min(Phase::ALL.len() - 1)]
    }

    /// Goes on to a later phase; never back, so that a drain during loading stays a drain.
    pub(crate) fn set_phase(&self, phase: Phase) {
        let before = self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        if before < phase as u8 {
            tracing::info!(phase = phase.as_str(), "phase");
        }
    }

    pub(crate) fn set_progress(&self, verified: u64, total: u64) {
        self.verified_bytes.store(verified, Ordering::Relaxed);
        self.total_bytes.store(total, Ordering::Relaxed);
    }

    /// Percent of the file whose checksum is taken.
    pub(crate) fn verified_percent(&self) -> u64 {
        let total = self.total_bytes.load(Ordering::Relaxed).max(1);
        self.verified_bytes.load(Ordering::Relaxed) * 100 / total
    }

    /// A request without a gateway's token came.
    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests without a gateway's token.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(crate) fn publish(&self, served: Served) {
        // Loading happens once, so nothing is there yet.
        let _ = self.served.set(served);
        self.set_phase(Phase::Ready);
    }

    pub(crate) fn served(&self) -> Option<&Served> {
        self.served.get()
    }

    /// A new id with a prefix, unique in this process and, by the time, between restarts.
    pub(crate) fn new_id(&self, prefix: &str) -> String {
        let number = self.next_id.fetch_add(1, Ordering::Relaxed);
        format!("{prefix}-{:x}-{number:x}", self.created)
    }
}

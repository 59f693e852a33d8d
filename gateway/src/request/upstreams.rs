//! The ways to targets: what an attempt needs besides the request itself.

use crate::config::Limits;
use crate::routing::engine_keys::EngineKeys;
use crate::upstream::connect::{LocalClient, local_client};
use std::sync::Arc;
use std::time::Duration;

/// The ways to targets. A provider brings its own client; its permit is in the table.
pub(crate) struct Upstreams {
    /// The client towards this cluster's engines.
    pub(crate) engines: LocalClient,
    /// What opens them.
    pub(crate) engine_keys: Arc<EngineKeys>,
    /// How long an answer may take.
    pub(crate) timeouts: Timeouts,
}

/// How long an answer may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// A stream, to its first content.
    pub(crate) first_byte: Duration,
    /// An answer that is not streamed.
    pub(crate) response: Duration,
    /// Between two pieces of an answer.
    pub(crate) idle: Duration,
}

impl Upstreams {
    pub(crate) fn new(engine_keys: Arc<EngineKeys>, limits: &Limits) -> Self {
        Self {
            engines: local_client(limits.connect_local),
            engine_keys,
            timeouts: Timeouts {
                first_byte: limits.first_byte,
                response: limits.response,
                idle: limits.idle,
            },
        }
    }
}

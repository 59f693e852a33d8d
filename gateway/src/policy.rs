//! What a workload's owner allows: where its data may go, and when requests leave a target. A leaf: it imports
//! nothing of the gateway.

use std::collections::BTreeSet;
use std::time::Duration;

/// Whether a workload's data may leave the cluster; fixed for its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// It may not.
    Forbidden,
    /// It may.
    Allowed,
}

impl Egress {
    /// Whether this build serves such workloads.
    pub(crate) fn is_of_this_plane(self) -> bool {
        (self == Self::Allowed) == cfg!(feature = "cloud")
    }
}

/// What a workload demands of providers that get its data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataDemands {
    /// Jurisdictions that they may be in; empty means any.
    pub allowed_jurisdictions: BTreeSet<String>,
    /// Whether they must keep nothing.
    pub require_zero_retention: bool,
}

/// When requests leave a local target that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpillPolicy {
    /// Whether a long queue spills.
    pub enabled: bool,
    /// The longest wait that does not spill.
    pub(crate) queue_wait: Duration,
    /// Whether an external target bridges a cold start.
    pub bridges_cold_start: bool,
}

/// When requests leave a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficPolicy {
    /// Spill and cold start.
    pub spill: SpillPolicy,
    /// What counts as a reason to try another target.
    pub failover: FailoverPolicy,
}

/// What counts as a reason to try another target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverPolicy {
    /// No connection, or one that was lost before the first byte.
    pub(crate) on_connect: bool,
    /// No first byte in time.
    pub(crate) on_timeout: bool,
    /// 429.
    pub(crate) on_too_many_requests: bool,
    /// 5xx.
    pub on_server_error: bool,
    /// Failures in a row that eject a target.
    pub(crate) consecutive_failures: u32,
    /// For how long.
    pub eject_for: Duration,
}

impl Default for TrafficPolicy {
    fn default() -> Self {
        Self {
            spill: SpillPolicy {
                enabled: false,
                queue_wait: Duration::from_millis(500),
                bridges_cold_start: true,
            },
            failover: FailoverPolicy {
                on_connect: true,
                on_timeout: true,
                on_too_many_requests: true,
                on_server_error: true,
                consecutive_failures: 3,
                eject_for: Duration::from_secs(30),
            },
        }
    }
}

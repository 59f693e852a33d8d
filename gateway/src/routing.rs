//! Where requests go: from the cluster's objects to the choice of a target.
//!
//! `watch` follows the objects, `convert` reads them, the `index` keeps them and makes the `table` that requests see;
//! `choose` picks a target of it by its standing, and `engines` an engine. What outlives a table is in `shared_state`, in
//! `workload_state` and in `target_state`.
//!
//! May import external, metering, upstream and the leaves; knows no request.

pub(crate) mod choose;
pub(crate) mod closed;
pub mod convert;
pub(crate) mod endpoints;
pub(crate) mod engine_keys;
pub(crate) mod engines;
pub(crate) mod index;
pub(crate) mod keys;
pub(crate) mod shared_state;
pub(crate) mod swrr;
pub(crate) mod table;
pub(crate) mod target_state;
pub(crate) mod watch;
pub(crate) mod workload_state;

pub use closed::Closed;
pub use endpoints::{SliceInput, TargetKey};
pub use index::input::{
    DecidedFor, PlacementInput, TargetInput, TargetKind, Undecodable, WeightInput, WorkloadInput,
};
pub use index::{Index, Restored};
pub use keys::{KeyHash, Keys};
pub use shared_state::SharedState;
pub use table::{RouteTable, RouteTarget, Target, Workload};
pub use watch::engine_keys::watch_engine_keys;
#[cfg(feature = "cloud")]
pub use watch::providers::{watch_providers, watch_secrets};
pub use watch::{Publisher, run_watches, watch_endpoints, watch_workloads};
pub use workload_state::WorkloadState;

//! Where requests go: the cluster's objects, the table that is made of them, and the choice of a target.

pub mod choose;
pub mod closed;
pub mod convert;
pub mod endpoints;
pub mod engine_keys;
pub mod engines;
pub mod index;
pub mod keys;
pub mod shared_state;
pub mod swrr;
pub mod table;
pub mod target_state;
pub mod watch;
pub mod workload_state;

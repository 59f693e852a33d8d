//! The OpenAI-compatible endpoint of every workload.
//!
//! One crate, two builds. With the feature `cloud` it is the plane of workloads whose data may leave the cluster;
//! without it the plane of those whose data may not, and then nothing that could reach a provider is compiled.
#![forbid(unsafe_code)]

pub mod admin;
pub mod answer;
pub mod attempt;
pub mod auth;
pub mod body;
pub mod breaker;
pub mod chat;
pub mod choose;
pub mod config;
pub mod connect;
pub mod convert;
pub mod endpoints;
pub mod engine_keys;
pub mod engines;
pub mod exchange;
#[cfg(feature = "cloud")]
pub mod external;
pub mod failure;
pub mod headers;
pub mod hub;
pub mod index;
pub mod keys;
pub mod meter;
pub mod metrics;
pub mod proxy;
pub mod relay;
pub mod report;
pub mod route;
pub mod server;
pub mod state;
pub mod swrr;
pub mod table;
pub mod watch;

/// The plane that this build is, as labels and certificates spell it.
pub const PLANE: &str = if cfg!(feature = "cloud") {
    "cloud"
} else {
    "local"
};

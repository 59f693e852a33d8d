//! The OpenAI-compatible endpoint of every workload.
//!
//! One crate, two builds. With the feature `cloud` it is the plane of workloads whose data may leave the cluster;
//! without it the plane of those whose data may not, and then nothing that could reach a provider is compiled.
#![forbid(unsafe_code)]

pub mod admin;
pub mod chat;
pub mod clock;
pub mod config;
#[cfg(feature = "cloud")]
pub mod external;
mod lock;
pub mod metering;
pub mod policy;
pub mod request;
pub mod routing;
pub mod server;
pub mod telemetry;
pub mod upstream;

/// The plane that this build is, as labels and certificates spell it.
pub const PLANE: &str = if cfg!(feature = "cloud") {
    "cloud"
} else {
    "local"
};

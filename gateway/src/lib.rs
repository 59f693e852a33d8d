//! The OpenAI-compatible endpoint of every workload.
//!
//! One crate, two builds. With the feature `cloud` it is the plane of workloads whose data may leave the cluster;
//! without it the plane of those whose data may not, and then nothing that could reach a provider is compiled.
//!
//! Imports run one way: server and admin, then [`request`] and [`telemetry`], then [`routing`], then `external`, then
//! [`metering`] and [`upstream`], then the leaves [`policy`], `clock` and `lock`. The root of a folder names what the
//! binary and the tests use; everything else is the crate's own.
#![forbid(unsafe_code)]
#![cfg_attr(feature = "cloud", warn(unreachable_pub))]

pub mod admin;
pub mod chat;
mod clock;
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

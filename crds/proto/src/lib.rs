//! The gRPC contract between the operator and the agents and gateways.
#![forbid(unsafe_code)]

/// Generated from `proto/weir.proto`.
#[allow(clippy::all, missing_docs, unused_qualifications)]
mod generated {
    tonic::include_proto!("weir.v1alpha1");
}

pub use generated::*;

/// Upper bounds, in milliseconds, of the buckets of `Counters::ttft_buckets`; one more bucket has no bound.
pub const TTFT_BOUNDS_MS: [u64; 14] = [
    10, 20, 50, 100, 200, 300, 500, 800, 1_200, 2_000, 3_000, 5_000, 10_000, 30_000,
];

/// Minutes in which something happened that a gateway keeps of a workload, the present one among them.
pub const MINUTES_KEPT: usize = 60;

//! What the gateway tells others of itself: the report to the operator, the metrics.
//!
//! May import routing, external, metering, upstream and the leaves; no request waits for it.

pub mod metrics;
pub(crate) mod report;

pub use report::{COUNTERS_EVERY, Reporter};

//! What the gateway tells others of itself: the report to the operator, the metrics.

pub mod metrics;
pub mod report;

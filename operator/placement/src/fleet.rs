//! Scarce GPUs of a fleet and the workloads that compete for them.
//!
//! [`hourly`] decides replicas on owned GPUs hour by hour, from forecasts; [`assignment`] places replicas on tiers for one
//! moment, with a bound and the gap to it. The README beside these files states the properties of both.

pub mod assignment;
mod chain;
mod experts;
pub mod hourly;
pub mod learned;
mod series;

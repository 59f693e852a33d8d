//! Replays a bundle of recorded prices and traffic, step by step, through the code that decides placements.
#![forbid(unsafe_code)]

pub mod bundle;
pub mod fleet;
pub mod report;
pub mod workload;

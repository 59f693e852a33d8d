//! What is counted of requests: what the operator reads as demand, and what `/metrics` shows. Imports nothing but where
//! targets are.

pub mod counters;
pub mod minutes;
pub mod outcome;
pub mod served;
pub mod workload;

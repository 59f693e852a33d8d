//! What is counted of requests: what the operator reads as demand, and what `/metrics` shows.
//!
//! May import where targets are, of upstream, and nothing else.

pub(crate) mod counters;
pub(crate) mod minutes;
pub(crate) mod outcome;
pub(crate) mod served;
pub(crate) mod workload;

pub use counters::Counters;
pub use outcome::Outcome;

//! What is common to all targets.

pub mod breaker;
pub mod call;
pub mod connect;
pub mod place;

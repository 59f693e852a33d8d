//! What is common to all targets.

pub mod breaker;
pub mod connect;
pub mod place;

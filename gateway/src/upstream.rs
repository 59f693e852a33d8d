//! What is common to all targets.

pub(crate) mod answer_format;
pub mod breaker;
pub mod call;
pub mod connect;
pub mod place;

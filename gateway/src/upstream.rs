//! What all targets have in common, engines and providers: what is sent to them, how they are connected to, how their
//! answers are read, and when they are left out.
//!
//! Imports nothing of the gateway.

pub(crate) mod answer_format;
pub(crate) mod breaker;
pub(crate) mod call;
pub(crate) mod connect;
pub(crate) mod place;

pub use place::Location;

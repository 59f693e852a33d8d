//! Fakes for what cannot be had here: a cloud provider and a price feed, both over TLS, with a plain control API.
//!
//! The fake provider answers in OpenAI's format, says in its text which provider and model it is, counts what it was
//! sent, and fails on demand. It remembers request bodies so that a test can prove that a text never arrived.

pub mod bombs;
pub mod cloud;
pub mod control;
pub mod prices;
pub mod serve;
pub mod state;

pub use state::{FailureMode, Fakes};

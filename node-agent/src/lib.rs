//! The node agent: telemetry of a node, and the engine's server.
//!
//! `unsafe` is denied here but for one module, which asks whether a CUDA driver is there.
#![deny(unsafe_code)]

pub mod serve;
pub mod telemetry;

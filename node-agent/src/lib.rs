//! The node agent: telemetry of a node and its engines.
//!
//! `unsafe` is denied here but for one module, which asks whether a CUDA driver is there.
#![deny(unsafe_code)]

pub mod telemetry;

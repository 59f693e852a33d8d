//! The inference engine: reads a GGUF model, schedules requests over a paged KV cache and generates tokens.
//!
//! No Kubernetes and no HTTP here: [`engine::Engine`] takes requests and gives events to a sink.

pub mod backend;
pub mod chat;
pub mod device;
pub mod engine;
pub mod failure;
pub mod gguf;
pub mod graph;
pub mod kv;
pub mod metrics;
pub mod model;
pub mod output;
pub mod quant;
pub mod sample;
pub mod sched;
pub mod spec;
pub mod tok;
pub mod weights;

//! The Weir operator: decides where inference workloads run, makes it so, and says why.
#![forbid(unsafe_code)]

pub mod ca;
pub mod cli;
pub mod client;
pub mod clock;
pub mod context;
pub mod controllers;
pub mod csr;
pub mod engine_key;
pub mod events;
mod fair;
pub mod kinds;
pub mod leader;
pub mod metrics;
pub mod price_book;
pub mod provider;
pub mod queue;
mod run;
pub mod server;
pub mod status_writer;
pub mod stores;
pub mod telemetry;
pub mod workload;

pub use run::{RunError, run, run_on};

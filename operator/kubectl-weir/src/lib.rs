//! `kubectl weir`: what Weir decided and why, and what it would decide. Reads; of the cluster it writes one annotation, where prices are confirmed.
#![forbid(unsafe_code)]

pub mod cli;
pub mod cluster;
mod curve;
mod explain;
mod facts;
pub mod feed;
pub mod files;
pub mod objects;
pub mod plan;
mod price_confirm;
mod price_diff;
pub mod prices;
mod rerun;
mod run;
mod status;
mod text;
mod top;

pub use run::{Answer, Failure, described, run};

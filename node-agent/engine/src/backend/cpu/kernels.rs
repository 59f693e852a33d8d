//! The inner loops: portable code over fixed-width arrays, and what is written for one set of instructions.
//!
//! They do not choose: [`super::isa::Isa`] does, which stands above them.

pub(super) mod attention;
pub(super) mod output;
mod product;
pub(super) mod quantize;
pub(super) mod raw;
pub(super) mod tile;

//! Reads GGUF files: metadata is parsed and checked, tensors stay in the file's mapping.
//!
//! The file is untrusted: every count, size and offset is checked against the bytes that are there before
//! anything is allocated for it.

mod cursor;
mod error;
mod file;
mod parse;
mod value;

pub use error::GgufError;
pub use file::{GgufFile, TensorBytes};
pub use parse::{Header, TensorInfo, parse};
pub use value::{Metadata, Value};

#[cfg(test)]
mod tests;

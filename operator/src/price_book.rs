//! Price books: reading a source, deciding what of it to believe, and saying so in the status.

pub mod controller;
pub mod fetch;
pub mod guard;
pub mod parse;
pub mod status;

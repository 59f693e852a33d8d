//! Price books: reading a document, deciding what of it to believe, and what the status says of it.

pub mod guard;
pub mod parse;
pub mod status;

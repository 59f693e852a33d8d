//! Price books: fetching a source, and keeping the status of what is believed of it.

pub mod controller;
pub mod fetch;

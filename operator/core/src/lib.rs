//! What the operator works out from what it has read: values in, values out.
//!
//! Nothing in here names a client of the API server, an async runtime, a log, a metric, a clock or a source of randomness.
//! What reads, writes, waits or logs is the operator's; the time is an argument.
#![forbid(unsafe_code)]

pub mod model;
pub mod owner;
pub mod price_book;
pub mod tier;

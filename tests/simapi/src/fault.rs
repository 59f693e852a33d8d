//! Faults that tests put between a client and the store, and the record of what was asked.

use crate::request::RequestInfo;
use serde_json::Value;
use std::time::Duration;

/// What becomes of one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Fault {
    /// Nothing: the request is served.
    #[default]
    Pass,
    /// The request is served after this time of the tokio clock.
    Delay(Duration),
    /// The answer is this HTTP status; the store does not see the request.
    RespondBefore(u16),
    /// The store commits; the answer is this HTTP status.
    RespondAfterCommit(u16),
    /// The connection breaks; the store does not see the request.
    DropBefore,
    /// The store commits; the connection breaks without an answer.
    DropAfterCommit,
    /// No answer ever; the store does not see the request.
    Hang,
    /// The store commits; no answer ever.
    HangAfterCommit,
    /// The store commits; the answer is 200 with a body that is not JSON.
    Garbage,
    /// A watch ends after this many events.
    CutWatchAfter(usize),
}

/// One request and what came of it.
#[derive(Clone, Debug)]
pub struct Record {
    /// What was asked.
    pub request: RequestInfo,
    /// The fault that it met.
    pub fault: Fault,
    /// HTTP status of the store's answer; 0 when the store did not see the request.
    pub code: u16,
    /// The resourceVersion that the request made, when it changed anything.
    pub committed: Option<u64>,
    /// The object as it was answered, or the error.
    pub answer: Value,
    /// Time of the server's clock, in seconds since 1970.
    pub time: i64,
}

impl Record {
    /// Whether the request changed the store.
    pub fn changed(&self) -> bool {
        self.committed.is_some()
    }
}

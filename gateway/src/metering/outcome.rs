//! How one request to one target ended, and what it came to.

use crate::upstream::place::{Location, Reason};
use std::time::Duration;

/// How a request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// An answer of the target's, whole.
    #[default]
    Answered,
    /// The target refused the request (4xx but 429).
    Refused,
    /// The target answered 429.
    TooManyRequests,
    /// The target answered 5xx, or something that is no answer.
    ServerError,
    /// No connection, or one that was lost before the first byte.
    Connect,
    /// No first byte in time.
    Timeout,
    /// The answer broke off after it had begun.
    Interrupted,
    /// The client left.
    Canceled,
}

impl Outcome {
    /// Every outcome, in the order of `self as usize`.
    pub(crate) const ALL: [Self; 8] = [
        Self::Answered,
        Self::Refused,
        Self::TooManyRequests,
        Self::ServerError,
        Self::Connect,
        Self::Timeout,
        Self::Interrupted,
        Self::Canceled,
    ];

    /// As metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::TooManyRequests => "429",
            Self::ServerError => "5xx",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Interrupted => "interrupted",
            Self::Canceled => "canceled",
        }
    }

    /// Whether the target is to blame.
    pub(crate) fn is_failure(self) -> bool {
        matches!(
            self,
            Self::TooManyRequests
                | Self::ServerError
                | Self::Connect
                | Self::Timeout
                | Self::Interrupted
        )
    }
}

/// What one request to one target came to.
#[derive(Clone, Debug)]
pub(crate) struct Observation {
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// Where it was.
    pub(crate) location: Location,
    /// Why it was there.
    pub reason: Reason,
    /// Status of the target's answer, 0 without one.
    pub status: u16,
    /// Tokens of the prompt.
    pub(crate) input_tokens: u64,
    /// Of these, tokens that a cache supplied.
    pub(crate) cached_input_tokens: u64,
    /// Tokens of the answer.
    pub(crate) output_tokens: u64,
    /// The token counts are this gateway's estimate.
    pub(crate) estimated: bool,
    /// From sending to the first token; only of streams.
    pub(crate) ttft: Option<Duration>,
    /// From sending to the end.
    pub(crate) duration: Duration,
}

impl Default for Observation {
    fn default() -> Self {
        Self {
            outcome: Outcome::Answered,
            location: Location::Local,
            reason: Reason::Placement,
            status: 0,
            input_tokens: 0,
            cached_input_tokens: 0,
            output_tokens: 0,
            estimated: false,
            ttft: None,
            duration: Duration::ZERO,
        }
    }
}

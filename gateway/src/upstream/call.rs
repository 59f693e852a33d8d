//! What is sent to a target, whichever it is.

use bytes::Bytes;
use http::header::HeaderMap;
use weir_openai::splice::RequestHead;

/// An operation that is passed on to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Chat.
    ChatCompletions,
    /// Text completion.
    Completions,
    /// Embeddings.
    Embeddings,
}

impl Operation {
    /// The path below the base URL.
    pub fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/chat/completions",
            Self::Completions => "/completions",
            Self::Embeddings => "/embeddings",
        }
    }

    /// Whether answers may be streams.
    pub fn streams(self) -> bool {
        !matches!(self, Self::Embeddings)
    }
}

/// A client's request, ready to be sent to any target. Its bytes are shared, not copied.
pub struct Call {
    /// The operation.
    pub operation: Operation,
    /// The body as it came.
    pub body: Bytes,
    /// What was read of it.
    pub head: RequestHead,
    /// The headers that targets see.
    pub headers: HeaderMap,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Call")
            .field("operation", &self.operation)
            .finish_non_exhaustive()
    }
}

//! What is sent to a target, whichever it is.

use bytes::Bytes;
use http::header::HeaderMap;
use weir_openai::splice::RequestHead;

/// An operation that is passed on to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Chat.
    ChatCompletions,
    /// Text completion.
    Completions,
    /// Embeddings.
    Embeddings,
}

impl Operation {
    /// The path below the base URL.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/chat/completions",
            Self::Completions => "/completions",
            Self::Embeddings => "/embeddings",
        }
    }

    /// Whether answers may be streams.
    pub(crate) fn streams(self) -> bool {
        !matches!(self, Self::Embeddings)
    }
}

/// A client's request, ready to be sent to any target. Its bytes are shared, not copied.
pub(crate) struct Call {
    /// The operation.
    pub(crate) operation: Operation,
    /// The body as it came.
    pub(crate) body: Bytes,
    /// What was read of it.
    pub(crate) head: RequestHead,
    /// The headers that targets see.
    pub(crate) headers: HeaderMap,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Call")
            .field("operation", &self.operation)
            .finish_non_exhaustive()
    }
}

//! OpenAI wire types and the server-sent-event codec, shared by the gateway and the engine's server.
//!
//! Types that hold prompts or answers have a `Debug` that prints none of them.
#![forbid(unsafe_code)]

pub mod error;
pub mod inspect;
pub mod request;
pub mod response;
pub mod splice;
pub mod sse;
pub mod usage;

pub use error::{ApiError, ErrorCode, ErrorObject, ErrorResponse};
pub use request::{
    ChatMessage, ChatRequest, CompletionRequest, ContentPart, EmbeddingRequest, Extra,
    MessageContent, Prompt, Stop, StreamOptions,
};
pub use response::{
    ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatDelta, ChatLogprobs, Completion,
    CompletionChoice, CompletionLogprobs, Embedding, EmbeddingList, Model, ModelList, TokenLogprob,
    TopLogprob,
};
pub use usage::{CompletionTokensDetails, PromptTokensDetails, Usage};

/// Gives a type a `Debug` that names it and shows nothing of what it holds.
macro_rules! redacted_debug {
    ($($type:ty),+ $(,)?) => {$(
        impl std::fmt::Debug for $type {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(concat!(stringify!($type), " { redacted }"))
            }
        }
    )+};
}
pub(crate) use redacted_debug;

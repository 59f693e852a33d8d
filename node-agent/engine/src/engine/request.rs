//! What an engine is asked, and what it answers.

use crate::metrics::FinishReason;
use crate::sample::{Logprobs, SamplingParams};
use std::time::Duration;

/// What to generate.
#[derive(Clone, Debug)]
pub struct GenerateRequest {
    /// Tokens to continue; not empty.
    pub prompt: Vec<u32>,
    /// Most tokens to generate; as many as fit if absent.
    pub max_tokens: Option<usize>,
    /// End tokens are not chosen before so many.
    pub min_tokens: usize,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Go on after an end token.
    pub ignore_eos: bool,
    /// Report log-probabilities, with so many alternatives.
    pub logprobs: Option<usize>,
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Its first step begins.
    Started {
        /// How long it waited.
        queue: Duration,
    },
    /// A token was chosen.
    Token {
        /// The token.
        id: u32,
        /// Text that became final with it; may be empty.
        text: String,
        /// Its log-probabilities, where they were asked for.
        logprobs: Option<Logprobs>,
    },
    /// The answer ended.
    Finished {
        /// Why.
        reason: FinishReason,
        /// Text that was held back.
        text: String,
    },
}

/// Takes a request's events; `false` cancels the request.
pub type Sink = Box<dyn FnMut(Event) -> bool + Send>;

/// Why a request was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// No tokens.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// A token that the vocabulary does not have.
    #[error("token {0} is not in the vocabulary")]
    UnknownToken(u32),
    /// Too long.
    #[error(
        "the prompt has {prompt} tokens and {requested} were requested, the context holds {context}"
    )]
    ContextLength {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens to generate.
        requested: usize,
        /// Tokens that fit.
        context: usize,
    },
    /// Too many requests wait.
    #[error("the queue of {0} requests is full")]
    QueueFull(usize),
    /// The engine ends.
    #[error("the engine is draining")]
    Draining,
}

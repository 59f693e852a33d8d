//! A request in the engine, as a stream of events that cancels it when dropped.

use crate::answer;
use crate::state::{Served, Server};
use std::time::Duration;
use tokio::sync::mpsc;
use weir_engine::engine::{Event, GenerateRequest, RequestGuard};
use weir_engine::metrics::FinishReason;
use weir_engine::sample::Logprobs;
use weir_openai::{ApiError, ErrorCode, Usage};

/// A request that the engine has begun.
pub(crate) struct Running {
    events: mpsc::UnboundedReceiver<Event>,
    _guard: RequestGuard,
    /// How long it waited.
    pub(crate) queue: Duration,
    /// Tokens of its prompt.
    pub(crate) prompt: Vec<u32>,
    generated: u64,
}

/// One token of an answer.
pub(crate) struct Token {
    pub(crate) id: u32,
    pub(crate) text: String,
    pub(crate) logprobs: Option<Logprobs>,
}

/// What comes next in an answer.
pub(crate) enum Next {
    Token(Token),
    Finished {
        reason: FinishReason,
        text: String,
    },
    /// The engine is gone.
    Lost,
}

impl Running {
    pub(crate) async fn next(&mut self) -> Next {
        loop {
            return match self.events.recv().await {
                Some(Event::Started { .. }) => continue,
                Some(Event::Token { id, text, logprobs }) => {
                    self.generated += 1;
                    Next::Token(Token { id, text, logprobs })
                }
                Some(Event::Finished { reason, text }) => Next::Finished { reason, text },
                None => Next::Lost,
            };
        }
    }

    /// Tokens so far.
    pub(crate) fn usage(&self) -> Usage {
        Usage::new(self.prompt.len() as u64, self.generated)
    }
}

/// A whole answer.
pub(crate) struct Whole {
    pub(crate) text: String,
    pub(crate) tokens: Vec<Token>,
    pub(crate) reason: FinishReason,
    pub(crate) usage: Usage,
}

/// The loaded model, if it takes requests, and only under its own name.
pub(crate) fn served<'a>(server: &'a Server, model: &str) -> Result<&'a Served, ApiError> {
    let served = server.served().ok_or_else(|| answer::not_ready(server))?;
    if !model.is_empty() && model != server.name() {
        return Err(answer::unknown_model(model));
    }
    Ok(served)
}

/// Gives a request to the engine and waits until it begins.
pub(crate) async fn start(served: &Served, request: GenerateRequest) -> Result<Running, ApiError> {
    let prompt = request.prompt.clone();
    // Bounded by the request's own tokens; the engine's thread must not wait for a slow client.
    let (sender, mut events) = mpsc::unbounded_channel();
    let sink = Box::new(move |event| sender.send(event).is_ok());
    let guard = served
        .engine
        .submit(request, sink)
        .map_err(|error| answer::refused(&error))?;
    match events.recv().await {
        Some(Event::Started { queue }) => Ok(Running {
            events,
            _guard: guard,
            queue,
            prompt,
            generated: 0,
        }),
        _ => Err(lost()),
    }
}

pub(crate) fn lost() -> ApiError {
    ApiError::new(ErrorCode::Internal, "the engine ended the request")
}

/// Waits for the whole answer.
pub(crate) async fn collect(mut running: Running) -> Result<Whole, ApiError> {
    let mut text = String::new();
    let mut tokens = Vec::new();
    loop {
        match running.next().await {
            Next::Token(token) => {
                text.push_str(&token.text);
                tokens.push(token);
            }
            Next::Finished { reason, text: rest } => {
                text.push_str(&rest);
                let usage = running.usage();
                return Ok(Whole {
                    text,
                    tokens,
                    reason,
                    usage,
                });
            }
            Next::Lost => return Err(lost()),
        }
    }
}

//! `POST /v1/completions`.

use crate::chat::now;
use crate::generate::{self, Running, Token};
use crate::request::{self, invalid, unsupported};
use crate::state::{Served, Server};
use crate::stream::{self, Chunks, UsageOptions};
use crate::{answer, render};
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use std::sync::Arc;
use weir_engine::engine::GenerateRequest;
use weir_engine::metrics::FinishReason;
use weir_engine::tok::Tokenizer;
use weir_openai::{
    ApiError, Completion, CompletionChoice, CompletionLogprobs, CompletionRequest, Prompt, Usage,
};

/// OpenAI's default bound.
const DEFAULT_MAX_TOKENS: u32 = 16;

pub(crate) async fn handle(State(server): State<Arc<Server>>, body: Bytes) -> Response {
    match answer_to(&server, &body).await {
        Ok(response) => response,
        Err(error) => answer::error(&error),
    }
}

async fn answer_to(server: &Server, body: &[u8]) -> Result<Response, ApiError> {
    let request: CompletionRequest = request::parse(body)?;
    let served = generate::served(server, &request.model)?;
    let generation = prepare(served, &request)?;
    let running = generate::start(served, generation).await?;
    let envelope = Envelope {
        id: server.new_id("cmpl"),
        created: now(),
        model: server.name().to_owned(),
        tokenizer: Arc::clone(&served.model.tokenizer),
        show_ids: request.return_token_ids.unwrap_or(false),
        show_logprobs: request.logprobs.is_some(),
        prompt: None,
        characters: 0,
    };
    if !request.streams() {
        return whole(envelope, running).await;
    }
    let options = UsageOptions {
        at_the_end: request.wants_usage(),
        in_every_chunk: request
            .stream_options
            .as_ref()
            .and_then(|options| options.continuous_usage_stats)
            .unwrap_or(false),
    };
    Ok(stream::streamed(running, envelope, options))
}

fn prepare(served: &Served, request: &CompletionRequest) -> Result<GenerateRequest, ApiError> {
    request::check_n(request.n)?;
    request::check_extra(&request.extra)?;
    if request.echo.unwrap_or(false) {
        return Err(unsupported("echo", "echo is not supported"));
    }
    let prompt = prompt_tokens(&served.model.tokenizer, request)?;
    let max_tokens = request.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
    request::generate(
        prompt,
        Some(max_tokens),
        &request.sampling,
        request.logprobs,
    )
}

fn prompt_tokens(tokenizer: &Tokenizer, request: &CompletionRequest) -> Result<Vec<u32>, ApiError> {
    let encode = |text: &str| {
        let add_special = request.add_special_tokens.unwrap_or(true);
        tokenizer
            .encode(text, add_special)
            .map_err(|_| invalid("prompt", "the prompt cannot be tokenized"))
    };
    match &request.prompt {
        Prompt::Text(text) => encode(text),
        Prompt::Tokens(tokens) => Ok(tokens.clone()),
        Prompt::Texts(texts) if texts.len() == 1 => encode(&texts[0]),
        Prompt::TokenLists(lists) if lists.len() == 1 => Ok(lists[0].clone()),
        Prompt::Texts(_) | Prompt::TokenLists(_) => {
            Err(unsupported("prompt", "one prompt a request is supported"))
        }
    }
}

/// What is the same in all parts of an answer.
struct Envelope {
    id: String,
    created: u64,
    model: String,
    tokenizer: Arc<Tokenizer>,
    show_ids: bool,
    show_logprobs: bool,
    /// The prompt's tokens, until the first chunk has shown them.
    prompt: Option<Vec<u32>>,
    /// Characters of the tokens so far.
    characters: u32,
}

impl Envelope {
    fn logprobs(&mut self, tokens: &[Token]) -> Option<CompletionLogprobs> {
        if !self.show_logprobs {
            return None;
        }
        let mut all = CompletionLogprobs::default();
        for logprobs in tokens.iter().filter_map(|token| token.logprobs.as_ref()) {
            let piece = self.tokenizer.piece(logprobs.chosen.token);
            all.text_offset.push(self.characters);
            let length = u32::try_from(piece.chars().count()).unwrap_or(u32::MAX);
            self.characters = self.characters.saturating_add(length);
            all.tokens.push(piece);
            all.token_logprobs.push(Some(logprobs.chosen.logprob));
            all.top_logprobs
                .push(render::completion_top(&self.tokenizer, logprobs));
        }
        Some(all)
    }

    fn completion(&self, choices: Vec<CompletionChoice>) -> Completion {
        Completion {
            id: self.id.clone(),
            object: "text_completion".to_owned(),
            created: self.created,
            model: self.model.clone(),
            choices,
            usage: None,
            system_fingerprint: None,
        }
    }

    fn choice(&mut self, text: String, tokens: &[Token]) -> CompletionChoice {
        CompletionChoice {
            index: 0,
            text,
            logprobs: self.logprobs(tokens),
            finish_reason: None,
            token_ids: self
                .show_ids
                .then(|| tokens.iter().map(|token| token.id).collect()),
            prompt_token_ids: self.prompt.take(),
        }
    }
}

async fn whole(mut envelope: Envelope, running: Running) -> Result<Response, ApiError> {
    let queue = running.queue;
    envelope.prompt = envelope.show_ids.then(|| running.prompt.clone());
    let whole = generate::collect(running).await?;
    let mut choice = envelope.choice(whole.text, &whole.tokens);
    choice.finish_reason = Some(whole.reason.as_str().to_owned());
    let mut completion = envelope.completion(vec![choice]);
    completion.usage = Some(whole.usage);
    Ok(stream::whole(&completion, queue))
}

impl Chunks for Envelope {
    type Chunk = Completion;

    fn first(&mut self, prompt: &[u32]) -> Option<Completion> {
        self.prompt = self.show_ids.then(|| prompt.to_vec());
        None
    }

    fn token(&mut self, mut token: Token) -> Completion {
        let text = std::mem::take(&mut token.text);
        let choice = self.choice(text, &[token]);
        self.completion(vec![choice])
    }

    fn last(&mut self, text: String, reason: FinishReason) -> Completion {
        let mut choice = self.choice(text, &[]);
        choice.logprobs = None;
        choice.token_ids = None;
        choice.finish_reason = Some(reason.as_str().to_owned());
        self.completion(vec![choice])
    }

    fn usage(&mut self) -> Completion {
        self.completion(Vec::new())
    }

    fn set_usage(chunk: &mut Completion, usage: Usage) {
        chunk.usage = Some(usage);
    }

    fn shows_every_token(&self) -> bool {
        self.show_ids || self.show_logprobs
    }
}

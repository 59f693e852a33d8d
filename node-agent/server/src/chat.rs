//! `POST /v1/chat/completions`.

use crate::generate::{self, Running, Token};
use crate::request::{self, invalid, unsupported};
use crate::state::{Served, Server};
use crate::stream::{self, Chunks, UsageOptions};
use crate::{answer, render};
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use std::sync::Arc;
use weir_engine::chat::{ChatTemplate, Message};
use weir_engine::engine::GenerateRequest;
use weir_engine::metrics::FinishReason;
use weir_engine::tok::Tokenizer;
use weir_openai::{
    ApiError, ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatDelta, ChatLogprobs,
    ChatRequest, ErrorCode, Usage,
};

pub(crate) async fn handle(State(server): State<Arc<Server>>, body: Bytes) -> Response {
    match answer_to(&server, &body).await {
        Ok(response) => response,
        Err(error) => answer::error(&error),
    }
}

async fn answer_to(server: &Server, body: &[u8]) -> Result<Response, ApiError> {
    let request: ChatRequest = request::parse(body)?;
    let served = generate::served(server, &request.model)?;
    let generation = prepare(served, &request)?;
    let running = generate::start(served, generation).await?;
    let show_ids = request.return_token_ids.unwrap_or(false);
    let envelope = Envelope {
        id: server.new_id("chatcmpl"),
        created: now(),
        model: server.name().to_owned(),
        tokenizer: Arc::clone(&served.model.tokenizer),
        show_ids,
        show_logprobs: request.logprobs.unwrap_or(false),
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

pub(crate) fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0)
}

fn prepare(served: &Served, request: &ChatRequest) -> Result<GenerateRequest, ApiError> {
    request::check_n(request.n)?;
    request::check_extra(&request.extra)?;
    let has_tools = request.tools.as_ref().is_some_and(|tools| match tools {
        serde_json::Value::Null => false,
        serde_json::Value::Array(tools) => !tools.is_empty(),
        _ => true,
    });
    if has_tools {
        return Err(unsupported("tools", "this engine does not call tools"));
    }
    let wants_logprobs = request.logprobs.unwrap_or(false);
    if request.top_logprobs.is_some_and(|top| top > 0) && !wants_logprobs {
        return Err(invalid("top_logprobs", "top_logprobs needs logprobs: true"));
    }
    let logprobs = wants_logprobs.then(|| request.top_logprobs.unwrap_or(0));
    let template = served.model.template.as_ref().ok_or_else(|| {
        let message = "the model has no chat template; /v1/completions continues plain text";
        ApiError::new(ErrorCode::Unsupported, message)
    })?;
    let text = prompt(template, request)?;
    let prompt = served
        .model
        .tokenizer
        .encode(&text, true)
        .map_err(|_| invalid("messages", "the messages cannot be tokenized"))?;
    request::generate(prompt, request.token_limit(), &request.sampling, logprobs)
}

fn prompt(template: &ChatTemplate, request: &ChatRequest) -> Result<String, ApiError> {
    if request.messages.is_empty() {
        return Err(invalid("messages", "there are no messages"));
    }
    let messages = request
        .messages
        .iter()
        .map(|message| {
            let content = match &message.content {
                Some(content) => content.flatten().map_err(|kind| {
                    unsupported(
                        "messages",
                        format!("parts of type {kind} are not supported"),
                    )
                })?,
                None => String::new(),
            };
            Ok(Message {
                role: message.role.clone(),
                content,
                extra: message.extra.0.clone(),
            })
        })
        .collect::<Result<Vec<_>, ApiError>>()?;
    template
        .render(&messages, None)
        .map_err(|error| invalid("messages", error.to_string()))
}

/// What is the same in all parts of an answer.
struct Envelope {
    id: String,
    created: u64,
    model: String,
    tokenizer: Arc<Tokenizer>,
    show_ids: bool,
    show_logprobs: bool,
}

impl Envelope {
    fn logprobs(&self, tokens: &[Token]) -> Option<ChatLogprobs> {
        self.show_logprobs.then(|| ChatLogprobs {
            content: tokens
                .iter()
                .filter_map(|token| token.logprobs.as_ref())
                .map(|logprobs| render::chat_logprob(&self.tokenizer, logprobs))
                .collect(),
        })
    }

    fn chunk(&self, choices: Vec<ChatChunkChoice>) -> ChatChunk {
        ChatChunk {
            id: self.id.clone(),
            object: "chat.completion.chunk".to_owned(),
            created: self.created,
            model: self.model.clone(),
            choices,
            usage: None,
            system_fingerprint: None,
            prompt_token_ids: None,
        }
    }
}

async fn whole(envelope: Envelope, running: Running) -> Result<Response, ApiError> {
    let queue = running.queue;
    let prompt = envelope.show_ids.then(|| running.prompt.clone());
    let whole = generate::collect(running).await?;
    let completion = ChatCompletion {
        choices: vec![ChatChoice {
            index: 0,
            logprobs: envelope.logprobs(&whole.tokens),
            message: ChatDelta {
                role: Some("assistant".to_owned()),
                content: Some(whole.text),
                tool_calls: None,
            },
            finish_reason: Some(whole.reason.as_str().to_owned()),
            token_ids: envelope
                .show_ids
                .then(|| whole.tokens.iter().map(|token| token.id).collect()),
        }],
        id: envelope.id,
        object: "chat.completion".to_owned(),
        created: envelope.created,
        model: envelope.model,
        usage: Some(whole.usage),
        system_fingerprint: None,
        prompt_token_ids: prompt,
    };
    Ok(stream::whole(&completion, queue))
}

fn choice(delta: ChatDelta) -> ChatChunkChoice {
    ChatChunkChoice {
        index: 0,
        delta,
        logprobs: None,
        finish_reason: None,
        token_ids: None,
    }
}

fn text_delta(text: String) -> ChatDelta {
    ChatDelta {
        content: Some(text),
        ..ChatDelta::default()
    }
}

impl Chunks for Envelope {
    type Chunk = ChatChunk;

    fn first(&mut self, prompt: &[u32]) -> Option<ChatChunk> {
        let mut chunk = self.chunk(vec![choice(ChatDelta {
            role: Some("assistant".to_owned()),
            content: Some(String::new()),
            tool_calls: None,
        })]);
        chunk.prompt_token_ids = self.show_ids.then(|| prompt.to_vec());
        Some(chunk)
    }

    fn token(&mut self, token: Token) -> ChatChunk {
        let logprobs = self.logprobs(std::slice::from_ref(&token));
        let ids = self.show_ids.then(|| vec![token.id]);
        self.chunk(vec![ChatChunkChoice {
            logprobs,
            token_ids: ids,
            ..choice(text_delta(token.text))
        }])
    }

    fn last(&mut self, text: String, reason: FinishReason) -> ChatChunk {
        let delta = if text.is_empty() {
            ChatDelta::default()
        } else {
            text_delta(text)
        };
        self.chunk(vec![ChatChunkChoice {
            finish_reason: Some(reason.as_str().to_owned()),
            ..choice(delta)
        }])
    }

    fn usage(&mut self) -> ChatChunk {
        self.chunk(Vec::new())
    }

    fn set_usage(chunk: &mut ChatChunk, usage: Usage) {
        chunk.usage = Some(usage);
    }

    fn shows_every_token(&self) -> bool {
        self.show_ids || self.show_logprobs
    }
}

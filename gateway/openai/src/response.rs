//! Answers: whole and streamed.

use crate::{redacted_debug, usage::Usage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A whole chat answer (`object: chat.completion`).
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatCompletion {
    /// `chatcmpl-…`.
    pub id: String,
    /// `chat.completion`.
    pub object: String,
    /// Unix seconds.
    pub created: u64,
    /// The model that answered.
    pub model: String,
    /// One for each of `n`.
    pub choices: Vec<ChatChoice>,
    /// Token counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What served it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_fingerprint: Option<String>,
    /// Token ids of the rendered prompt, with `return_token_ids`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_token_ids: Option<Vec<u32>>,
}

/// One answer of a whole chat completion.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatChoice {
    /// Which of `n`.
    pub index: u32,
    /// The answer.
    pub message: ChatDelta,
    /// Log probabilities, if asked for.
    #[serde(default)]
    pub logprobs: Option<ChatLogprobs>,
    /// stop, length, tool_calls, ….
    pub finish_reason: Option<String>,
    /// Token ids of the answer, with `return_token_ids`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_ids: Option<Vec<u32>>,
}

/// A message, or a piece of one.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatDelta {
    /// Sent with the first piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Function calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Value>,
}

/// A piece of a streamed chat answer (`object: chat.completion.chunk`).
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatChunk {
    /// The same in all pieces.
    pub id: String,
    /// `chat.completion.chunk`.
    pub object: String,
    /// Unix seconds; the same in all pieces.
    pub created: u64,
    /// The model that answers.
    pub model: String,
    /// Empty in the usage chunk.
    pub choices: Vec<ChatChunkChoice>,
    /// Token counts, in the last chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What serves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_fingerprint: Option<String>,
    /// Token ids of the rendered prompt, in the first chunk, with `return_token_ids`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_token_ids: Option<Vec<u32>>,
}

/// A piece of one of `n` answers.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatChunkChoice {
    /// Which of `n`.
    pub index: u32,
    /// What is new.
    pub delta: ChatDelta,
    /// Log probabilities of what is new, if asked for.
    #[serde(default)]
    pub logprobs: Option<ChatLogprobs>,
    /// Set in the answer's last piece.
    pub finish_reason: Option<String>,
    /// Token ids of what is new, with `return_token_ids`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_ids: Option<Vec<u32>>,
}

/// `logprobs` of chat.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatLogprobs {
    /// One for each token.
    pub content: Vec<TokenLogprob>,
}

/// A chosen token.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// Its text.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// Its bytes.
    #[serde(default)]
    pub bytes: Option<Vec<u8>>,
    /// The likeliest tokens at this position.
    #[serde(default)]
    pub top_logprobs: Vec<TopLogprob>,
}

/// A token that could have been chosen.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct TopLogprob {
    /// Its text.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// Its bytes.
    #[serde(default)]
    pub bytes: Option<Vec<u8>>,
}

/// A text completion, whole or a piece (`object: text_completion` in both).
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// `cmpl-…`.
    pub id: String,
    /// `text_completion`.
    pub object: String,
    /// Unix seconds.
    pub created: u64,
    /// The model that answered.
    pub model: String,
    /// One for each prompt and each of `n`; empty in the usage chunk.
    pub choices: Vec<CompletionChoice>,
    /// Token counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What served it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_fingerprint: Option<String>,
}

/// One answer of a completion, or a piece of it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct CompletionChoice {
    /// Which prompt and which of `n`.
    pub index: u32,
    /// Text.
    pub text: String,
    /// Log probabilities, if asked for.
    #[serde(default)]
    pub logprobs: Option<CompletionLogprobs>,
    /// Null until the last piece.
    pub finish_reason: Option<String>,
    /// Token ids of the answer, with `return_token_ids`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_ids: Option<Vec<u32>>,
    /// Token ids of the prompt, with `return_token_ids` (first piece of a stream).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_token_ids: Option<Vec<u32>>,
}

/// `logprobs` of completions.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CompletionLogprobs {
    /// Texts of the tokens.
    pub tokens: Vec<String>,
    /// Their log probabilities.
    pub token_logprobs: Vec<Option<f32>>,
    /// The likeliest tokens at each position, by text.
    pub top_logprobs: Vec<Option<serde_json::Map<String, Value>>>,
    /// Where each token begins in the text, in characters.
    pub text_offset: Vec<u32>,
}

/// Answer of `/v1/embeddings`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingList {
    /// `list`.
    pub object: String,
    /// One for each input.
    pub data: Vec<Embedding>,
    /// The model that answered.
    pub model: String,
    /// Token counts.
    pub usage: Usage,
}

/// One vector.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Embedding {
    /// `embedding`.
    pub object: String,
    /// Which input.
    pub index: u32,
    /// Numbers, or base64 of little-endian f32.
    pub embedding: Value,
}

/// Answer of `GET /v1/models`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelList {
    /// `list`.
    pub object: String,
    /// The models.
    pub data: Vec<Model>,
}

impl ModelList {
    /// A list of models.
    pub fn new(data: Vec<Model>) -> Self {
        Self {
            object: "list".into(),
            data,
        }
    }
}

/// Answer of `GET /v1/models/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// What clients put into `model`.
    pub id: String,
    /// `model`.
    pub object: String,
    /// Unix seconds.
    pub created: u64,
    /// Who serves it.
    pub owned_by: String,
    /// Longest prompt with answer, in tokens (vLLM's extension).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_model_len: Option<u64>,
}

impl Model {
    /// A model of Weir's.
    pub fn new(id: impl Into<String>, created: u64) -> Self {
        Self {
            id: id.into(),
            object: "model".into(),
            created,
            owned_by: "weir".into(),
            max_model_len: None,
        }
    }
}

redacted_debug!(
    ChatCompletion,
    ChatChoice,
    ChatDelta,
    ChatChunk,
    ChatChunkChoice,
    ChatLogprobs,
    TokenLogprob,
    TopLogprob,
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    EmbeddingList,
    Embedding
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_has_a_null_finish_reason_and_no_usage_until_the_end() {
        let chunk = ChatChunk {
            id: "chatcmpl-1".into(),
            object: "chat.completion.chunk".into(),
            created: 1,
            model: "m".into(),
            choices: vec![ChatChunkChoice {
                index: 0,
                delta: ChatDelta {
                    content: Some("a".into()),
                    ..ChatDelta::default()
                },
                logprobs: None,
                finish_reason: None,
                token_ids: Some(vec![7]),
            }],
            usage: None,
            system_fingerprint: None,
            prompt_token_ids: None,
        };
        assert_eq!(
            serde_json::to_string(&chunk).expect("encodes"),
            r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"a"},"logprobs":null,"finish_reason":null,"token_ids":[7]}]}"#
        );
    }
}

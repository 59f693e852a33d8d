//! Requests: chat, completions, embeddings.

use crate::redacted_debug;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Fields that these types do not name, kept as they came.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Extra(pub Map<String, Value>);

/// `stop`: one sequence or several.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Stop {
    /// One sequence.
    One(String),
    /// Several sequences.
    Many(Vec<String>),
}

impl Stop {
    /// The sequences as a list.
    pub fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(sequence) => vec![sequence],
            Self::Many(sequences) => sequences,
        }
    }
}

/// `stream_options`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamOptions {
    /// Send a last chunk with the usage and no choices.
    #[serde(default)]
    pub include_usage: Option<bool>,
    /// Send the usage so far with every chunk (vLLM's extension).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continuous_usage_stats: Option<bool>,
}

/// How tokens are chosen; shared by chat and completions.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 is greedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Nucleus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// The `k` likeliest; -1 or 0 is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<i64>,
    /// Least probability relative to the likeliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f32>,
    /// Penalty for tokens that occurred, by count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f32>,
    /// Penalty for tokens that occurred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f32>,
    /// Multiplicative penalty over prompt and answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f32>,
    /// Makes sampling repeatable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Sequences that end the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// Go on after the end token (vLLM's extension).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore_eos: Option<bool>,
    /// Least number of tokens to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_tokens: Option<u32>,
}

/// `POST /v1/chat/completions`.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatRequest {
    /// The served model's name.
    #[serde(default)]
    pub model: String,
    /// The conversation.
    pub messages: Vec<ChatMessage>,
    /// Most tokens to write (the older name).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Most tokens to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_completion_tokens: Option<u32>,
    /// Answers to give.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u32>,
    /// Answer piece by piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// How to stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_options: Option<StreamOptions>,
    /// Report the tokens' log probabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<bool>,
    /// Alternatives to report for each token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<u32>,
    /// Report token ids of prompt and answer (vLLM's extension).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_token_ids: Option<bool>,
    /// Functions that the model may call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Value>,
    /// Sampling fields.
    #[serde(flatten)]
    pub sampling: Sampling,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

impl ChatRequest {
    /// The bound on written tokens, by whichever name it came.
    pub fn token_limit(&self) -> Option<u32> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    /// Whether the answer is to be streamed.
    pub fn streams(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// Whether a stream ends with a usage chunk.
    pub fn wants_usage(&self) -> bool {
        wants_usage(self.stream_options.as_ref())
    }
}

/// One message of a conversation.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// system, user, assistant, tool, developer.
    pub role: String,
    /// What was said; absent where an assistant only called tools.
    #[serde(default)]
    pub content: Option<MessageContent>,
    /// `name`, `tool_calls`, `tool_call_id` and whatever a template knows.
    #[serde(flatten)]
    pub extra: Extra,
}

impl ChatMessage {
    /// A message of plain text.
    pub fn text(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: Some(MessageContent::Text(content.into())),
            extra: Extra::default(),
        }
    }
}

/// Text, or a list of parts.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MessageContent {
    /// Plain text.
    Text(String),
    /// Parts, of which some may not be text.
    Parts(Vec<ContentPart>),
}

impl MessageContent {
    /// The text of all parts, or the type of the first part that is not text.
    ///
    /// # Errors
    /// The type of a part that has no text.
    pub fn flatten(&self) -> Result<String, String> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::Parts(parts) => parts
                .iter()
                .map(|part| part.text.as_deref().ok_or(part.kind.clone()))
                .collect(),
        }
    }
}

/// One part of a message.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ContentPart {
    /// `text`, `image_url`, ….
    #[serde(rename = "type")]
    pub kind: String,
    /// The text of a text part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// `POST /v1/completions`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct CompletionRequest {
    /// The served model's name.
    #[serde(default)]
    pub model: String,
    /// What to continue.
    pub prompt: Prompt,
    /// Most tokens to write; OpenAI's default is 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Answers per prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u32>,
    /// Answer piece by piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// How to stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_options: Option<StreamOptions>,
    /// Alternatives to report for each token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<u32>,
    /// Put the prompt before the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<bool>,
    /// Report token ids of prompt and answer (vLLM's extension).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_token_ids: Option<bool>,
    /// Put the model's own special tokens before the prompt (vLLM's extension; default true).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_special_tokens: Option<bool>,
    /// Sampling fields.
    #[serde(flatten)]
    pub sampling: Sampling,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

impl CompletionRequest {
    /// Whether the answer is to be streamed.
    pub fn streams(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// Whether a stream ends with a usage chunk.
    pub fn wants_usage(&self) -> bool {
        wants_usage(self.stream_options.as_ref())
    }
}

/// Text or tokens, one or several.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Prompt {
    /// One text.
    Text(String),
    /// One list of token ids.
    Tokens(Vec<u32>),
    /// Several texts.
    Texts(Vec<String>),
    /// Several lists of token ids.
    TokenLists(Vec<Vec<u32>>),
}

/// `POST /v1/embeddings`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingRequest {
    /// The served model's name.
    #[serde(default)]
    pub model: String,
    /// What to embed.
    pub input: Prompt,
    /// `float` or `base64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding_format: Option<String>,
    /// Length of the vectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<u32>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

fn wants_usage(options: Option<&StreamOptions>) -> bool {
    options
        .and_then(|options| options.include_usage)
        .unwrap_or(false)
}

redacted_debug!(
    Extra,
    Stop,
    Sampling,
    ChatRequest,
    ChatMessage,
    MessageContent,
    ContentPart,
    CompletionRequest,
    Prompt,
    EmbeddingRequest
);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_fields_of_a_chat_request_survive() {
        let value = json!({
            "model": "m", "messages": [{"role": "user", "content": "hi", "name": "ann"}],
            "temperature": 0.0, "stop": ["a"], "some_new_field": {"a": [1, 2]}
        });
        let request: ChatRequest = serde_json::from_value(value.clone()).expect("decodes");
        assert_eq!(request.sampling.temperature, Some(0.0));
        assert!(request.extra.0.contains_key("some_new_field"));
        assert!(
            !request.extra.0.contains_key("temperature"),
            "a named field is not kept twice"
        );
        assert_eq!(serde_json::to_value(&request).expect("encodes"), value);
    }

    #[test]
    fn a_prompt_is_text_or_tokens_one_or_several() {
        let decode = |value| serde_json::from_value::<Prompt>(value).expect("decodes");
        assert_eq!(decode(json!("a")), Prompt::Text("a".into()));
        assert_eq!(
            decode(json!(["a", "b"])),
            Prompt::Texts(vec!["a".into(), "b".into()])
        );
        assert_eq!(decode(json!([1, 2])), Prompt::Tokens(vec![1, 2]));
        assert_eq!(
            decode(json!([[1], [2]])),
            Prompt::TokenLists(vec![vec![1], vec![2]])
        );
    }

    #[test]
    fn parts_of_text_are_joined_and_others_are_named() {
        let decode = |value| serde_json::from_value::<MessageContent>(value).expect("decodes");
        assert_eq!(
            decode(json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])).flatten(),
            Ok("ab".into())
        );
        assert_eq!(
            decode(json!([{"type": "image_url", "image_url": {}}])).flatten(),
            Err("image_url".into())
        );
    }

    #[test]
    fn debug_of_a_request_shows_no_payload() {
        let request = ChatRequest {
            messages: vec![ChatMessage::text("user", "canary-41")],
            ..ChatRequest::default()
        };
        assert!(!format!("{request:?}").contains("canary"));
        assert!(!format!("{:?}", request.messages).contains("canary"));
    }
}

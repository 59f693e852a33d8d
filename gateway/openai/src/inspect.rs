//! What a proxy must know of an answer that it passes on unchanged: usage, content, errors.

use crate::usage::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

/// What one event of a stream is to a proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChunkFacts {
    /// The event is an error object.
    pub error: bool,
    /// The event carries something that the client sees as an answer; from here on no other target may take over.
    pub content: bool,
    /// A choice ended with this event.
    pub finished: bool,
    /// Choices with a piece of text or a tool call; what is counted where no usage comes.
    pub pieces: u64,
    /// Usage that came with the event.
    pub usage: Option<Usage>,
    /// The event holds usage and no choices.
    pub usage_only: bool,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    x_groq: Option<Nested>,
}

#[derive(Deserialize)]
struct Nested {
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    finish_reason: Option<&'a RawValue>,
}

impl Choice<'_> {
    fn has_piece(&self) -> bool {
        self.text.is_some_and(|text| !is_blank(text.get()))
            || self.delta.is_some_and(|delta| delta_has_piece(delta.get()))
    }
}

/// Looks at one event's data. Data that is no JSON object counts as content: it is passed on, not judged.
pub fn chunk(data: &[u8]) -> ChunkFacts {
    let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else {
        return ChunkFacts {
            content: true,
            ..ChunkFacts::default()
        };
    };
    let usage = chunk.usage.or(chunk.x_groq.and_then(|nested| nested.usage));
    let error = chunk.error.is_some_and(|error| error.get() != "null");
    let choices = chunk.choices.as_deref().unwrap_or_default();
    let pieces = choices.iter().filter(|choice| choice.has_piece()).count() as u64;
    let finished = choices.iter().any(|choice| {
        choice
            .finish_reason
            .is_some_and(|reason| reason.get() != "null")
    });
    let usage_only = usage.is_some() && chunk.choices.as_ref().is_some_and(Vec::is_empty);
    let unknown_shape = chunk.choices.is_none() && !error && usage.is_none();
    ChunkFacts {
        error,
        content: pieces > 0 || finished || unknown_shape,
        finished,
        pieces,
        usage,
        usage_only,
    }
}

/// What a whole answer says of its usage.
pub fn body_usage(body: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        usage: Option<Usage>,
    }
    serde_json::from_slice::<Body>(body).ok()?.usage
}

fn is_blank(json: &str) -> bool {
    matches!(json, "null" | "\"\"" | "[]" | "{}")
}

fn delta_has_piece(delta: &str) -> bool {
    let Ok(fields) = serde_json::from_str::<std::collections::HashMap<&str, &RawValue>>(delta)
    else {
        return true;
    };
    fields
        .iter()
        .any(|(name, value)| *name != "role" && !is_blank(value.get()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::role_only(r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#, false, 0)]
    #[case::text(r#"{"choices":[{"index":0,"delta":{"content":"hi"}}]}"#, true, 1)]
    #[case::tool_call(
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0}]}}]}"#,
        true,
        1
    )]
    #[case::reasoning(
        r#"{"choices":[{"index":0,"delta":{"reasoning_content":"x"}}]}"#,
        true,
        1
    )]
    #[case::completion(r#"{"choices":[{"index":0,"text":"hi"}]}"#, true, 1)]
    #[case::finish(
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        true,
        0
    )]
    #[case::two_choices(r#"{"choices":[{"text":"a"},{"text":"b"}]}"#, true, 2)]
    #[case::not_json("hello", true, 0)]
    #[case::unknown_object(r#"{"type":"response.created"}"#, true, 0)]
    fn content_is_what_the_client_sees_as_an_answer(
        #[case] data: &str,
        #[case] content: bool,
        #[case] pieces: u64,
    ) {
        let facts = chunk(data.as_bytes());
        assert_eq!((facts.content, facts.pieces), (content, pieces));
        assert!(!facts.error && facts.usage.is_none());
    }

    #[test]
    fn an_error_event_is_an_error_and_no_content() {
        let facts = chunk(br#"{"error":{"message":"out of memory","code":500}}"#);
        assert!(facts.error && !facts.content);
    }

    #[rstest]
    #[case::last_chunk(r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":2}}}"#, true)]
    #[case::in_every_chunk(r#"{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":3,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":2}}}"#, false)]
    #[case::groq(r#"{"choices":[],"x_groq":{"usage":{"prompt_tokens":3,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":2}}}}"#, true)]
    fn usage_is_found_wherever_it_comes(#[case] data: &str, #[case] only: bool) {
        let facts = chunk(data.as_bytes());
        let usage = facts.usage.expect("usage");
        assert_eq!(
            (
                usage.prompt_tokens,
                usage.completion_tokens,
                usage.cached_tokens()
            ),
            (3, 4, 2)
        );
        assert_eq!(facts.usage_only, only);
    }

    #[test]
    fn usage_of_a_whole_answer_is_found() {
        assert_eq!(
            body_usage(br#"{"choices":[{"x":1}],"usage":{"prompt_tokens":1}}"#)
                .map(|u| u.prompt_tokens),
            Some(1)
        );
        assert_eq!(body_usage(br#"{"choices":[]}"#), None);
        assert_eq!(body_usage(b"<html>"), None);
    }
}

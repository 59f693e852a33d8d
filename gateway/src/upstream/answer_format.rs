//! How an answer is read: what its status, its events and its end say, in the format of the target that gives it.

use http::StatusCode;
use weir_openai::Usage;
use weir_openai::inspect::{self, ChunkFacts};
use weir_openai::sse::Event;

/// What a status says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// An answer to the client's request, be it a refusal.
    Answer,
    /// The target cannot serve now.
    CannotServe,
    /// The target refuses the gateway's key. What it says of it may quote the key.
    KeyRefused,
    /// Something that is no answer, such as a redirect.
    NoAnswer,
}

/// How the answers of a target are read. They are passed on as they came.
pub(crate) trait AnswerFormat: Send + Sync {
    /// What a status says.
    fn verdict(&self, status: StatusCode) -> Verdict;
    /// What an event of a stream brings.
    fn event(&self, event: &Event) -> ChunkFacts;
    /// What a whole document says of its usage.
    fn usage(&self, document: &[u8]) -> Option<Usage>;
    /// What the end of a document says of its usage.
    fn usage_in_tail(&self, tail: &[u8]) -> Option<Usage>;
}

/// OpenAI's answers, as engines of this cluster give them.
pub(crate) struct EngineAnswers;

impl AnswerFormat for EngineAnswers {
    fn verdict(&self, status: StatusCode) -> Verdict {
        // The client's key was taken already: this is about the gateway's own.
        openai_verdict(status, status == StatusCode::UNAUTHORIZED)
    }

    fn event(&self, event: &Event) -> ChunkFacts {
        openai_event(event)
    }

    fn usage(&self, document: &[u8]) -> Option<Usage> {
        inspect::body_usage(document)
    }

    fn usage_in_tail(&self, tail: &[u8]) -> Option<Usage> {
        openai_usage_in_tail(tail)
    }
}

/// The verdict on a status of an API like OpenAI's.
pub(crate) fn openai_verdict(status: StatusCode, refuses_key: bool) -> Verdict {
    match status.as_u16() {
        429 | 500..=599 => Verdict::CannotServe,
        _ if refuses_key => Verdict::KeyRefused,
        200..=299 | 400..=499 => Verdict::Answer,
        _ => Verdict::NoAnswer,
    }
}

/// What an event of OpenAI's brings. `[DONE]` is content: an answer without any is an answer once it is complete.
pub(crate) fn openai_event(event: &Event) -> ChunkFacts {
    if event.is_done() {
        return ChunkFacts {
            content: true,
            finished: true,
            ..ChunkFacts::default()
        };
    }
    let data = event.data.as_ref();
    data.map_or_else(ChunkFacts::default, |data| inspect::chunk(data))
}

/// The value of the last `"usage"` in the end of a document.
pub(crate) fn openai_usage_in_tail(tail: &[u8]) -> Option<Usage> {
    let at = memchr::memmem::rfind(tail, b"\"usage\"")?;
    let value = tail[at + b"\"usage\"".len()..]
        .trim_ascii_start()
        .strip_prefix(b":")?;
    serde_json::Deserializer::from_slice(value)
        .into_iter::<Usage>()
        .next()?
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(200, Verdict::Answer)]
    #[case(400, Verdict::Answer)]
    #[case(403, Verdict::Answer)]
    #[case(404, Verdict::Answer)]
    #[case(401, Verdict::KeyRefused)]
    #[case(429, Verdict::CannotServe)]
    #[case(500, Verdict::CannotServe)]
    #[case(503, Verdict::CannotServe)]
    #[case(307, Verdict::NoAnswer)]
    fn an_engine_refuses_the_gateways_key_by_401_alone(
        #[case] status: u16,
        #[case] expected: Verdict,
    ) {
        let status = StatusCode::from_u16(status).expect("a status");
        assert_eq!(EngineAnswers.verdict(status), expected);
    }

    #[test]
    fn the_last_usage_in_the_end_of_a_document_counts() {
        let tail = br#"text \"usage\": 1"}],"usage": {"prompt_tokens": 3},"usage" : {"prompt_tokens": 4}}"#;
        let usage = openai_usage_in_tail(tail).expect("usage");
        assert_eq!(usage.prompt_tokens, 4);
        assert_eq!(openai_usage_in_tail(br#""usage": "none""#), None);
        assert_eq!(openai_usage_in_tail(b"no such field"), None);
    }
}

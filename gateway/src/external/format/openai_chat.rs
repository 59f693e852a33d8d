//! OpenAI's chat completions, completions and embeddings. The gateway's clients speak the same format, so a request
//! keeps its bytes but for the model's name and for asking a stream for its usage.

use super::contract::Format;
use crate::external::api_key::ApiKey;
use crate::upstream::answer_format::{
    AnswerFormat, Verdict, openai_event, openai_usage_in_tail, openai_verdict,
};
use crate::upstream::call::{Call, Operation};
use bytes::Bytes;
use http::StatusCode;
use http::header::{AUTHORIZATION, HeaderMap};
use weir_openai::inspect::{self, ChunkFacts};
use weir_openai::sse::Event;
use weir_openai::{Usage, splice};

pub(super) struct OpenAiChat;

impl Format for OpenAiChat {
    fn authorize(&self, key: &ApiKey, headers: &mut HeaderMap) {
        headers.insert(AUTHORIZATION, key.with_prefix("Bearer "));
    }

    fn path(&self, operation: Operation, _: &str) -> String {
        operation.path().to_owned()
    }

    fn probe_path(&self) -> &'static str {
        "/models"
    }

    fn request_body(&self, call: &Call, model: &str) -> Bytes {
        let ask_usage = call.operation.streams();
        splice::rewrite(&call.body, &call.head, Some(model), ask_usage)
    }
}

impl AnswerFormat for OpenAiChat {
    fn verdict(&self, status: StatusCode) -> Verdict {
        let refuses_key = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        openai_verdict(status, refuses_key)
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

#[cfg(test)]
mod tests {
    use super::super::of;
    use super::*;
    use rstest::rstest;
    use weir_crds::provider::ProviderFormat;
    use weir_openai::sse::Decoder;

    fn format() -> &'static dyn Format {
        of(ProviderFormat::OpenAIChat)
    }

    fn call(operation: Operation, body: &'static str) -> Call {
        let body = Bytes::from_static(body.as_bytes());
        let head = splice::head(&body).expect("a request");
        Call {
            operation,
            body,
            head,
            headers: HeaderMap::new(),
        }
    }

    fn event(bytes: &[u8]) -> ChunkFacts {
        let mut decoder = Decoder::default();
        decoder.push(bytes);
        let event = decoder.next_event().expect("not too long");
        format().event(&event.expect("an event"))
    }

    #[test]
    fn the_key_is_a_bearer_token_that_no_log_shows() {
        let mut headers = HeaderMap::new();
        let key = ApiKey::new(b" sk-1\n").expect("a key");
        format().authorize(&key, &mut headers);
        let value = headers.get(AUTHORIZATION).expect("a header");
        assert_eq!(value, "Bearer sk-1");
        assert!(value.is_sensitive() && headers.len() == 1);
    }

    #[rstest]
    #[case(Operation::ChatCompletions, "/chat/completions")]
    #[case(Operation::Completions, "/completions")]
    #[case(Operation::Embeddings, "/embeddings")]
    fn an_operation_is_below_the_base_url(#[case] operation: Operation, #[case] path: &str) {
        assert_eq!(format().path(operation, "m"), path);
        assert_eq!(format().probe_path(), "/models");
    }

    #[test]
    fn a_request_gets_the_providers_model_and_a_stream_is_asked_for_its_usage() {
        let body = r#"{"model":"m","stream":true,"seed":12345678901234567890}"#;
        let chat = format().request_body(&call(Operation::ChatCompletions, body), "org/x");
        assert_eq!(
            chat,
            r#"{"stream_options":{"include_usage":true},"model":"org/x","stream":true,"seed":12345678901234567890}"#
        );
        let embedding = format().request_body(&call(Operation::Embeddings, body), "org/x");
        assert_eq!(
            embedding,
            r#"{"model":"org/x","stream":true,"seed":12345678901234567890}"#
        );
    }

    #[rstest]
    #[case(200, Verdict::Answer)]
    #[case(400, Verdict::Answer)]
    #[case(422, Verdict::Answer)]
    #[case(401, Verdict::KeyRefused)]
    #[case(403, Verdict::KeyRefused)]
    #[case(429, Verdict::CannotServe)]
    #[case(503, Verdict::CannotServe)]
    #[case(302, Verdict::NoAnswer)]
    #[case(101, Verdict::NoAnswer)]
    fn a_status_is_an_answer_a_failure_or_about_the_key(
        #[case] status: u16,
        #[case] expected: Verdict,
    ) {
        let status = StatusCode::from_u16(status).expect("a status");
        assert_eq!(format().verdict(status), expected);
    }

    #[test]
    fn events_are_read_for_content_errors_usage_and_the_end() {
        let text = event(b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n");
        assert!(text.content && !text.finished && text.pieces == 1);
        let error = event(b"data: {\"error\":{\"message\":\"x\"}}\n\n");
        assert!(error.error && !error.content);
        let usage = event(b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5}}\n\n");
        assert!(usage.usage_only);
        let done = event(b"data: [DONE]\n\n");
        assert!(done.content && done.finished && done.pieces == 0);
        assert_eq!(event(b": comment\n\n"), ChunkFacts::default());
    }

    #[test]
    fn the_usage_of_a_document_is_read_whole_or_at_its_end() {
        let document = br#"{"choices":[],"usage":{"prompt_tokens":3}}"#;
        for usage in [
            format().usage(document),
            format().usage_in_tail(&document[10..]),
        ] {
            assert_eq!(usage.map(|usage| usage.prompt_tokens), Some(3));
        }
    }
}

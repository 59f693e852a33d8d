//! An answer as server-sent events.

use crate::generate::{Next, Running, Token, lost};
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Json, Response};
use bytes::{Bytes, BytesMut};
use futures::stream;
use serde::Serialize;
use std::convert::Infallible;
use std::time::Duration;
use weir_engine::metrics::FinishReason;
use weir_openai::{Usage, sse};

/// Tells a gateway how long the request waited, so that it can send the next one elsewhere.
const QUEUE_HEADER: &str = "x-weir-queue-wait-ms";

/// Makes the chunks of one kind of answer.
pub(crate) trait Chunks: Send + 'static {
    type Chunk: Serialize;
    /// A chunk before the first token, if this kind has one.
    fn first(&mut self, prompt: &[u32]) -> Option<Self::Chunk>;
    /// The chunk of a token.
    fn token(&mut self, token: Token) -> Self::Chunk;
    /// The chunk that ends the choice, with text that was held back.
    fn last(&mut self, text: String, reason: FinishReason) -> Self::Chunk;
    /// The chunk that has the usage and no choices.
    fn usage(&mut self) -> Self::Chunk;
    /// Puts the usage into a chunk.
    fn set_usage(chunk: &mut Self::Chunk, usage: Usage);
    /// Whether a token that shows no text is worth a chunk.
    fn shows_every_token(&self) -> bool;
}

/// What the client wants to know of the usage.
#[derive(Clone, Copy, Default)]
pub(crate) struct UsageOptions {
    pub(crate) at_the_end: bool,
    pub(crate) in_every_chunk: bool,
}

struct Streaming<C> {
    running: Running,
    chunks: C,
    options: UsageOptions,
    begun: bool,
    ended: bool,
}

impl<C: Chunks> Streaming<C> {
    fn encode(&self, mut chunk: C::Chunk, with_usage: bool, out: &mut BytesMut) {
        if with_usage {
            C::set_usage(&mut chunk, self.running.usage());
        }
        // These types always serialize: no map has keys other than strings.
        if let Ok(bytes) = sse::encode(&chunk) {
            out.extend_from_slice(&bytes);
        }
    }

    /// The bytes that come next; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut out = BytesMut::new();
        let every = self.options.in_every_chunk;
        if !self.begun {
            self.begun = true;
            if let Some(chunk) = self.chunks.first(&self.running.prompt) {
                self.encode(chunk, every, &mut out);
            }
        }
        while out.is_empty() {
            match self.running.next().await {
                Next::Token(token) => {
                    if !token.text.is_empty() || self.chunks.shows_every_token() {
                        let chunk = self.chunks.token(token);
                        self.encode(chunk, every, &mut out);
                    }
                }
                Next::Finished { reason, text } => {
                    self.ended = true;
                    let chunk = self.chunks.last(text, reason);
                    self.encode(chunk, every, &mut out);
                    if self.options.at_the_end {
                        let chunk = self.chunks.usage();
                        self.encode(chunk, true, &mut out);
                    }
                    out.extend_from_slice(&sse::encode_done());
                }
                Next::Lost => {
                    self.ended = true;
                    out.extend_from_slice(b"data: ");
                    out.extend_from_slice(&lost().to_json());
                    out.extend_from_slice(b"\n\n");
                }
            }
        }
        Some(out.freeze())
    }
}

fn queue_header(response: &mut Response, queue: Duration) {
    let millis = HeaderValue::from(u64::try_from(queue.as_millis()).unwrap_or(u64::MAX));
    response.headers_mut().insert(QUEUE_HEADER, millis);
}

/// A streamed answer.
pub(crate) fn streamed<C: Chunks>(running: Running, chunks: C, options: UsageOptions) -> Response {
    let queue = running.queue;
    let state = Streaming {
        running,
        chunks,
        options,
        begun: false,
        ended: false,
    };
    let body = stream::unfold(state, |mut state| async move {
        let bytes = state.next().await?;
        Some((Ok::<Bytes, Infallible>(bytes), state))
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(sse::CONTENT_TYPE),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    queue_header(&mut response, queue);
    response
}

/// A whole answer.
pub(crate) fn whole<T: Serialize>(value: &T, queue: Duration) -> Response {
    let mut response = Json(value).into_response();
    queue_header(&mut response, queue);
    response
}

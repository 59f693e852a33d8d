//! The body of an answer: it polls the target's body when the client wants more, so that backpressure and
//! cancellation need no task of their own.

use crate::request::exchange::Exchange;
use crate::request::relay::Relay;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};
use weir_openai::{ApiError, ErrorCode};

/// A document broke off, and the client must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the target broke off its answer")]
pub(crate) struct Interrupted;

/// A body towards a client.
pub(crate) enum ProxyBody {
    /// Bytes that are all here.
    Whole(Option<Bytes>),
    /// An answer of a target's.
    Relayed(Box<Relayed>),
}

/// An answer of a target's, past its commit point.
pub(crate) struct Relayed {
    held: VecDeque<Bytes>,
    upstream: Option<Incoming>,
    relay: Relay,
    exchange: Exchange,
    idle: Duration,
    deadline: Pin<Box<Sleep>>,
}

impl ProxyBody {
    /// Bytes that are all here.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes))
    }

    /// What was held until the commit point, then what the target still sends; `None` when it has ended.
    pub(crate) fn relayed(
        held: VecDeque<Bytes>,
        upstream: Option<Incoming>,
        relay: Relay,
        exchange: Exchange,
        idle: Duration,
    ) -> Self {
        let deadline = Box::pin(tokio::time::sleep(idle));
        Self::Relayed(Box::new(Relayed {
            held,
            upstream,
            relay,
            exchange,
            idle,
            deadline,
        }))
    }
}

impl Body for ProxyBody {
    type Data = Bytes;
    type Error = Interrupted;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(
                bytes
                    .take()
                    .filter(|bytes| !bytes.is_empty())
                    .map(|bytes| Ok(Frame::data(bytes))),
            ),
            Self::Relayed(relayed) => relayed.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Relayed(relayed) => relayed.held.is_empty() && relayed.upstream.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Relayed(relayed) if relayed.upstream.is_none() => {
                SizeHint::with_exact(relayed.held.iter().map(|bytes| bytes.len() as u64).sum())
            }
            Self::Relayed(_) => SizeHint::default(),
        }
    }
}

impl Relayed {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        loop {
            if let Some(bytes) = self.held.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            let Some(upstream) = &mut self.upstream else {
                return Poll::Ready(None);
            };
            match Pin::new(upstream).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.deadline.as_mut().reset(Instant::now() + self.idle);
                    if let Ok(bytes) = frame.into_data() {
                        let (bytes, _) = self.relay.push(bytes);
                        self.hold(bytes);
                    }
                }
                Poll::Ready(Some(Err(_))) => return self.interrupted(ErrorCode::StreamInterrupted),
                Poll::Ready(None) => {
                    let (bytes, whole) = self.relay.end();
                    if !whole {
                        return self.interrupted(ErrorCode::StreamInterrupted);
                    }
                    self.hold(bytes);
                    self.upstream = None;
                    self.exchange
                        .record_completion(self.relay.usage(), self.relay.output());
                }
                Poll::Pending => match self.deadline.as_mut().poll(context) {
                    Poll::Ready(()) => return self.interrupted(ErrorCode::UpstreamTimeout),
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }

    fn hold(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.held.push_back(bytes);
        }
    }

    /// A stream ends with an error that its reader sees, and without `[DONE]`; a document is cut.
    fn interrupted(&mut self, code: ErrorCode) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        self.upstream = None;
        self.exchange
            .record_interruption(self.relay.usage(), self.relay.output());
        if matches!(self.relay, Relay::Whole(_)) {
            return Poll::Ready(Some(Err(Interrupted)));
        }
        let error = ApiError::new(code, "the target broke off the answer");
        match weir_openai::sse::encode(&error.to_response()) {
            Ok(event) => Poll::Ready(Some(Ok(Frame::data(event)))),
            Err(_) => Poll::Ready(Some(Err(Interrupted))),
        }
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        // Without effect when the answer has ended.
        self.exchange
            .record_cancellation(self.relay.usage(), self.relay.output());
    }
}

//! The commit point: what of an answer is read before it is certain, and the answer from there on.

use crate::request::body::ProxyBody;
use crate::request::exchange::Exchange;
use crate::request::failure::Failure;
use crate::request::relay::Relay;
use bytes::Bytes;
use http::header::HeaderMap;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Longest body of an answer that failed.
const MAX_FAILED: usize = 64 * 1024;

/// Status and headers of an answer, as the client gets them.
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
}

/// An answer from its commit point on: no other target may take over.
pub(crate) struct Committed {
    head: Head,
    held: VecDeque<Bytes>,
    upstream: Option<Incoming>,
    relay: Relay,
    pub(crate) ttft: Option<Duration>,
}

impl Committed {
    pub(crate) fn into_response(
        self,
        mut exchange: Exchange,
        idle: Duration,
    ) -> Response<ProxyBody> {
        exchange.record_answer(self.head.status.as_u16(), self.ttft);
        if self.upstream.is_none() {
            exchange.record_completion(self.relay.usage(), self.relay.output());
        }
        let mut response = Response::new(ProxyBody::relayed(
            self.held,
            self.upstream,
            self.relay,
            exchange,
            idle,
        ));
        *response.status_mut() = self.head.status;
        *response.headers_mut() = self.head.headers;
        response
    }
}

/// Reads until the answer is certain: content in a stream, the end of a document, or as much as may be held.
pub(crate) async fn commit(
    head: Head,
    mut relay: Relay,
    mut body: Incoming,
    deadline: Instant,
) -> Result<Committed, Failure> {
    let mut held = VecDeque::new();
    let mut length = 0;
    let mut open = true;
    loop {
        let frame = timeout_at(deadline, body.frame())
            .await
            .map_err(|_| Failure::Timeout)?;
        let Some(frame) = frame else {
            let (last, whole) = relay.end();
            if !whole {
                return Err(Failure::Broken);
            }
            hold(&mut held, last);
            open = false;
            break;
        };
        let Ok(bytes) = frame.map_err(|_| Failure::Broken)?.into_data() else {
            continue;
        };
        let (bytes, seen) = relay.push(bytes);
        length += bytes.len();
        if seen.error && !seen.content {
            return Err(Failure::Broken);
        }
        hold(&mut held, bytes);
        if seen.content || length > relay.max_held() {
            break;
        }
    }
    let upstream = open.then_some(body);
    Ok(Committed {
        head,
        held,
        upstream,
        relay,
        ttft: None,
    })
}

fn hold(held: &mut VecDeque<Bytes>, bytes: Bytes) {
    if !bytes.is_empty() {
        held.push_back(bytes);
    }
}

/// The whole body of an answer that failed, if it ends properly and is not long.
pub(crate) async fn collect(body: Incoming) -> Result<Bytes, Failure> {
    http_body_util::Limited::new(body, MAX_FAILED)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .map_err(|_| Failure::Broken)
}

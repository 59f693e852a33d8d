//! One try at one target, up to the point from which no other target may take over.

use crate::request::body::ProxyBody;
use crate::request::commit::{Committed, Head, collect, commit};
use crate::request::exchange::Exchange;
use crate::request::failure::{Failure, Payload, WholeAnswer};
use crate::request::headers::{QUEUE_WAIT, is_event_stream, towards_client};
use crate::request::relay::{EventRelay, Relay, WholeRelay};
use crate::request::send::{answer_format, send};
use crate::request::upstreams::Upstreams;
use crate::upstream::answer_format::Verdict;
use crate::upstream::call::Call;
use http::Response;
use http::header::HeaderMap;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Sends the request to the exchange's target and waits for the commit point.
///
/// # Errors
/// Why there is no answer to pass on; the exchange is then counted.
pub(crate) async fn attempt(
    upstreams: &Upstreams,
    mut exchange: Exchange,
    call: &Call,
) -> Result<Response<ProxyBody>, Failure> {
    match answer(upstreams, &mut exchange, call).await {
        Ok(committed) => Ok(committed.into_response(exchange, upstreams.timeouts.idle)),
        Err(failure) => {
            exchange.record_failure(failure.outcome(), failure.status());
            Err(failure)
        }
    }
}

async fn answer(
    upstreams: &Upstreams,
    exchange: &mut Exchange,
    call: &Call,
) -> Result<Committed, Failure> {
    let streams = call.head.stream && call.operation.streams();
    let limit = if streams {
        upstreams.timeouts.first_byte
    } else {
        upstreams.timeouts.response
    };
    let deadline = Instant::now() + limit;
    let response = match timeout_at(deadline, send(upstreams, exchange, call)).await {
        Err(_) => return Err(Failure::Timeout),
        Ok(sent) => sent?,
    };
    let (parts, body) = response.into_parts();
    hint(exchange, &parts.headers);
    let format = answer_format(exchange);
    let head = Head {
        status: parts.status,
        headers: towards_client(&parts.headers),
    };
    match format.verdict(parts.status) {
        Verdict::CannotServe => {
            let whole = timeout_at(deadline, collect(body))
                .await
                .map_err(|_| Failure::Timeout)??;
            Err(Failure::Answer(WholeAnswer {
                status: head.status,
                headers: head.headers,
                body: Payload(whole),
            }))
        }
        Verdict::KeyRefused => Err(Failure::Credentials),
        Verdict::Answer if parts.status.is_success() && is_event_stream(&parts.headers) => {
            let relay = Relay::Events(EventRelay::new(format, !call.head.wants_usage));
            let mut committed = commit(head, relay, body, deadline).await?;
            committed.ttft = Some(exchange.elapsed());
            Ok(committed)
        }
        Verdict::Answer => {
            let relay = Relay::Whole(WholeRelay::new(format));
            commit(head, relay, body, deadline).await
        }
        Verdict::NoAnswer => Err(Failure::Broken),
    }
}

fn hint(exchange: &Exchange, headers: &HeaderMap) {
    let wait = headers
        .get(QUEUE_WAIT)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_millis);
    if let Some(wait) = wait {
        exchange
            .target()
            .state
            .record_queue_wait(wait, std::time::Instant::now());
    }
}

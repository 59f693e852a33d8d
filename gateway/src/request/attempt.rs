//! One try at one target, up to the point from which no other target may take over.

#[cfg(feature = "cloud")]
use crate::external::cause::Cause;
use crate::request::body::ProxyBody;
use crate::request::exchange::Exchange;
use crate::request::failure::{Failure, Payload, WholeAnswer};
use crate::request::handle::Gateway;
use crate::request::headers::{ENGINE_KEY, QUEUE_WAIT, is_event_stream, towards_client};
use crate::request::relay::{EventRelay, Relay, WholeRelay};
use crate::request::route::Operation;
use crate::routing::engines::Engines;
use crate::routing::table::Target;
use crate::upstream::connect::full;
use crate::upstream::place::Location;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap};
use http::uri::{Authority, Scheme};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::Error as ClientError;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use weir_openai::splice::{self, RequestHead};

/// Bytes of a stream that are held at most while no content has come.
const HELD_EVENTS: usize = 64 * 1024;
/// Engines of one target that a request may be sent to when connecting fails.
const ENGINES_TRIED: usize = 2;
/// Bytes of a document that are held, so that a break in it can still be answered properly.
pub const HELD_WHOLE: usize = 256 * 1024;

/// A client's request, ready to be sent to any target. Its bytes are shared, not copied.
pub struct Call {
    /// The operation.
    pub operation: Operation,
    /// The body as it came.
    pub body: Bytes,
    /// What was read of it.
    pub head: RequestHead,
    /// The headers that targets see.
    pub headers: HeaderMap,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Call")
            .field("operation", &self.operation)
            .finish_non_exhaustive()
    }
}

/// Sends the request to the exchange's target and waits for the commit point.
///
/// # Errors
/// Why there is no answer to pass on; the exchange is then counted.
pub async fn attempt(
    gateway: &Gateway,
    mut exchange: Exchange,
    call: &Call,
) -> Result<Response<ProxyBody>, Failure> {
    match answer(gateway, &mut exchange, call).await {
        Ok(committed) => Ok(committed.into_response(exchange, gateway.limits.idle)),
        Err(failure) => {
            exchange.failed(failure.outcome(), failure.status());
            Err(failure)
        }
    }
}

struct Committed {
    status: StatusCode,
    headers: HeaderMap,
    held: VecDeque<Bytes>,
    upstream: Option<Incoming>,
    relay: Relay,
    ttft: Option<Duration>,
}

impl Committed {
    fn into_response(self, mut exchange: Exchange, idle: Duration) -> Response<ProxyBody> {
        exchange.answered(self.status.as_u16(), self.ttft);
        if self.upstream.is_none() {
            exchange.completed(self.relay.usage(), self.relay.output());
        }
        let mut response = Response::new(ProxyBody::relayed(
            self.held,
            self.upstream,
            self.relay,
            exchange,
            idle,
        ));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

async fn answer(
    gateway: &Gateway,
    exchange: &mut Exchange,
    call: &Call,
) -> Result<Committed, Failure> {
    let streams = call.head.stream && call.operation.streams();
    let limit = if streams {
        gateway.limits.first_byte
    } else {
        gateway.limits.response
    };
    let deadline = Instant::now() + limit;
    let response = match timeout_at(deadline, send(gateway, exchange, call)).await {
        Err(_) => return Err(Failure::Timeout),
        Ok(sent) => sent?,
    };
    let (parts, body) = response.into_parts();
    hint(exchange, &parts.headers);
    let location = exchange.target().target.location();
    let headers = towards_client(&parts.headers);
    match parts.status.as_u16() {
        429 | 500..=599 => {
            let whole = timeout_at(deadline, collect(body))
                .await
                .map_err(|_| Failure::Timeout)??;
            Err(Failure::Answer(WholeAnswer {
                status: parts.status,
                headers,
                body: Payload(whole),
            }))
        }
        // Its message may quote the key.
        401 | 403 if location == Location::External => Err(Failure::Credentials),
        // An engine that does not take the gateway's key; the client's was taken already.
        401 => Err(Failure::Credentials),
        200..=299 if is_event_stream(&parts.headers) => {
            let relay = Relay::Events(EventRelay::new(!call.head.wants_usage));
            let mut committed = commit(relay, body, deadline, HELD_EVENTS).await?;
            committed.ttft = Some(exchange.elapsed());
            Ok(Committed {
                status: parts.status,
                headers,
                ..committed
            })
        }
        200..=299 | 400..=499 => {
            let committed =
                commit(Relay::Whole(WholeRelay::new()), body, deadline, HELD_WHOLE).await?;
            Ok(Committed {
                status: parts.status,
                headers,
                ..committed
            })
        }
        _ => Err(Failure::Broken),
    }
}

/// Reads until the answer is certain: content in a stream, the end of a document, or as much as may be held.
async fn commit(
    mut relay: Relay,
    mut body: Incoming,
    deadline: Instant,
    bound: usize,
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
        if seen.content || length > bound {
            break;
        }
    }
    let upstream = open.then_some(body);
    Ok(Committed {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
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
async fn collect(body: Incoming) -> Result<Bytes, Failure> {
    http_body_util::Limited::new(body, HELD_EVENTS)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .map_err(|_| Failure::Broken)
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
            .hinted(wait, std::time::Instant::now());
    }
}

async fn send(
    gateway: &Gateway,
    exchange: &mut Exchange,
    call: &Call,
) -> Result<Response<Incoming>, Failure> {
    let workload = Arc::clone(exchange.workload());
    match &workload.targets[exchange.index()].target {
        Target::Local(engines) => send_to_engine(gateway, engines, exchange, call).await,
        #[cfg(feature = "cloud")]
        Target::External(permit) => {
            let provider = permit.provider();
            let body = splice::rewrite(
                &call.body,
                &call.head,
                Some(permit.model()),
                call.operation.streams(),
            );
            let path = format!("{}{}", provider.base_path, call.operation.path());
            let uri = uri(Scheme::HTTPS, &provider.authority, &path).ok_or(Failure::Broken)?;
            let mut request = request(uri, call, body);
            if let Some(key) = &provider.key {
                request.headers_mut().insert(AUTHORIZATION, key.header());
            }
            let sent = provider.client.request(request).await;
            sent.map_err(|error| {
                if error.is_connect() {
                    provider.blame(&Cause::of_connect(&error));
                }
                unsent(error)
            })
        }
    }
}

/// Where one engine cannot be connected to, another one of the same target is tried: nothing was sent yet.
async fn send_to_engine(
    gateway: &Gateway,
    engines: &Engines,
    exchange: &mut Exchange,
    call: &Call,
) -> Result<Response<Incoming>, Failure> {
    let body = splice::rewrite(&call.body, &call.head, None, call.operation.streams());
    let path = format!("/v1{}", call.operation.path());
    let mut tries = engines.all().len().min(ENGINES_TRIED);
    while let Some(engine) = engines.pick(std::time::Instant::now()) {
        let uri = uri(Scheme::HTTP, engine.authority(), &path).ok_or(Failure::Broken)?;
        exchange.occupies(engine.occupy());
        let mut request = request(uri, call, body.clone());
        if let Some(key) = gateway.hub.engine_keys.header(&exchange.workload().uid) {
            request.headers_mut().insert(ENGINE_KEY, key);
        }
        let failure = match gateway.local.request(request).await {
            Ok(response) => return Ok(response),
            Err(error) => unsent(error),
        };
        tries -= 1;
        if tries == 0 || !matches!(failure, Failure::Connect) {
            return Err(failure);
        }
        exchange.engine_failed(std::time::Instant::now());
    }
    Err(Failure::Connect)
}

fn unsent(error: ClientError) -> Failure {
    if error.is_connect() {
        Failure::Connect
    } else {
        Failure::Lost
    }
}

fn request(uri: Uri, call: &Call, body: Bytes) -> Request<crate::upstream::connect::UpstreamBody> {
    let mut request = Request::new(full(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    *request.headers_mut() = call.headers.clone();
    request.headers_mut().remove(AUTHORIZATION);
    request
}

/// `None` when the request cannot be put into words for this target.
fn uri(scheme: Scheme, authority: &Authority, path: &str) -> Option<Uri> {
    Uri::builder()
        .scheme(scheme)
        .authority(authority.clone())
        .path_and_query(path)
        .build()
        .ok()
}

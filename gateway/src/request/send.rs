//! Sends a request to its target: to one of the cluster's engines, or to a provider.

#[cfg(feature = "cloud")]
use crate::external::cause::Cause;
#[cfg(feature = "cloud")]
use crate::external::permit::ExternalPermit;
use crate::request::exchange::Exchange;
use crate::request::failure::Failure;
use crate::request::headers::ENGINE_KEY;
use crate::request::upstreams::Upstreams;
use crate::routing::engines::Engines;
use crate::routing::table::Target;
use crate::upstream::answer_format::{AnswerFormat, EngineAnswers};
use crate::upstream::call::Call;
use crate::upstream::connect::{UpstreamBody, full};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::uri::{Authority, Scheme};
use http::{Method, Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::Error as ClientError;
use std::sync::Arc;
use weir_openai::splice;

/// Engines of one target that a request may be sent to when connecting fails.
const MAX_ENGINES: usize = 2;

/// Sends the request to the exchange's target; the head of the answer.
///
/// # Errors
/// When there is no answer at all.
pub(crate) async fn send(
    upstreams: &Upstreams,
    exchange: &mut Exchange,
    call: &Call,
) -> Result<Response<Incoming>, Failure> {
    let workload = Arc::clone(exchange.workload());
    match &workload.targets[exchange.index()].target {
        Target::Local(engines) => send_to_engine(upstreams, engines, exchange, call).await,
        #[cfg(feature = "cloud")]
        Target::External(permit) => send_to_provider(permit, call).await,
    }
}

/// How the answers of the exchange's target are read.
pub(crate) fn answer_format(exchange: &Exchange) -> &'static dyn AnswerFormat {
    match &exchange.target().target {
        Target::Local(_) => &EngineAnswers,
        #[cfg(feature = "cloud")]
        Target::External(permit) => permit.provider().format,
    }
}

/// Where one engine cannot be connected to, another one of the same target is tried: nothing was sent yet.
async fn send_to_engine(
    upstreams: &Upstreams,
    engines: &Engines,
    exchange: &mut Exchange,
    call: &Call,
) -> Result<Response<Incoming>, Failure> {
    let body = splice::rewrite(&call.body, &call.head, None, call.operation.streams());
    let path = format!("/v1{}", call.operation.path());
    let mut tries = engines.all().len().min(MAX_ENGINES);
    while let Some(engine) = engines.pick(std::time::Instant::now()) {
        let uri = engine_uri(engine.authority(), &path).ok_or(Failure::Broken)?;
        exchange.occupies(engine.occupy());
        let mut request = request(uri, call, body.clone());
        if let Some(key) = upstreams.engine_keys.header(&exchange.workload().uid) {
            request.headers_mut().insert(ENGINE_KEY, key);
        }
        let failure = match upstreams.engines.request(request).await {
            Ok(response) => return Ok(response),
            Err(error) => unsent(error),
        };
        tries -= 1;
        if tries == 0 || !matches!(failure, Failure::Connect) {
            return Err(failure);
        }
        exchange.record_engine_failure(std::time::Instant::now());
    }
    Err(Failure::Connect)
}

/// As the format of the provider has it.
#[cfg(feature = "cloud")]
async fn send_to_provider(
    permit: &ExternalPermit,
    call: &Call,
) -> Result<Response<Incoming>, Failure> {
    let provider = permit.provider();
    let format = provider.format;
    let path = format.path(call.operation, permit.model());
    let uri = provider.uri(&path).ok_or(Failure::Broken)?;
    let mut request = request(uri, call, format.request_body(call, permit.model()));
    provider.authorize(request.headers_mut());
    let sent = provider.client.request(request).await;
    sent.map_err(|error| {
        if error.is_connect() {
            provider.record_cause(&Cause::of_connect(&error));
        }
        unsent(error)
    })
}

fn unsent(error: ClientError) -> Failure {
    if error.is_connect() {
        Failure::Connect
    } else {
        Failure::Lost
    }
}

fn request(uri: Uri, call: &Call, body: Bytes) -> Request<UpstreamBody> {
    let mut request = Request::new(full(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    *request.headers_mut() = call.headers.clone();
    request.headers_mut().remove(AUTHORIZATION);
    request
}

/// `None` when the address and the path make no URL.
fn engine_uri(authority: &Authority, path: &str) -> Option<Uri> {
    Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(authority.clone())
        .path_and_query(path)
        .build()
        .ok()
}

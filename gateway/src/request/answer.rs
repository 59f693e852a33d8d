//! Answers of the gateway's own: errors in OpenAI's shape, the list of models.

use crate::request::body::ProxyBody;
use crate::request::failure::WholeAnswer;
use crate::routing::table::Workload;
use crate::upstream::place::{Location, Reason};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use std::time::Duration;
use weir_openai::{ApiError, Model, ModelList};

const TARGET: HeaderName = HeaderName::from_static(weir_crds::names::HEADER_TARGET);
const LOCATION: HeaderName = HeaderName::from_static(weir_crds::names::HEADER_LOCATION);
const REASON: HeaderName = HeaderName::from_static(weir_crds::names::HEADER_REASON);
const DECISION: HeaderName = HeaderName::from_static(weir_crds::names::HEADER_DECISION);

/// What the headers of an answer say about its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Provenance<'a> {
    /// The workload.
    pub workload: &'a Workload,
    /// The target's name.
    pub target: &'a str,
    /// Where it is.
    pub(crate) location: Location,
    /// Why the request went there.
    pub reason: Reason,
}

impl Provenance<'_> {
    /// Puts the four headers on.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        let text =
            |value: &str| HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""));
        headers.insert(TARGET, text(self.target));
        headers.insert(LOCATION, HeaderValue::from_static(self.location.as_str()));
        headers.insert(REASON, HeaderValue::from_static(self.reason.as_str()));
        headers.insert(DECISION, text(&self.workload.decision_id));
    }
}

/// An error as an answer; `retry_after` counts for 429 and 503 only, where a second is the least.
pub(crate) fn error(error: &ApiError, retry_after: Option<Duration>) -> Response<ProxyBody> {
    let status =
        StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, error.to_json());
    if error.code.wants_retry_after() {
        response.headers_mut().insert(
            RETRY_AFTER,
            seconds(retry_after.unwrap_or(Duration::from_secs(1))),
        );
    }
    response
}

/// A target's answer that says that it cannot serve, as the client gets it.
pub(crate) fn passed_on(answer: WholeAnswer) -> Response<ProxyBody> {
    let mut response = Response::new(ProxyBody::whole(answer.body.0));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}

/// Whole seconds, rounded up, at least one.
pub(crate) fn seconds(duration: Duration) -> HeaderValue {
    HeaderValue::from(duration.as_millis().div_ceil(1000).clamp(1, 3600) as u64)
}

/// The models of a workload: the one that it serves.
pub(crate) fn models(workload: &Workload) -> Response<ProxyBody> {
    let list = ModelList::new(vec![model_of(workload)]);
    json(
        StatusCode::OK,
        serde_json::to_vec(&list).unwrap_or_default().into(),
    )
}

/// One model.
pub(crate) fn model(workload: &Workload) -> Response<ProxyBody> {
    json(
        StatusCode::OK,
        serde_json::to_vec(&model_of(workload))
            .unwrap_or_default()
            .into(),
    )
}

fn model_of(workload: &Workload) -> Model {
    Model::new(workload.model.clone(), workload.created)
}

fn json(status: StatusCode, body: Bytes) -> Response<ProxyBody> {
    let mut response = Response::new(ProxyBody::whole(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

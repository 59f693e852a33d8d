//! One client's request from its first byte to the answer's head.

use crate::config::Limits;
use crate::request::answer;
use crate::request::auth::authenticate;
use crate::request::body::ProxyBody;
use crate::request::dispatch::Dispatcher;
use crate::request::headers::towards_target;
use crate::request::receive::{BodyReader, call, unknown_model};
use crate::request::route::{Endpoint, not_found, route};
use crate::request::upstreams::Upstreams;
use crate::routing::shared_state::SharedState;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, Version};
use hyper::body::Incoming;
use std::sync::Arc;
use weir_openai::{ApiError, ErrorCode};

/// Everything that requests share.
pub struct Gateway {
    /// The table and the news.
    pub shared: Arc<SharedState>,
    bodies: BodyReader,
    upstreams: Upstreams,
}

impl Gateway {
    /// A gateway that serves the table in force.
    pub fn new(shared: Arc<SharedState>, limits: Limits) -> Self {
        Self {
            bodies: BodyReader::new(&limits),
            upstreams: Upstreams::new(Arc::clone(&shared.engine_keys), &limits),
            shared,
        }
    }

    /// Answers one request. Dropping the future cancels everything that it started.
    pub(crate) async fn handle(&self, request: Request<Incoming>) -> Response<ProxyBody> {
        let http1 = request.version() < Version::HTTP_2;
        let mut response = match self.answer(request).await {
            Ok(response) => response,
            Err(refusal) => {
                self.shared.record_refusal(refusal.code.as_str());
                answer::error(&refusal, None)
            }
        };
        if http1 && self.shared.is_draining() {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<ProxyBody>, ApiError> {
        if !self.shared.is_synced() {
            return Err(ApiError::new(
                ErrorCode::NotReady,
                "the gateway has not read the workloads yet",
            ));
        }
        let table = self.shared.table();
        let path = request.uri().path().to_owned();
        let route = route(request.method(), &path)?;
        let workload = authenticate(&table, request.headers())?;
        if route.uid.is_some_and(|uid| *uid != *workload.uid) {
            return Err(not_found());
        }
        match route.endpoint {
            Endpoint::Models => Ok(answer::models(&workload)),
            Endpoint::Model(id) if id == workload.model => Ok(answer::model(&workload)),
            Endpoint::Model(_) => Err(unknown_model()),
            Endpoint::Call(operation) => {
                let headers = towards_target(request.headers());
                let (body, _buffer) = self.bodies.read(request).await?;
                // A slow body must not bring an old table back after a newer one was acknowledged.
                let table = self.shared.table();
                let workload = table.by_uid(&workload.uid).ok_or_else(revoked)?;
                let call = call(workload, operation, body, headers)?;
                let dispatcher = Dispatcher {
                    shared: &self.shared,
                    upstreams: &self.upstreams,
                };
                Ok(dispatcher.dispatch(workload, &call).await)
            }
        }
    }
}

fn revoked() -> ApiError {
    ApiError::new(ErrorCode::InvalidApiKey, "the key's workload was deleted")
}

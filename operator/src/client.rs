//! How the operator talks to the API server: with timeouts, few retries, a limited rate, and writes only while it leads.

mod budget;
mod rate;
mod retry;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use kube::{Client, Config};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tower::{BoxError, Service};

use crate::leader::Gate;
use crate::metrics::Metrics;
pub use budget::Budget;
use rate::Answer;
use retry::{Outcome, Verb};

/// Bound on every call but a watch, the body of the answer included. Writes have a shorter one where leadership needs it.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Bound on the head of a watch's answer; its body is bounded by the watch's own timeout.
const WATCH_HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Calls other than watches at the same time.
const IN_FLIGHT: usize = 64;
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// Why a request was not sent, or has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// This replica does not lead, or could not renew in time.
    #[error("not leading: {0} refused")]
    NotLeading(&'static str),
    /// No answer in time.
    #[error("no answer from the API server within {0:?}")]
    Timeout(Duration),
    /// The connection failed, or the answer broke off.
    #[error("request to the API server failed")]
    Transport(#[source] BoxError),
}

/// A configuration whose client neither retries by itself nor waits for a connection for ever.
pub fn prepared(mut config: Config) -> Config {
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = None;
    config
}

/// A client for controllers: retries by our policy, and writes only while `gate` is open, as `budget` allows, none of
/// them for longer than `write_timeout`.
pub fn guarded(
    inner: Client,
    gate: Gate,
    (budget, write_timeout): (Budget, Duration),
    metrics: Arc<Metrics>,
) -> Client {
    let namespace = inner.default_namespace().to_owned();
    let limits = Arc::new(Limits {
        in_flight: Semaphore::new(IN_FLIGHT),
        budget,
    });
    let service = Guarded {
        inner,
        gate: Some(gate),
        limits: Some(limits),
        retries: true,
        write_timeout: write_timeout.min(CALL_TIMEOUT),
        metrics,
    };
    Client::new(service, namespace)
}

/// A client for leader election: every call has a timeout; no gate, no retry, no waiting behind other calls.
pub fn for_election(inner: Client, metrics: Arc<Metrics>) -> Client {
    let namespace = inner.default_namespace().to_owned();
    let service = Guarded {
        inner,
        gate: None,
        limits: None,
        retries: false,
        write_timeout: CALL_TIMEOUT,
        metrics,
    };
    Client::new(service, namespace)
}

#[derive(Clone)]
struct Guarded {
    inner: Client,
    gate: Option<Gate>,
    limits: Option<Arc<Limits>>,
    retries: bool,
    write_timeout: Duration,
    metrics: Arc<Metrics>,
}

struct Limits {
    in_flight: Semaphore,
    budget: Budget,
}

impl Service<Request<Body>> for Guarded {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.send(request).await?) })
    }
}

impl Guarded {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, CallError> {
        let verb = Verb::of(&request);
        if verb == Verb::Watch {
            return self.watch(request).await;
        }
        let (parts, body) = request.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|error| CallError::Transport(error.into()))?
            .to_bytes();
        let began = Instant::now();
        let mut attempt = 0;
        loop {
            let mut request = Request::new(Body::from(body.clone()));
            *request.method_mut() = parts.method.clone();
            *request.uri_mut() = parts.uri.clone();
            *request.headers_mut() = parts.headers.clone();
            *request.extensions_mut() = parts.extensions.clone();
            let result = self.attempt(verb, request).await;
            let pause = Outcome::of(&result)
                .filter(|_| self.retries)
                .and_then(|outcome| {
                    retry::pause(verb, outcome, attempt, began.elapsed(), rand::random())
                });
            let Some(pause) = pause else {
                return result;
            };
            self.metrics
                .api_retries
                .with_label_values(&[verb.as_str()])
                .inc();
            attempt += 1;
            sleep(pause).await;
        }
    }

    /// One try: waits for its turn, looks at the gate last, reads the whole answer.
    async fn attempt(
        &self,
        verb: Verb,
        request: Request<Body>,
    ) -> Result<Response<Body>, CallError> {
        let _slot = match &self.limits {
            Some(limits) => {
                self.check_gate(verb)?;
                if verb.mutates() {
                    let waited = limits.budget.take(namespace_of(&request)).await;
                    self.metrics.write_wait_seconds.inc_by(waited.as_secs_f64());
                }
                limits.in_flight.acquire().await.ok()
            }
            None => None,
        };
        self.check_gate(verb)?;
        let call = async {
            let answer = self.inner.send(request).await.map_err(transport)?;
            let (parts, body) = answer.into_parts();
            let bytes = Limited::new(body, MAX_ANSWER_BYTES)
                .collect()
                .await
                .map_err(CallError::Transport)?
                .to_bytes();
            Ok(Response::from_parts(parts, Body::from(bytes)))
        };
        let bound = match verb.mutates() {
            true => self.write_timeout,
            false => CALL_TIMEOUT,
        };
        let began = Instant::now();
        let result = timeout(bound, call)
            .await
            .unwrap_or(Err(CallError::Timeout(bound)));
        if let Some(limits) = &self.limits {
            self.learn(limits, verb, &result, began.elapsed());
        }
        self.count(verb, &result);
        result
    }

    /// Tells the budget what the answer says of the server. Reads take their time where they list much.
    fn learn(
        &self,
        limits: &Limits,
        verb: Verb,
        result: &Result<Response<Body>, CallError>,
        took: Duration,
    ) {
        let outcome = Outcome::of(result);
        if let Some(asked) = outcome.and_then(Outcome::overload) {
            limits.budget.answered(Answer::Overloaded(asked));
        } else if verb.mutates() && outcome != Some(Outcome::Transport) {
            limits.budget.answered(Answer::Given(took));
        }
    }

    async fn watch(&self, request: Request<Body>) -> Result<Response<Body>, CallError> {
        let call = self.inner.send(request);
        let result = match timeout(WATCH_HEAD_TIMEOUT, call).await {
            Ok(answer) => answer.map_err(transport),
            Err(_) => Err(CallError::Timeout(WATCH_HEAD_TIMEOUT)),
        };
        self.count(Verb::Watch, &result);
        result
    }

    fn check_gate(&self, verb: Verb) -> Result<(), CallError> {
        let closed = self.gate.as_ref().is_some_and(|gate| !gate.is_open());
        if closed && verb.mutates() {
            self.metrics
                .writes_refused
                .with_label_values(&[verb.as_str()])
                .inc();
            return Err(CallError::NotLeading(verb.as_str()));
        }
        Ok(())
    }

    fn count(&self, verb: Verb, result: &Result<Response<Body>, CallError>) {
        match result {
            Ok(answer) => self
                .metrics
                .api_request(verb.as_str(), answer.status().as_str()),
            Err(_) => self.metrics.api_request(verb.as_str(), "error"),
        }
    }
}

/// The namespace that a request is about; empty for what has none.
fn namespace_of(request: &Request<Body>) -> &str {
    let mut parts = request.uri().path().split('/');
    parts.find(|part| *part == "namespaces");
    parts.next().unwrap_or_default()
}

fn transport(error: kube::Error) -> CallError {
    CallError::Transport(error.into())
}

/// Whether an error means that this replica may not write any more.
pub fn is_not_leading(error: &kube::Error) -> bool {
    let kube::Error::Service(source) = error else {
        return false;
    };
    matches!(
        source.downcast_ref::<CallError>(),
        Some(CallError::NotLeading(_))
    )
}

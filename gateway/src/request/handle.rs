//! One client's request from its first byte to the answer's head.

use crate::clock::unix_minute;
use crate::config::Limits;
use crate::request::answer::{self, Provenance};
use crate::request::attempt::{Call, attempt};
use crate::request::auth::authenticate;
use crate::request::body::ProxyBody;
use crate::request::exchange::Exchange;
use crate::request::failure::{Failure, may_leave};
use crate::request::headers::towards_target;
use crate::request::route::{Asked, Operation, not_found, route};
use crate::routing::choose::{Choice, Standing, choose};
use crate::routing::closed::Closed;
use crate::routing::shared::{Hub, WakeUp};
use crate::routing::table::{RouteTarget, Target, Workload};
use crate::upstream::connect::{LocalClient, local_client};
use crate::upstream::place::{Location, Reason};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue, RETRY_AFTER};
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use weir_openai::splice;
use weir_openai::{ApiError, ErrorCode};

/// Targets that one request may be sent to.
const MAX_ATTEMPTS: usize = 3;
/// One unit of the bound on buffered bytes.
const BUFFER_UNIT: usize = 1024;

/// Everything that requests share.
pub struct Gateway {
    /// The table and the news.
    pub hub: Arc<Hub>,
    /// Bounds.
    pub limits: Limits,
    /// The client towards this cluster's targets.
    pub local: LocalClient,
    buffers: Semaphore,
}

impl Gateway {
    /// A gateway that serves the hub's table.
    pub fn new(hub: Arc<Hub>, limits: Limits) -> Self {
        let units = (limits.max_buffered / BUFFER_UNIT).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            hub,
            local: local_client(limits.connect_local),
            buffers: Semaphore::new(units),
            limits,
        }
    }

    /// Answers one request. Dropping the future cancels everything that it started.
    pub async fn handle(&self, request: Request<Incoming>) -> Response<ProxyBody> {
        let http1 = request.version() < Version::HTTP_2;
        let mut response = match self.answer(request).await {
            Ok(response) => response,
            Err(refusal) => {
                self.hub.refused(refusal.code.as_str());
                answer::error(&refusal, None)
            }
        };
        if http1 && self.hub.is_draining() {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<ProxyBody>, ApiError> {
        if !self.hub.is_synced() {
            return Err(ApiError::new(
                ErrorCode::NotReady,
                "the gateway has not read the workloads yet",
            ));
        }
        let table = self.hub.table();
        let path = request.uri().path().to_owned();
        let route = route(request.method(), &path)?;
        let workload = authenticate(&table, request.headers())?;
        if route.uid.is_some_and(|uid| *uid != *workload.uid) {
            return Err(not_found());
        }
        match route.asked {
            Asked::Models => Ok(answer::models(&workload)),
            Asked::Model(id) if id == workload.model => Ok(answer::model(&workload)),
            Asked::Model(_) => Err(unknown_model()),
            Asked::Call(operation) => {
                let headers = towards_target(request.headers());
                let (body, _buffer) = self.read(request).await?;
                // A slow body must not bring an old table back after a newer one was acknowledged.
                let table = self.hub.table();
                let workload = table.by_uid(&workload.uid).ok_or_else(revoked)?;
                let call = self.check(workload, operation, body, headers)?;
                Ok(self.serve(workload, &call).await)
            }
        }
    }

    /// Reads a request's body within the bounds of one request and of all together.
    async fn read(
        &self,
        request: Request<Incoming>,
    ) -> Result<(Bytes, SemaphorePermit<'_>), ApiError> {
        let max = self.limits.max_body;
        let too_large = || {
            ApiError::new(
                ErrorCode::RequestTooLarge,
                format!("the body is over {max} bytes"),
            )
        };
        let declared = request
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if declared.is_some_and(|length| length > max) {
            return Err(too_large());
        }
        let units =
            u32::try_from(declared.unwrap_or(max).div_ceil(BUFFER_UNIT)).unwrap_or(u32::MAX);
        let buffer = self.buffers.try_acquire_many(units).map_err(|_| {
            ApiError::new(
                ErrorCode::Overloaded,
                "too many request bodies are being read",
            )
        })?;
        let reading = Limited::new(request.into_body(), max).collect();
        let collected = timeout(self.limits.body, reading)
            .await
            .map_err(|_| ApiError::new(ErrorCode::RequestTimeout, "the body took too long"))?;
        match collected {
            Ok(collected) => Ok((collected.to_bytes(), buffer)),
            Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
            Err(_) => Err(ApiError::new(
                ErrorCode::InvalidJson,
                "the body could not be read",
            )),
        }
    }

    fn check(
        &self,
        workload: &Workload,
        operation: Operation,
        body: Bytes,
        headers: http::HeaderMap,
    ) -> Result<Call, ApiError> {
        let head = splice::head(&body)
            .map_err(|error| ApiError::new(ErrorCode::InvalidJson, error.to_string()))?;
        match head.model.as_deref() {
            None | Some("") => Err(ApiError::new(
                ErrorCode::MissingParameter,
                "name the model in `model`",
            )
            .with_param("model")),
            Some(model) if model != workload.model => Err(unknown_model()),
            Some(_) => Ok(Call {
                operation,
                body,
                head,
                headers,
            }),
        }
    }

    /// Chooses, tries, and tries elsewhere where that is allowed.
    async fn serve(&self, workload: &Arc<Workload>, call: &Call) -> Response<ProxyBody> {
        workload.state.asked(unix_minute());
        let now = Instant::now();
        let standings: Vec<Standing> = workload
            .targets
            .iter()
            .map(|target| standing(target, now))
            .collect();
        let primary = workload
            .state
            .pick(workload.targets.iter().map(|target| target.weight));
        let choice = choose(&standings, primary, &workload.traffic.spill);
        let wanted = primary.map(|index| &workload.targets[index]);
        if let Some(target) = wanted.filter(|target| target.target.location() == Location::Local)
            && is_cold(&choice)
        {
            self.wake(workload, target);
        }
        match choice {
            Choice::Try(order) => self.try_in_order(workload, call, order).await,
            Choice::Starting => {
                let response = answer::error(&starting(), Some(Duration::from_secs(2)));
                with_provenance(response, workload, wanted, Reason::ColdStart)
            }
            Choice::Nothing(until) => {
                let wait = until.map(|until| until.saturating_duration_since(now));
                let response = answer::error(&nothing(workload), wait);
                with_provenance(response, workload, wanted, Reason::Placement)
            }
        }
    }

    async fn try_in_order(
        &self,
        workload: &Arc<Workload>,
        call: &Call,
        order: Vec<(usize, Reason)>,
    ) -> Response<ProxyBody> {
        let policy = &workload.traffic;
        let mut order = order.into_iter().take(MAX_ATTEMPTS).peekable();
        let mut starting_up = false;
        let mut sent_again = false;
        let Some(mut current) = order.next() else {
            return answer::error(&nothing(workload), None);
        };
        loop {
            let (index, reason) = current;
            let target = &workload.targets[index];
            let location = target.target.location();
            let exchange = Exchange::begin(workload, index, reason, call.body.len());
            let failure = match attempt(self, exchange, call).await {
                Ok(response) => return with_provenance(response, workload, Some(target), reason),
                Err(failure) => failure,
            };
            tracing::debug!(
                namespace = %workload.namespace, workload = %workload.name, target = %target.name,
                failure = failure.outcome().as_str(), "target failed before its first byte"
            );
            let untried = location == Location::Local && !target.state.has_answered();
            if untried && matches!(failure, Failure::Connect) {
                starting_up = true;
                self.wake(workload, target);
            }
            // A kept connection can turn out dead; the cluster's own engine bills nothing for a second try.
            if location == Location::Local && matches!(failure, Failure::Lost) && !sent_again {
                sent_again = true;
                continue;
            }
            let waits = starting_up && !policy.spill.bridges_cold_start;
            let next = order
                .peek()
                .copied()
                .filter(|_| !waits && may_leave(location, &failure, &policy.failover));
            let Some((next, _)) = next else {
                let response = last_word(failure, location, (workload, starting_up));
                return with_provenance(response, workload, Some(target), reason);
            };
            order.next();
            let bridging =
                starting_up && workload.targets[next].target.location() == Location::External;
            current = (
                next,
                if bridging {
                    Reason::ColdStart
                } else {
                    Reason::Failover
                },
            );
        }
    }

    fn wake(&self, workload: &Workload, target: &RouteTarget) {
        if workload.state.may_wake(Instant::now()) {
            self.hub.wake(WakeUp {
                uid: Arc::clone(&workload.uid),
                target: Arc::clone(&target.name),
            });
        }
    }
}

fn standing(target: &RouteTarget, now: Instant) -> Standing {
    let standing = target
        .state
        .standing(target.target.location(), target.asleep, now);
    match &target.target {
        Target::Local(_) => standing,
        #[cfg(feature = "cloud")]
        Target::External(permit) => Standing {
            ejected: standing
                .ejected
                .max(permit.provider().health.open_until(now)),
            ..standing
        },
    }
}

fn is_cold(choice: &Choice) -> bool {
    match choice {
        Choice::Starting => true,
        Choice::Try(order) => order
            .first()
            .is_some_and(|(_, reason)| *reason == Reason::ColdStart),
        Choice::Nothing(_) => false,
    }
}

fn with_provenance(
    mut response: Response<ProxyBody>,
    workload: &Workload,
    target: Option<&RouteTarget>,
    reason: Reason,
) -> Response<ProxyBody> {
    if let Some(target) = target {
        let provenance = Provenance {
            workload,
            target: &target.name,
            location: target.target.location(),
            reason,
        };
        provenance.apply(response.headers_mut());
    }
    response
}

/// The answer when no other target may be tried.
fn last_word(
    failure: Failure,
    location: Location,
    (workload, starting_up): (&Workload, bool),
) -> Response<ProxyBody> {
    let error = match (failure, location) {
        (Failure::Answer(answer), _) => {
            let limited = matches!(
                answer.status,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
            );
            let mut response = answer.into_response();
            if limited && !response.headers().contains_key(RETRY_AFTER) {
                response
                    .headers_mut()
                    .insert(RETRY_AFTER, answer::seconds(Duration::from_secs(1)));
            }
            return response;
        }
        (Failure::Connect, _) if starting_up => starting(),
        (Failure::Connect, _) | (Failure::Lost, Location::Local) => nothing(workload),
        (Failure::Timeout, _) => ApiError::new(
            ErrorCode::UpstreamTimeout,
            "the target did not answer in time",
        ),
        (Failure::Credentials, Location::External) => ApiError::new(
            ErrorCode::UpstreamError,
            "the provider refused the gateway's key",
        ),
        (Failure::Credentials, Location::Local) => ApiError::new(
            ErrorCode::UpstreamError,
            "the engine did not take the gateway's key",
        ),
        (Failure::Lost | Failure::Broken, _) => {
            ApiError::new(ErrorCode::UpstreamError, "the target gave no proper answer")
        }
    };
    answer::error(&error, None)
}

fn unknown_model() -> ApiError {
    ApiError::new(
        ErrorCode::ModelNotFound,
        "this key's workload does not serve that model; see /v1/models",
    )
    .with_param("model")
}

fn revoked() -> ApiError {
    ApiError::new(ErrorCode::InvalidApiKey, "the key's workload was deleted")
}

fn nothing(workload: &Workload) -> ApiError {
    let message = "no target of this workload can take the request now";
    let message = match workload.closed {
        Some(closed) if closed != Closed::NotServed => {
            format!("{message}; a target is closed because {closed}")
        }
        _ => message.to_owned(),
    };
    ApiError::new(ErrorCode::NoTarget, message)
}

fn starting() -> ApiError {
    ApiError::new(ErrorCode::ColdStart, "the workload's target is starting")
}

//! Dispatches one request: chooses a target, tries it, and tries elsewhere where that is allowed.

use crate::clock::unix_minute;
use crate::request::answer::{self, Provenance};
use crate::request::attempt::attempt;
use crate::request::body::ProxyBody;
use crate::request::exchange::Exchange;
use crate::request::failure::{Failure, may_leave};
use crate::request::upstreams::Upstreams;
use crate::routing::choose::{Choice, Standing, choose};
use crate::routing::closed::Closed;
use crate::routing::shared_state::{SharedState, WakeUp};
use crate::routing::table::{RouteTarget, Target, Workload};
use crate::upstream::call::Call;
use crate::upstream::place::{Location, Reason};
use http::header::RETRY_AFTER;
use http::{Response, StatusCode};
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir_openai::{ApiError, ErrorCode};

/// Targets that one request may be sent to.
const MAX_ATTEMPTS: usize = 3;

/// What dispatching needs of the gateway.
pub(crate) struct Dispatcher<'a> {
    /// Where wake-ups go.
    pub(crate) shared: &'a SharedState,
    /// The ways to targets.
    pub(crate) upstreams: &'a Upstreams,
}

impl Dispatcher<'_> {
    /// The answer to one request.
    pub(crate) async fn dispatch(
        &self,
        workload: &Arc<Workload>,
        call: &Call,
    ) -> Response<ProxyBody> {
        workload.state.record_request(unix_minute());
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
                let response = answer::error(&no_target(workload), wait);
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
            return answer::error(&no_target(workload), None);
        };
        loop {
            let (index, reason) = current;
            let target = &workload.targets[index];
            let location = target.target.location();
            let exchange = Exchange::begin(workload, index, reason, call.body.len());
            let failure = match attempt(self.upstreams, exchange, call).await {
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
                let response = final_answer(failure, location, (workload, starting_up));
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
            self.shared.wake(WakeUp {
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
fn final_answer(
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
            let mut response = answer::passed_on(answer);
            if limited && !response.headers().contains_key(RETRY_AFTER) {
                response
                    .headers_mut()
                    .insert(RETRY_AFTER, answer::seconds(Duration::from_secs(1)));
            }
            return response;
        }
        (Failure::Connect, _) if starting_up => starting(),
        (Failure::Connect, _) | (Failure::Lost, Location::Local) => no_target(workload),
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

fn no_target(workload: &Workload) -> ApiError {
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

//! Which requests are sent again, and when.

use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use kube::client::Body;

use super::CallError;

const MAX_TRIES: u32 = 3;
/// No try begins later than this after the first: the queue's backoff takes over.
const BUDGET: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    Watch,
    Create,
    Replace,
    Patch,
    Apply,
    Delete,
}

impl Verb {
    pub fn of(request: &Request<Body>) -> Self {
        let query = request.uri().query().unwrap_or_default();
        let watches = query
            .split('&')
            .any(|pair| matches!(pair, "watch=true" | "watch=1"));
        let applies = request
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.starts_with("application/apply-patch"));
        match *request.method() {
            Method::GET | Method::HEAD if watches => Self::Watch,
            Method::GET | Method::HEAD => Self::Get,
            Method::PUT => Self::Replace,
            Method::PATCH if applies => Self::Apply,
            Method::PATCH => Self::Patch,
            Method::DELETE => Self::Delete,
            _ => Self::Create,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Patch => "patch",
            Self::Apply => "apply",
            Self::Delete => "delete",
        }
    }

    pub fn mutates(self) -> bool {
        !matches!(self, Self::Get | Self::Watch)
    }
}

/// How a try failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The server is busy or away; it may say for how long.
    Status(StatusCode, Option<Duration>),
    /// The connection failed: the server may have acted or not.
    Transport,
}

impl Outcome {
    /// `None` for what another try would not change.
    pub fn of(result: &Result<Response<Body>, CallError>) -> Option<Self> {
        match result {
            Ok(answer)
                if answer.status().is_client_error() || answer.status().is_server_error() =>
            {
                let after = answer
                    .headers()
                    .get(RETRY_AFTER)
                    .and_then(|value| value.to_str().ok()?.parse().ok())
                    .map(Duration::from_secs);
                Some(Self::Status(answer.status(), after))
            }
            Ok(_) | Err(CallError::NotLeading(_) | CallError::Timeout(_)) => None,
            Err(CallError::Transport(_)) => Some(Self::Transport),
        }
    }

    /// Whether the server says that it has too much to do, and for how long it asks to be left alone.
    pub fn overload(self) -> Option<Option<Duration>> {
        match self {
            Self::Status(StatusCode::TOO_MANY_REQUESTS, asked) => Some(asked),
            Self::Status(StatusCode::SERVICE_UNAVAILABLE, Some(asked)) => Some(Some(asked)),
            _ => None,
        }
    }
}

/// How long to wait before the next try, or `None` to give up.
///
/// A create is never sent twice: its caller looks whether it is there. What names the state that it wants (reads,
/// applies) may be sent again always; other writes only when the server says that it did not take them.
pub(super) fn pause(
    verb: Verb,
    outcome: Outcome,
    attempt: u32,
    elapsed: Duration,
    random: f64,
) -> Option<Duration> {
    let repeatable = matches!(verb, Verb::Get | Verb::Apply);
    let retried = match (verb, outcome) {
        (Verb::Create | Verb::Watch, _) => false,
        (_, Outcome::Status(StatusCode::TOO_MANY_REQUESTS, _)) => true,
        (_, Outcome::Status(StatusCode::SERVICE_UNAVAILABLE, _)) => verb != Verb::Delete,
        (_, Outcome::Status(StatusCode::GATEWAY_TIMEOUT, _) | Outcome::Transport) => repeatable,
        (_, Outcome::Status(StatusCode::INTERNAL_SERVER_ERROR, _)) => verb == Verb::Get,
        _ => false,
    };
    if !retried || attempt + 1 >= MAX_TRIES {
        return None;
    }
    let own = (FIRST_PAUSE * 2_u32.pow(attempt)).mul_f64(0.5 + random);
    let pause = match outcome {
        Outcome::Status(_, Some(asked)) => own.max(asked),
        _ => own,
    };
    (elapsed + pause <= BUDGET).then_some(pause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn status(code: u16) -> Outcome {
        Outcome::Status(StatusCode::from_u16(code).unwrap(), None)
    }

    #[rstest]
    #[case(Verb::Get, status(503), true)]
    #[case(Verb::Get, status(500), true)]
    #[case(Verb::Get, status(404), false)]
    #[case(Verb::Get, status(403), false)]
    #[case(Verb::Get, Outcome::Transport, true)]
    #[case(Verb::Apply, status(429), true)]
    #[case(Verb::Apply, status(504), true)]
    #[case(Verb::Apply, status(409), false)]
    #[case(Verb::Apply, status(422), false)]
    #[case(Verb::Apply, status(500), false)]
    #[case(Verb::Apply, Outcome::Transport, true)]
    #[case(Verb::Patch, status(503), true)]
    #[case(Verb::Patch, Outcome::Transport, false)]
    #[case(Verb::Replace, status(429), true)]
    #[case(Verb::Replace, status(504), false)]
    #[case(Verb::Delete, status(429), true)]
    #[case(Verb::Delete, status(503), false)]
    #[case(Verb::Delete, Outcome::Transport, false)]
    #[case(Verb::Create, status(429), false)]
    #[case(Verb::Create, status(503), false)]
    #[case(Verb::Create, Outcome::Transport, false)]
    #[case(Verb::Watch, Outcome::Transport, false)]
    fn only_what_may_be_repeated_is(
        #[case] verb: Verb,
        #[case] outcome: Outcome,
        #[case] again: bool,
    ) {
        let pause = pause(verb, outcome, 0, Duration::ZERO, 0.5);
        assert_eq!(pause.is_some(), again);
    }

    #[test]
    fn three_tries_within_five_seconds() {
        let at = |attempt, elapsed| pause(Verb::Get, status(503), attempt, elapsed, 0.5);
        assert!(at(1, Duration::from_secs(1)).is_some());
        assert_eq!(at(2, Duration::from_secs(1)), None);
        assert_eq!(at(0, Duration::from_secs(5)), None);
    }

    #[test]
    fn a_server_that_asks_for_an_hour_is_not_waited_for() {
        let asked = |seconds| {
            let after = Some(Duration::from_secs(seconds));
            let outcome = Outcome::Status(StatusCode::TOO_MANY_REQUESTS, after);
            pause(Verb::Apply, outcome, 0, Duration::ZERO, 0.5)
        };
        assert_eq!(asked(1), Some(Duration::from_secs(1)));
        assert_eq!(asked(3600), None);
    }
}

//! Why a try came to nothing, and whether another target may be tried then.

use crate::metering::outcome::Outcome;
use crate::policy::FailoverPolicy;
use crate::upstream::place::Location;
use bytes::Bytes;
use http::StatusCode;
use http::header::HeaderMap;

/// Why a try came to nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection: nothing was sent.
    Connect,
    /// The connection was lost before the first byte of an answer.
    Lost,
    /// No first byte in time.
    Timeout,
    /// A whole answer of 429 or 5xx.
    Answer(WholeAnswer),
    /// Something that is no answer: an error in a stream, a broken document, a redirect.
    Broken,
    /// The provider refused the gateway's key.
    Credentials,
}

/// A whole answer that says that the target cannot serve.
#[derive(Debug)]
pub(crate) struct WholeAnswer {
    /// Its status.
    pub status: StatusCode,
    /// The headers that clients see.
    pub(crate) headers: HeaderMap,
    /// Its body.
    pub(crate) body: Payload,
}

/// Bytes of a request or an answer, which no log may show.
pub(crate) struct Payload(pub Bytes);

impl std::fmt::Debug for Payload {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Payload({} bytes, redacted)", self.0.len())
    }
}

impl Failure {
    /// As it is counted.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Connect | Self::Lost => Outcome::Connect,
            Self::Timeout => Outcome::Timeout,
            Self::Answer(answer) if answer.status == StatusCode::TOO_MANY_REQUESTS => {
                Outcome::TooManyRequests
            }
            Self::Answer(_) | Self::Broken | Self::Credentials => Outcome::ServerError,
        }
    }

    /// The status of the answer, 0 without one.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Answer(answer) => answer.status.as_u16(),
            _ => 0,
        }
    }
}

/// Whether another target may be tried after a failure. A provider may have billed what it was sent, so only what
/// shows that it did not lets the request go elsewhere.
pub(crate) fn may_leave(location: Location, failure: &Failure, policy: &FailoverPolicy) -> bool {
    match (location, failure) {
        (_, Failure::Connect) | (Location::Local, Failure::Lost) => policy.on_connect,
        (_, Failure::Answer(answer)) if answer.status == StatusCode::TOO_MANY_REQUESTS => {
            policy.on_too_many_requests
        }
        (Location::External, Failure::Answer(answer)) => {
            answer.status == StatusCode::SERVICE_UNAVAILABLE && policy.on_server_error
        }
        (Location::Local, Failure::Timeout) => policy.on_timeout,
        (Location::Local, Failure::Answer(_) | Failure::Broken | Failure::Credentials) => {
            policy.on_server_error
        }
        (
            Location::External,
            Failure::Lost | Failure::Timeout | Failure::Broken | Failure::Credentials,
        ) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::TrafficPolicy;
    use rstest::rstest;

    fn whole(status: u16) -> Failure {
        let status = StatusCode::from_u16(status).expect("a status");
        Failure::Answer(WholeAnswer {
            status,
            headers: HeaderMap::new(),
            body: Payload(Bytes::new()),
        })
    }

    #[rstest]
    #[case(Failure::Connect, true, true)]
    #[case(Failure::Lost, true, false)]
    #[case(Failure::Timeout, true, false)]
    #[case(whole(429), true, true)]
    #[case(whole(503), true, true)]
    #[case(whole(500), true, false)]
    #[case(whole(502), true, false)]
    #[case(Failure::Broken, true, false)]
    fn a_paid_target_is_left_only_when_nothing_was_billed(
        #[case] failure: Failure,
        #[case] local: bool,
        #[case] external: bool,
    ) {
        let policy = TrafficPolicy::default().failover;
        assert_eq!(may_leave(Location::Local, &failure, &policy), local);
        assert_eq!(may_leave(Location::External, &failure, &policy), external);
        let never = FailoverPolicy {
            on_connect: false,
            on_timeout: false,
            on_too_many_requests: false,
            on_server_error: false,
            ..policy
        };
        assert!(
            !may_leave(Location::Local, &failure, &never)
                && !may_leave(Location::External, &failure, &never)
        );
    }

    #[test]
    fn debug_of_an_answer_shows_no_payload() {
        let answer = WholeAnswer {
            status: StatusCode::BAD_GATEWAY,
            headers: HeaderMap::new(),
            body: Payload(Bytes::from_static(b"canary")),
        };
        assert!(!format!("{answer:?}").contains("canary"));
    }
}

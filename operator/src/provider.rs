//! Pure: what the cloud plane measured at a provider, as status.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use weir_crds::condition::{ConditionStatus, Conditions, types};
use weir_crds::provider::{Circuit, InferenceProviderSpec, InferenceProviderStatus};
use weir_operator_core::tier::stepped;

use crate::price_book::fetch::is_public;

/// What the gateways of the cloud plane say together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observation {
    /// State of the circuit; `None`: no gateway has a verdict.
    pub circuit: Option<Circuit>,
    /// Mean time to first token in milliseconds.
    pub ttft_ms: Option<f64>,
    /// Share of failed requests in percent.
    pub error_percent: Option<f64>,
    /// Why no request can be sent, such as a missing key.
    pub unusable: Option<String>,
    /// Why it did not answer last.
    pub failure: Option<String>,
}

/// The book that a provider names, and what it lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Book {
    /// The provider names none: its targets have no price.
    NotNamed,
    /// It exists.
    Found {
        /// Models of the provider that have no price in it; `None` before it was read.
        unpriced: Option<Vec<String>>,
    },
    /// It does not.
    Missing,
}

/// The next status of a provider.
pub fn status(
    spec: &InferenceProviderSpec,
    previous: &InferenceProviderStatus,
    observed: &Observation,
    book: Book,
    (generation, now): (i64, Timestamp),
) -> InferenceProviderStatus {
    let time = Time(now);
    let mut conditions = Conditions::default();
    let mut set = |condition: (&str, ConditionStatus, &str), message: String| {
        conditions.set(&previous.conditions, condition, message, generation, &time);
    };
    use ConditionStatus::{False, True, Unknown};
    let (accepted, reason, message) = match private_address(spec) {
        None => (True, "Accepted", "the spec is consistent".to_owned()),
        Some(address) => (
            False,
            "PrivateAddress",
            format!(
                "the endpoint's address {address} is private and gateways refuse it: set allowPrivateAddresses if it is meant"
            ),
        ),
    };
    set((types::ACCEPTED, accepted, reason), message);
    let name = spec
        .price_book_ref
        .as_ref()
        .map_or("", |book| book.name.as_str());
    let (resolved, reason, message) = match &book {
        Book::Found { .. } => (True, "Resolved", format!("price book {name} exists")),
        Book::Missing => (
            False,
            "PriceBookMissing",
            format!("price book {name} does not exist: targets at this provider have no price"),
        ),
        Book::NotNamed => (
            False,
            "NoPriceBook",
            "no priceBookRef: targets at this provider have no price and are rejected".into(),
        ),
    };
    set((types::RESOLVED_REFS, resolved, reason), message);
    if let Book::Found { unpriced } = &book {
        let (priced, reason, message) = priced(name, unpriced.as_deref());
        set((types::PRICED, priced, reason), message);
    }
    let circuit = verdict(previous, observed, generation);
    let (healthy, reason, message) = healthy(circuit, observed);
    set((types::HEALTHY, healthy, reason), message);
    let usable = resolved == True && accepted == True && healthy != False;
    let (ready, reason, message) = match healthy {
        _ if !usable => (False, "NotUsable", "see the other conditions"),
        Unknown => (Unknown, "NotMeasured", "it has not answered yet"),
        _ => (True, "Usable", "targets may use the provider"),
    };
    set((types::READY, ready, reason), message.into());
    InferenceProviderStatus {
        observed_generation: Some(generation),
        circuit,
        observed_ttft_millis: coarse_ttft(previous.observed_ttft_millis, observed.ttft_ms),
        error_percent: stepped(previous.error_percent, observed.error_percent),
        conditions: conditions.0,
    }
}

/// The circuit as gateways see it, or as it was last seen of this spec where none has a verdict: gateways and operators
/// that restart know nothing for a moment.
fn verdict(
    previous: &InferenceProviderStatus,
    observed: &Observation,
    generation: i64,
) -> Option<Circuit> {
    let of_this_spec = previous.observed_generation == Some(generation);
    let known = observed
        .circuit
        .or(previous.circuit.filter(|_| of_this_spec));
    known.map(|circuit| match circuit {
        Circuit::Closed => Circuit::Closed,
        Circuit::Open | Circuit::HalfOpen => Circuit::Open,
    })
}

fn healthy(
    circuit: Option<Circuit>,
    observed: &Observation,
) -> (ConditionStatus, &'static str, String) {
    use ConditionStatus::{False, True, Unknown};
    if let Some(why) = &observed.unusable {
        return (False, "Unusable", why.clone());
    }
    let because = |text: &str| match &observed.failure {
        Some(why) => format!("{text}: {why}"),
        None => text.to_owned(),
    };
    match circuit {
        Some(Circuit::Closed) => (True, "Answering", "requests and probes are answered".into()),
        Some(Circuit::Open | Circuit::HalfOpen) => {
            let text = "no request is sent until a probe is answered";
            (False, "CircuitOpen", because(text))
        }
        None if observed.failure.is_some() => {
            (Unknown, "NotAnswered", because("it has not answered yet"))
        }
        None => {
            let text = "no gateway of the cloud plane had an answer yet";
            (Unknown, "NotMeasured", text.into())
        }
    }
}

/// Models that a message names; of more it tells how many.
const NAMED: usize = 10;

fn priced(book: &str, unpriced: Option<&[String]>) -> (ConditionStatus, &'static str, String) {
    use ConditionStatus::{False, True, Unknown};
    let Some(unpriced) = unpriced else {
        return (
            Unknown,
            "NotRead",
            format!("price book {book} was not read yet"),
        );
    };
    if unpriced.is_empty() {
        let message = format!("every model has a price in price book {book}");
        return (True, "Priced", message);
    }
    let named: Vec<&str> = unpriced.iter().take(NAMED).map(String::as_str).collect();
    let more = match unpriced.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!(
        "price book {book} has no price for {}{more}: targets with them are rejected; add the prices, or name the book's key in priceKey",
        named.join(", ")
    );
    (False, "ModelsWithoutPrice", message)
}

/// The private address that stands in the endpoint, where none may.
fn private_address(spec: &InferenceProviderSpec) -> Option<IpAddr> {
    let url = url::Url::parse(&spec.endpoint).ok()?;
    let address = match url.host()? {
        url::Host::Ipv4(address) => IpAddr::from(address),
        url::Host::Ipv6(address) => IpAddr::from(address),
        url::Host::Domain(_) => return None,
    };
    (!spec.allow_private_addresses && !is_public(address)).then_some(address)
}

/// Milliseconds to two digits, rewritten when they differ by more than a half, so that a quiet provider is not written.
fn coarse_ttft(before: Option<i64>, reading: Option<f64>) -> Option<i64> {
    let reading = reading.filter(|ms| ms.is_finite() && (0.0..1e7).contains(ms))?;
    let close = |written: i64| (reading - written as f64).abs() <= (written as f64 / 2.0).max(20.0);
    match before {
        Some(written) if close(written) => Some(written),
        _ => {
            let unit = 10f64.powi((reading.max(1.0).log10().floor() as i32 - 1).max(0));
            Some(((reading / unit).round() * unit) as i64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(None, Some(123.4), Some(120))]
    #[case(Some(120), Some(170.0), Some(120))]
    #[case(Some(120), Some(190.0), Some(190))]
    #[case(Some(120), None, None)]
    #[case(Some(5), Some(20.0), Some(5))]
    #[case(None, Some(f64::NAN), None)]
    fn a_time_to_first_token_is_rewritten_only_when_it_matters(
        #[case] before: Option<i64>,
        #[case] reading: Option<f64>,
        #[case] after: Option<i64>,
    ) {
        assert_eq!(coarse_ttft(before, reading), after);
    }

    fn spec() -> InferenceProviderSpec {
        serde_json::from_value(serde_json::json!({
            "endpoint": "https://api.example.com/v1",
            "priceBookRef": {"name": "acme"},
            "models": [{"name": "acme-small"}],
        }))
        .expect("a spec")
    }

    fn found() -> Book {
        Book::Found {
            unpriced: Some(Vec::new()),
        }
    }

    fn next(
        spec: &InferenceProviderSpec,
        previous: &InferenceProviderStatus,
        observed: &Observation,
        book: Book,
    ) -> InferenceProviderStatus {
        let at = Timestamp::from_second(1).expect("in range");
        status(spec, previous, observed, book, (1, at))
    }

    /// Status, reason and message of a condition.
    fn told<'a>(status: &'a InferenceProviderStatus, type_: &str) -> (&'a str, &'a str, &'a str) {
        let mut conditions = status.conditions.iter();
        let condition = conditions.find(|condition| condition.type_ == type_);
        let condition = condition.expect("is told");
        (&condition.status, &condition.reason, &condition.message)
    }

    #[rstest]
    #[case(Some(Circuit::Closed), None, found(), "True")]
    #[case(None, None, found(), "Unknown")]
    #[case(Some(Circuit::Open), None, found(), "False")]
    #[case(Some(Circuit::HalfOpen), None, found(), "False")]
    #[case(Some(Circuit::Closed), Some("no key"), found(), "False")]
    #[case(Some(Circuit::Closed), None, Book::Missing, "False")]
    #[case(None, None, Book::NotNamed, "False")]
    fn a_provider_is_ready_when_it_can_be_used_and_has_answered(
        #[case] circuit: Option<Circuit>,
        #[case] unusable: Option<&str>,
        #[case] book: Book,
        #[case] ready: &str,
    ) {
        let observed = Observation {
            circuit,
            unusable: unusable.map(str::to_owned),
            ..Observation::default()
        };
        let status = next(
            &spec(),
            &InferenceProviderStatus::default(),
            &observed,
            book,
        );
        assert_eq!(told(&status, types::READY).0, ready);
    }

    #[test]
    fn why_a_provider_does_not_answer_is_told_before_and_after_the_verdict() {
        let mut observed = Observation {
            failure: Some("the connection is refused".to_owned()),
            ..Observation::default()
        };
        let first = next(
            &spec(),
            &InferenceProviderStatus::default(),
            &observed,
            found(),
        );
        let unknown = "it has not answered yet: the connection is refused";
        assert_eq!(
            told(&first, types::HEALTHY),
            ("Unknown", "NotAnswered", unknown)
        );
        observed.circuit = Some(Circuit::Open);
        let open = next(&spec(), &first, &observed, found());
        let message = "no request is sent until a probe is answered: the connection is refused";
        assert_eq!(
            told(&open, types::HEALTHY),
            ("False", "CircuitOpen", message)
        );
    }

    #[test]
    fn the_last_verdict_stands_while_no_gateway_has_one() {
        for known in [Circuit::Closed, Circuit::Open] {
            let before = next(
                &spec(),
                &InferenceProviderStatus::default(),
                &Observation {
                    circuit: Some(known),
                    ..Observation::default()
                },
                found(),
            );
            let after = next(&spec(), &before, &Observation::default(), found());
            assert_eq!(after, before, "{known:?}");
            let older = InferenceProviderStatus {
                observed_generation: Some(0),
                ..before
            };
            let edited = next(&spec(), &older, &Observation::default(), found());
            assert_eq!(edited.circuit, None, "another spec is another question");
        }
    }

    #[rstest]
    #[case("https://10.1.2.3/v1", false, true)]
    #[case("https://[fd00::1]/v1", false, true)]
    #[case("https://10.1.2.3/v1", true, false)]
    #[case("https://8.8.8.8/v1", false, false)]
    #[case("https://api.example.com/v1", false, false)]
    fn a_private_address_in_the_endpoint_is_not_accepted(
        #[case] endpoint: &str,
        #[case] allowed: bool,
        #[case] refused: bool,
    ) {
        let spec = InferenceProviderSpec {
            endpoint: endpoint.to_owned(),
            allow_private_addresses: allowed,
            ..spec()
        };
        let none = Observation::default();
        let status = next(&spec, &InferenceProviderStatus::default(), &none, found());
        let (accepted, reason, message) = told(&status, types::ACCEPTED);
        assert_eq!(accepted == "False", refused);
        assert_eq!(reason == "PrivateAddress", refused);
        assert_eq!(message.contains("allowPrivateAddresses"), refused);
        assert_eq!(told(&status, types::READY).0 == "False", refused);
    }

    #[test]
    fn models_without_a_price_are_named() {
        let priced = |unpriced: Option<Vec<String>>| {
            let none = Observation::default();
            let book = Book::Found { unpriced };
            let status = next(&spec(), &InferenceProviderStatus::default(), &none, book);
            let (status, reason, message) = told(&status, types::PRICED);
            (status.to_owned(), reason.to_owned(), message.to_owned())
        };
        assert_eq!(priced(None).0, "Unknown");
        assert_eq!(priced(Some(Vec::new())).1, "Priced");
        let many: Vec<String> = (0..12).map(|each| format!("m{each}")).collect();
        let (status, reason, message) = priced(Some(many));
        assert_eq!((&*status, &*reason), ("False", "ModelsWithoutPrice"));
        assert!(message.contains("m9 and 2 more"), "{message}");
    }
}

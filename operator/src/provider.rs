//! Pure: what the cloud plane measured at a provider, as status.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use weir_crds::condition::{ConditionStatus, Conditions, types};
use weir_crds::provider::{Circuit, InferenceProviderSpec, InferenceProviderStatus};

use crate::tier::stepped;

/// What the gateways of the cloud plane say together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observation {
    /// State of the circuit; `None`: no gateway has reported.
    pub circuit: Option<Circuit>,
    /// Mean time to first token in milliseconds.
    pub ttft_ms: Option<f64>,
    /// Share of failed requests in percent.
    pub error_percent: Option<f64>,
    /// Why no request can be sent, such as a missing key.
    pub unusable: Option<String>,
}

/// Whether the book that a provider names exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Book {
    /// The provider names none: its targets have no price.
    NotNamed,
    /// It exists.
    Found,
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
    set(
        (types::ACCEPTED, True, "Accepted"),
        "the spec is consistent".into(),
    );
    let name = spec
        .price_book_ref
        .as_ref()
        .map_or("", |book| book.name.as_str());
    let (resolved, reason, message) = match book {
        Book::Found => (True, "Resolved", format!("price book {name} exists")),
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
    let (healthy, reason, message) = match (&observed.unusable, observed.circuit) {
        (Some(why), _) => (False, "Unusable", why.clone()),
        (None, None) => (
            Unknown,
            "NotMeasured",
            "no gateway of the cloud plane has reported yet".into(),
        ),
        (None, Some(Circuit::Open)) => (
            False,
            "CircuitOpen",
            "requests fail: none are sent until a probe succeeds".into(),
        ),
        (None, Some(Circuit::HalfOpen)) => (Unknown, "Probing", "a probe is under way".into()),
        (None, Some(Circuit::Closed)) => {
            (True, "Answering", "requests and probes are answered".into())
        }
    };
    set((types::HEALTHY, healthy, reason), message);
    let ready = resolved == True && healthy != False;
    let (reason, message) = if ready {
        ("Usable", "targets may use the provider")
    } else {
        ("NotUsable", "see the other conditions")
    };
    set((types::READY, ready.into(), reason), message.into());
    InferenceProviderStatus {
        observed_generation: Some(generation),
        circuit: observed.circuit,
        observed_ttft_millis: coarse_ttft(previous.observed_ttft_millis, observed.ttft_ms),
        error_percent: stepped(previous.error_percent, observed.error_percent),
        conditions: conditions.0,
    }
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

    #[rstest]
    #[case(Some(Circuit::Closed), None, Book::Found, "True")]
    #[case(None, None, Book::Found, "True")]
    #[case(Some(Circuit::Open), None, Book::Found, "False")]
    #[case(Some(Circuit::Closed), Some("no key"), Book::Found, "False")]
    #[case(Some(Circuit::Closed), None, Book::Missing, "False")]
    fn a_provider_is_ready_when_it_can_be_used(
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
        let at = Timestamp::from_second(1).expect("in range");
        let status = status(
            &spec(),
            &InferenceProviderStatus::default(),
            &observed,
            book,
            (1, at),
        );
        let condition = status
            .conditions
            .iter()
            .find(|condition| condition.type_ == types::READY);
        assert_eq!(
            condition.map(|condition| condition.status.as_str()),
            Some(ready)
        );
    }
}

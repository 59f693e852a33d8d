//! Pure: what engines reported about a model, and which workloads use it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;
use weir_crds::condition::{ConditionStatus, Conditions, types};
use weir_crds::model::{MeasuredThroughput, ModelProfileSpec, ModelProfileStatus};
use weir_crds::quantity;

/// A claim and a path in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPath {
    /// Name of the PersistentVolumeClaim in the workload's namespace.
    pub claim: String,
    /// Path of the file in the volume, without a slash at its start.
    pub path: String,
}

/// Why a source cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("source {0:?} is not pvc://CLAIM/PATH")]
pub struct SourceError(pub String);

/// Reads `pvc://CLAIM/PATH`.
///
/// # Errors
/// For every other scheme, and for paths that leave the volume.
pub fn claim_path(source: &str) -> Result<ClaimPath, SourceError> {
    let fail = || SourceError(source.to_owned());
    let (claim, path) = source
        .strip_prefix("pvc://")
        .and_then(|rest| rest.split_once('/'))
        .ok_or_else(fail)?;
    let leaves = path.split('/').any(|part| part.is_empty() || part == "..");
    if claim.is_empty() || leaves {
        return Err(fail());
    }
    Ok(ClaimPath {
        claim: claim.to_owned(),
        path: path.to_owned(),
    })
}

/// Two significant digits: a figure that is measured again soon reads the same.
fn two_digits(rate: f64) -> Option<i64> {
    if !rate.is_finite() || !(1.0..1e8).contains(&rate) {
        return None;
    }
    let unit = 10f64.powi((rate.log10().floor() as i32 - 1).max(0));
    Some(((rate / unit).round() * unit) as i64)
}

/// Takes over the figures that differ by more than a fifth from what is written.
pub fn measured(
    before: &[MeasuredThroughput],
    reported: &BTreeMap<String, f64>,
    now: Timestamp,
) -> Vec<MeasuredThroughput> {
    let mut by_tier: BTreeMap<&str, MeasuredThroughput> = before
        .iter()
        .map(|figure| (figure.tier.as_str(), figure.clone()))
        .collect();
    for (tier, rate) in reported {
        let Some(rate) = two_digits(*rate) else {
            continue;
        };
        let close = |written: i64| (rate - written).abs() * 5 <= written;
        if by_tier
            .get(tier.as_str())
            .is_some_and(|figure| close(figure.output_tokens_per_second))
        {
            continue;
        }
        by_tier.insert(
            tier,
            MeasuredThroughput {
                tier: tier.clone(),
                output_tokens_per_second: rate,
                observed: Time(now),
            },
        );
    }
    by_tier.into_values().collect()
}

/// The next status of a profile. `reported` is the benchmark of its engines by tier, in output tokens per second.
pub fn status(
    spec: &ModelProfileSpec,
    previous: &ModelProfileStatus,
    reported: &BTreeMap<String, f64>,
    workloads: usize,
    (generation, now): (i64, Timestamp),
) -> ModelProfileStatus {
    let problem = claim_path(&spec.source)
        .map_err(|error| error.to_string())
        .and_then(|_| quantity::memory(&spec.memory).map_err(|error| error.to_string()))
        .err();
    let measured = measured(&previous.measured, reported, now);
    let time = Time(now);
    let mut conditions = Conditions::default();
    let mut set = |condition: (&str, ConditionStatus, &str), message: String| {
        conditions.set(&previous.conditions, condition, message, generation, &time);
    };
    let accepted = problem.is_none();
    let reason = if accepted { "Accepted" } else { "InvalidSpec" };
    let message = problem.unwrap_or_else(|| "the spec is consistent".to_owned());
    set((types::ACCEPTED, accepted.into(), reason), message);
    let (reason, message) = match (accepted, measured.is_empty()) {
        (false, _) => ("InvalidSpec", "see condition Accepted"),
        (true, true) => (
            "NotMeasured",
            "may be served; no engine has reported its throughput yet, assumed figures count",
        ),
        (true, false) => (
            "Measured",
            "may be served; engines have reported their throughput",
        ),
    };
    set((types::READY, accepted.into(), reason), message.to_owned());
    ModelProfileStatus {
        observed_generation: Some(generation),
        measured,
        workloads: i32::try_from(workloads).ok(),
        conditions: conditions.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn a_claim_and_a_path_are_read() {
        let read = claim_path("pvc://models/a/b.gguf").expect("readable");
        assert_eq!(
            (read.claim.as_str(), read.path.as_str()),
            ("models", "a/b.gguf")
        );
    }

    #[rstest]
    #[case("hf://org/model")]
    #[case("pvc://models")]
    #[case("pvc:///a")]
    #[case("pvc://models/../etc/passwd")]
    #[case("pvc://models/a//b")]
    fn other_sources_are_refused(#[case] source: &str) {
        assert!(claim_path(source).is_err());
    }

    #[rstest]
    #[case(37.4, Some(37))]
    #[case(1234.5, Some(1200))]
    #[case(0.4, None)]
    #[case(f64::NAN, None)]
    #[case(f64::INFINITY, None)]
    fn throughput_has_two_digits(#[case] rate: f64, #[case] expected: Option<i64>) {
        assert_eq!(two_digits(rate), expected);
    }

    #[test]
    fn a_figure_is_rewritten_only_when_it_differs_by_a_fifth() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        let first = measured(&[], &BTreeMap::from([("cpu".into(), 50.0)]), at(1));
        let close = measured(&first, &BTreeMap::from([("cpu".into(), 58.0)]), at(2));
        assert_eq!(close, first);
        let far = measured(&first, &BTreeMap::from([("cpu".into(), 70.0)]), at(3));
        assert_eq!(far[0].output_tokens_per_second, 70);
        let silent = measured(&first, &BTreeMap::new(), at(4));
        assert_eq!(silent, first);
    }
}

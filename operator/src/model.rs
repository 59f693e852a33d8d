//! Pure: what engines reported about a model, and which workloads use it.

pub mod throughput;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use weir_crds::condition::{ConditionStatus, Conditions, types};
use weir_crds::model::{ModelProfileSpec, ModelProfileStatus};
use weir_crds::quantity;

use throughput::Measurement;

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

/// The next status of a profile, from what its engines measured.
pub fn status(
    spec: &ModelProfileSpec,
    previous: &ModelProfileStatus,
    measurements: &[Measurement],
    workloads: usize,
    (generation, now): (i64, Timestamp),
) -> ModelProfileStatus {
    let problem = claim_path(&spec.source)
        .map_err(|error| error.to_string())
        .and_then(|_| quantity::memory(&spec.memory).map_err(|error| error.to_string()))
        .err();
    let assumed = |tier: &str| {
        let mut assumed = spec.assumed_throughput.iter();
        let assumed = assumed.find(|assumed| assumed.tier == tier);
        assumed.map(|assumed| assumed.output_tokens_per_second)
    };
    let (measured, held) = throughput::next(previous, measurements, assumed, now);
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
            "may be served; no two measurements of engines agree yet, assumed figures count",
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
        held,
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
}

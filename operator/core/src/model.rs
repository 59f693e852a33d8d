//! Pure: what engines reported about a model, and which workloads use it.

pub mod throughput;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use weir_crds::condition::{ConditionStatus, Conditions, types};
use weir_crds::model::{ModelProfileSpec, ModelProfileStatus};
use weir_crds::quantity;

use throughput::Measurement;

/// The next status of a profile, from what its engines measured.
pub fn status(
    spec: &ModelProfileSpec,
    previous: &ModelProfileStatus,
    measurements: &[Measurement],
    workloads: usize,
    (generation, now): (i64, Timestamp),
) -> ModelProfileStatus {
    let problem = spec
        .location()
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

//! Where local and external cost meet. Derived, not searched.

use crate::candidate::Curve;
use crate::cost::TokenCurve;
use crate::units::RequestsPerMonth;

/// Least requests per month at which the local curve costs no more than the external one.
pub(crate) fn break_even(local: &Curve, external: &TokenCurve) -> Option<RequestsPerMonth> {
    let external = external.step().cost;
    let first = local.steps().find_map(|step| {
        let (first, _) = external.minus(step.cost).not_negative(step.range)?;
        Some(first)
    })?;
    RequestsPerMonth::new(u64::try_from(first).ok()?).ok()
}

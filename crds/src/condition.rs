//! Conditions: their types, and one way to set them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::text;

/// Condition types of all kinds. Each has positive polarity: True is the good state.
pub mod types {
    /// The spec was understood and is consistent.
    pub const ACCEPTED: &str = "Accepted";
    /// Everything that the spec refers to exists and may be used.
    pub const RESOLVED_REFS: &str = "ResolvedRefs";
    /// At least one target passes every gate.
    pub const FEASIBLE: &str = "Feasible";
    /// A target was chosen and is written in `status.placement`.
    pub const PLACED: &str = "Placed";
    /// The local targets that carry traffic are ready.
    pub const LOCAL_READY: &str = "LocalReady";
    /// The external targets that carry traffic are usable.
    pub const EXTERNAL_READY: &str = "ExternalReady";
    /// Every ready gateway of the workload's plane has acknowledged the route.
    pub const ROUTE_PROGRAMMED: &str = "RouteProgrammed";
    /// The time to first token is within `spec.slo`.
    pub const SLO_MET: &str = "SLOMet";
    /// The prices that the decision uses are younger than `staleAfter`.
    pub const PRICE_FRESH: &str = "PriceFresh";
    /// A Secret holds the key that gateways accept.
    pub const CLIENT_KEY_READY: &str = "ClientKeyReady";
    /// Requests are served.
    pub const READY: &str = "Ready";
    /// kstatus: work is in progress.
    pub const RECONCILING: &str = "Reconciling";
    /// kstatus: no progress without a change from outside.
    pub const STALLED: &str = "Stalled";
    /// The price source was read.
    pub const FETCHED: &str = "Fetched";
    /// No price is held back by the guard.
    pub const TRUSTED: &str = "Trusted";
    /// The provider answers.
    pub const HEALTHY: &str = "Healthy";
    /// Every model of the provider has a price.
    pub const PRICED: &str = "Priced";
    /// Telemetry of the tier's nodes is recent.
    pub const TELEMETRY_FRESH: &str = "TelemetryFresh";
    /// It is known how busy the tier's devices are.
    pub const UTILIZATION_KNOWN: &str = "UtilizationKnown";
}

/// Value of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be told.
    Unknown,
}

impl ConditionStatus {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// A list of conditions under construction, kept in the order of their types.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conditions(pub Vec<Condition>);

impl Conditions {
    /// Sets a condition. `lastTransitionTime` of `previous` is kept unless the status differs.
    pub fn set(
        &mut self,
        previous: &[Condition],
        (type_, status, reason): (&str, ConditionStatus, &str),
        message: impl Into<String>,
        generation: i64,
        now: &Time,
    ) {
        let before = previous.iter().find(|condition| condition.type_ == type_);
        let last_transition_time = match before {
            Some(before) if before.status == status.as_str() => before.last_transition_time.clone(),
            _ => now.clone(),
        };
        self.0.retain(|condition| condition.type_ != type_);
        self.0.push(Condition {
            type_: type_.to_owned(),
            status: status.as_str().to_owned(),
            reason: text::bounded(reason),
            message: text::bounded(message),
            observed_generation: Some(generation),
            last_transition_time,
        });
        self.0.sort_by(|a, b| a.type_.cmp(&b.type_));
    }
}

/// Whether the condition of that type is True.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    conditions
        .iter()
        .any(|condition| condition.type_ == type_ && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time(jiff::Timestamp::from_second(seconds).expect("in range"))
    }

    #[test]
    fn the_transition_time_moves_only_when_the_status_flips() {
        let ready = |status, now: &Time, previous: &[Condition]| {
            let mut conditions = Conditions::default();
            conditions.set(previous, (types::READY, status, "Serving"), "m", 1, now);
            conditions.0
        };
        let first = ready(ConditionStatus::True, &at(1), &[]);
        let same = ready(ConditionStatus::True, &at(2), &first);
        assert_eq!(same[0].last_transition_time, at(1));
        let flipped = ready(ConditionStatus::False, &at(3), &same);
        assert_eq!(flipped[0].last_transition_time, at(3));
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let mut conditions = Conditions::default();
        conditions.set(
            &[],
            (types::READY, ConditionStatus::False, "Long"),
            "ü".repeat(2000),
            1,
            &at(1),
        );
        assert_eq!(conditions.0[0].message.chars().count(), 511);
    }
}

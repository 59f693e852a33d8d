//! Why a child is not as it is to be, in typed reasons with the words of who refused it. Pure.

use std::collections::BTreeMap;

use kube::core::Status;

use super::ApplyError;

/// A reason why a child is not as it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemReason {
    /// It cannot be made from what the model, the tier and the workload say.
    CannotBuild,
    /// An object of that name belongs to something else.
    ForeignObject,
    /// A webhook, a policy, a quota or the API's own rules refuse it.
    ChildRefused,
    /// The operator has no right to write it.
    ChildForbidden,
    /// A webhook that has to be asked cannot be, or does not answer.
    WebhookFailed,
    /// It was changed by others again and again meanwhile.
    ChildConflict,
    /// The API server did not answer.
    ChildUnanswered,
    /// The API server answered with another error.
    ChildFailed,
}

impl ProblemReason {
    /// As conditions and events spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CannotBuild => "CannotBuild",
            Self::ForeignObject => "ForeignObject",
            Self::ChildRefused => "ChildRefused",
            Self::ChildForbidden => "ChildForbidden",
            Self::WebhookFailed => "WebhookFailed",
            Self::ChildConflict => "ChildConflict",
            Self::ChildUnanswered => "ChildUnanswered",
            Self::ChildFailed => "ChildFailed",
        }
    }

    /// Whether waiting alone does not help.
    pub fn lasting(self) -> bool {
        matches!(
            self,
            Self::CannotBuild | Self::ForeignObject | Self::ChildRefused | Self::ChildForbidden
        )
    }

    fn of(status: &Status) -> Self {
        let says = |text: &str| status.message.contains(text);
        if says("failed calling webhook") {
            Self::WebhookFailed
        } else if status.is_invalid() || status.code == 400 || REFUSALS.into_iter().any(says) {
            Self::ChildRefused
        } else if status.is_forbidden() {
            Self::ChildForbidden
        } else if status.is_conflict() {
            Self::ChildConflict
        } else {
            Self::ChildFailed
        }
    }
}

/// What a refusal says that is not for a lack of rights of ours, whatever its code.
const REFUSALS: [&str; 5] = [
    "exceeded quota",
    "admission webhook",
    "ValidatingAdmissionPolicy",
    "violates",
    "being terminated",
];

/// Why a child is not as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildProblem {
    /// The reason.
    pub reason: ProblemReason,
    /// What is in the way.
    pub message: String,
}

/// By target.
pub type ChildProblems = BTreeMap<String, ChildProblem>;

impl From<ApplyError> for ChildProblem {
    fn from(error: ApplyError) -> Self {
        let (ApplyError::Read { source, .. }
        | ApplyError::Write { source, .. }
        | ApplyError::Delete { source, .. }) = &error
        else {
            return Self {
                reason: ProblemReason::CannotBuild,
                message: crate::queue::chain(&error),
            };
        };
        let (reason, words) = match source.as_ref() {
            kube::Error::Api(status) => (ProblemReason::of(status), status.message.clone()),
            other => (ProblemReason::ChildUnanswered, other.to_string()),
        };
        Self {
            reason,
            message: format!("{error}: {words}"),
        }
    }
}

impl ChildProblem {
    /// Both, by the reason of the first.
    pub(super) fn and(mut self, other: Option<Self>) -> Self {
        if let Some(other) = other {
            self.message = format!("{}; {}", self.message, other.message);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(
        400,
        "admission webhook \"w\" denied the request: no",
        ProblemReason::ChildRefused,
        true
    )]
    #[case(
        403,
        "admission webhook \"w\" denied the request: no",
        ProblemReason::ChildRefused,
        true
    )]
    #[case(
        418,
        "admission webhook \"w\" denied the request: no",
        ProblemReason::ChildRefused,
        true
    )]
    #[case(422, "spec.replicas: Invalid value", ProblemReason::ChildRefused, true)]
    #[case(
        403,
        "pods is forbidden: exceeded quota: q",
        ProblemReason::ChildRefused,
        true
    )]
    #[case(
        403,
        "deployments.apps is forbidden: User \"u\" cannot patch",
        ProblemReason::ChildForbidden,
        true
    )]
    #[case(
        500,
        "Internal error occurred: failed calling webhook \"w\": EOF",
        ProblemReason::WebhookFailed,
        false
    )]
    #[case(
        409,
        "the object has been modified",
        ProblemReason::ChildConflict,
        false
    )]
    #[case(
        504,
        "Timeout: request did not complete",
        ProblemReason::ChildFailed,
        false
    )]
    fn a_refusal_has_a_reason_and_its_words(
        #[case] code: u16,
        #[case] message: &str,
        #[case] reason: ProblemReason,
        #[case] lasting: bool,
    ) {
        let status = Status {
            code,
            message: message.into(),
            reason: match code {
                403 => "Forbidden",
                409 => "Conflict",
                422 => "Invalid",
                _ => "",
            }
            .into(),
            ..Status::default()
        };
        let problem = ChildProblem::from(ApplyError::Write {
            kind: "Service".into(),
            name: "s".into(),
            source: Box::new(kube::Error::Api(Box::new(status))),
        });
        assert_eq!(
            (problem.reason, problem.reason.lasting()),
            (reason, lasting)
        );
        assert_eq!(
            problem.message,
            format!("Service s could not be written: {message}")
        );
    }
}

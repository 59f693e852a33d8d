//! Why a target that the placement names has no route.

use weir_terms::Breach;

/// Why a target that the placement names has no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The spec has no such target, or this plane does not serve it.
    NotServed,
    /// The spec names something else there than what was decided about.
    Undecided,
    /// A newer generation of the spec than the present one closed it.
    ByNewerSpec,
    /// The provider's terms do not satisfy the workload.
    Terms(Breach),
    /// The provider cannot be used, or does not offer the model.
    Unusable,
    /// The API server was not heard for too long to know whether it is still allowed.
    NoContact,
}

impl std::fmt::Display for Closed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::NotServed => "it is not served here",
            Self::Undecided => "its definition changed and was not decided about yet",
            Self::ByNewerSpec => {
                "a newer generation of the workload, which the cluster has lost, did not allow it: apply the workload again"
            }
            Self::Terms(Breach::JurisdictionUnknown) => {
                "its provider states no jurisdiction and dataPolicy.allowedJurisdictions names some"
            }
            Self::Terms(Breach::JurisdictionNotAllowed) => {
                "its provider is not in dataPolicy.allowedJurisdictions"
            }
            Self::Terms(Breach::RetentionNotZero | Breach::RetentionUnknown) => {
                "its provider may retain data and dataPolicy.requireZeroRetention is set"
            }
            Self::Terms(Breach::NamespaceNotAllowed) => {
                "its provider does not admit the workload's namespace"
            }
            Self::Unusable => "its provider cannot be used or does not offer the model",
            Self::NoContact => {
                "this gateway has not heard the cluster's API server for too long to know whether it is still allowed"
            }
        })
    }
}

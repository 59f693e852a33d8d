//! Whether a provider's terms satisfy what a workload says about its data. One pure function: the operator decides by it,
//! and every gateway asks it again before a target at a provider gets a route.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

/// What a workload demands of a provider that gets its data.
#[derive(Clone, Copy, Debug)]
pub struct Demands<'a> {
    /// Jurisdictions that it may be in; empty means any.
    pub allowed_jurisdictions: &'a BTreeSet<String>,
    /// Whether it must keep nothing of what it is sent.
    pub require_zero_retention: bool,
}

/// What a provider declares.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Where it processes data, if it says.
    pub jurisdiction: Option<&'a str>,
    /// Whether it keeps nothing of what it is sent, if that is known.
    pub zero_retention: Option<bool>,
    /// Whether it admits the workload's namespace; see [`admits`].
    pub admits_namespace: bool,
}

/// What a provider's terms fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// The workload names jurisdictions and the provider's is unknown.
    JurisdictionUnknown,
    /// The provider is in another jurisdiction.
    JurisdictionNotAllowed,
    /// The provider keeps data and the workload forbids it.
    RetentionNotZero,
    /// The workload forbids retention and it is unknown.
    RetentionUnknown,
    /// The provider does not admit the workload's namespace.
    NamespaceNotAllowed,
}

/// Everything that the terms fail, in a fixed order; empty when data may go there. What is unknown satisfies nothing.
pub fn breaches(demands: Demands<'_>, terms: Terms<'_>) -> Vec<Breach> {
    let allowed = demands.allowed_jurisdictions;
    let jurisdiction = match terms.jurisdiction {
        _ if allowed.is_empty() => None,
        None => Some(Breach::JurisdictionUnknown),
        Some(jurisdiction) if !allowed.contains(jurisdiction) => {
            Some(Breach::JurisdictionNotAllowed)
        }
        Some(_) => None,
    };
    let retention = match terms.zero_retention {
        _ if !demands.require_zero_retention => None,
        Some(true) => None,
        Some(false) => Some(Breach::RetentionNotZero),
        None => Some(Breach::RetentionUnknown),
    };
    let namespace = (!terms.admits_namespace).then_some(Breach::NamespaceNotAllowed);
    [jurisdiction, retention, namespace]
        .into_iter()
        .flatten()
        .collect()
}

/// Whether a provider's `allowedNamespaces` admit a namespace; an empty list admits all.
pub fn admits(allowed_namespaces: &[String], namespace: &str) -> bool {
    allowed_namespaces.is_empty() || allowed_namespaces.iter().any(|each| each == namespace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::nothing_demanded(&[], false, None, None, true, &[])]
    #[case::all_met(&["EU"], true, Some("EU"), Some(true), true, &[])]
    #[case::elsewhere(&["EU"], false, Some("US"), None, true, &[Breach::JurisdictionNotAllowed])]
    #[case::nowhere(&["EU"], false, None, None, true, &[Breach::JurisdictionUnknown])]
    #[case::keeps(&[], true, None, Some(false), true, &[Breach::RetentionNotZero])]
    #[case::may_keep(&[], true, None, None, true, &[Breach::RetentionUnknown])]
    #[case::shut(&[], false, None, None, false, &[Breach::NamespaceNotAllowed])]
    #[case::everything(&["EU"], true, Some("US"), Some(false), false,
        &[Breach::JurisdictionNotAllowed, Breach::RetentionNotZero, Breach::NamespaceNotAllowed])]
    fn what_is_demanded_is_met_or_named(
        #[case] allowed: &[&str],
        #[case] require_zero_retention: bool,
        #[case] jurisdiction: Option<&str>,
        #[case] zero_retention: Option<bool>,
        #[case] admits_namespace: bool,
        #[case] expected: &[Breach],
    ) {
        let allowed = allowed.iter().map(ToString::to_string).collect();
        let demands = Demands {
            allowed_jurisdictions: &allowed,
            require_zero_retention,
        };
        let terms = Terms {
            jurisdiction,
            zero_retention,
            admits_namespace,
        };
        assert_eq!(breaches(demands, terms), expected);
    }

    #[test]
    fn an_empty_list_admits_every_namespace() {
        let only = ["team-a".to_owned()];
        assert!(admits(&[], "team-b") && admits(&only, "team-a") && !admits(&only, "team-b"));
    }
}

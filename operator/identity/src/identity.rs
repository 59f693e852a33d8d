//! The identity of a component and its SPIFFE form, parsed strictly.

use std::fmt;
use std::str::FromStr;

/// The SPIFFE trust domain, and the suffix of every DNS name in a certificate.
pub const TRUST_DOMAIN: &str = "weir.internal";

const SCHEME: &str = "spiffe://weir.internal/";

/// Who a certificate speaks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identity {
    /// The node agent of one node.
    Agent {
        /// Name of the Node object.
        node: String,
    },
    /// One pod of the local gateway plane.
    GatewayLocal {
        /// UID of the pod.
        pod_uid: String,
    },
    /// One pod of the cloud gateway plane.
    GatewayCloud {
        /// UID of the pod.
        pod_uid: String,
    },
    /// The operator, whichever replica leads.
    Operator,
}

/// The kind of an [`Identity`], without the name in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IdentityKind {
    /// See [`Identity::Agent`].
    Agent,
    /// See [`Identity::GatewayLocal`].
    GatewayLocal,
    /// See [`Identity::GatewayCloud`].
    GatewayCloud,
    /// See [`Identity::Operator`].
    Operator,
}

/// Why a text is not an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an identity of {TRUST_DOMAIN}: {text:?}")]
pub struct ParseIdentityError {
    /// The text, cut to 300 characters.
    pub text: String,
}

impl Identity {
    /// The kind without the name.
    pub fn kind(&self) -> IdentityKind {
        match self {
            Self::Agent { .. } => IdentityKind::Agent,
            Self::GatewayLocal { .. } => IdentityKind::GatewayLocal,
            Self::GatewayCloud { .. } => IdentityKind::GatewayCloud,
            Self::Operator => IdentityKind::Operator,
        }
    }

    /// `spiffe://weir.internal/…`, the URI SAN of the certificate.
    pub fn spiffe_uri(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent { node } => write!(f, "{SCHEME}agent/{node}"),
            Self::GatewayLocal { pod_uid } => write!(f, "{SCHEME}gateway-local/{pod_uid}"),
            Self::GatewayCloud { pod_uid } => write!(f, "{SCHEME}gateway-cloud/{pod_uid}"),
            Self::Operator => write!(f, "{SCHEME}operator"),
        }
    }
}

impl FromStr for Identity {
    type Err = ParseIdentityError;

    /// Accepts exactly what [`Identity::spiffe_uri`] writes: no other case, port, query, fragment or empty part.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || ParseIdentityError {
            text: text.chars().take(300).collect(),
        };
        let path = text.strip_prefix(SCHEME).ok_or_else(refused)?;
        if path == "operator" {
            return Ok(Self::Operator);
        }
        let (kind, name) = path.split_once('/').ok_or_else(refused)?;
        match kind {
            "agent" if is_dns_subdomain(name) => Ok(Self::Agent { node: name.into() }),
            "gateway-local" if is_dns_label(name) => Ok(Self::GatewayLocal {
                pod_uid: name.into(),
            }),
            "gateway-cloud" if is_dns_label(name) => Ok(Self::GatewayCloud {
                pod_uid: name.into(),
            }),
            _ => Err(refused()),
        }
    }
}

/// The DNS SAN of a pod's certificate, by which a dialer knows the pod.
pub fn dns_name(pod_uid: &str) -> String {
    format!("{pod_uid}.{TRUST_DOMAIN}")
}

/// RFC 1123 label: lower case, digits, inner hyphens, 63 characters at most.
pub(crate) fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|b| alphanumeric(b) || *b == b'-')
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
}

/// RFC 1123 subdomain: labels joined by dots, 253 characters at most.
pub(crate) fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(Identity::Agent { node: "gpu-1.example.com".into() }, "spiffe://weir.internal/agent/gpu-1.example.com")]
    #[case(Identity::GatewayLocal { pod_uid: "1c7b".into() }, "spiffe://weir.internal/gateway-local/1c7b")]
    #[case(Identity::GatewayCloud { pod_uid: "1c7b".into() }, "spiffe://weir.internal/gateway-cloud/1c7b")]
    #[case(Identity::Operator, "spiffe://weir.internal/operator")]
    fn identity_and_uri_are_one(#[case] identity: Identity, #[case] uri: &str) {
        assert_eq!(identity.spiffe_uri(), uri);
        assert_eq!(uri.parse::<Identity>(), Ok(identity));
    }

    #[rstest]
    #[case("")]
    #[case("spiffe://weir.internal/")]
    #[case("spiffe://weir.internal/operator/")]
    #[case("spiffe://weir.internal/operator?x")]
    #[case("spiffe://weir.internal//operator")]
    #[case("spiffe://weir.internal:443/operator")]
    #[case("SPIFFE://weir.internal/operator")]
    #[case("spiffe://weir.internal.evil/operator")]
    #[case("spiffe://evil/operator")]
    #[case("https://weir.internal/operator")]
    #[case("spiffe://weir.internal/agent")]
    #[case("spiffe://weir.internal/agent/")]
    #[case("spiffe://weir.internal/agent/a/b")]
    #[case("spiffe://weir.internal/agent/A")]
    #[case("spiffe://weir.internal/agent/..")]
    #[case("spiffe://weir.internal/agent/a%2e")]
    #[case("spiffe://weir.internal/gateway-local/a.b")]
    #[case("spiffe://weir.internal/gateway/a")]
    #[case("spiffe://weir.internal/agent/a\n")]
    fn anything_else_is_refused(#[case] text: &str) {
        assert!(text.parse::<Identity>().is_err());
    }
}

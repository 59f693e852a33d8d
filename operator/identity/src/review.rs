//! The review of a `CertificateSigningRequest`: a pure decision about whom it may be signed for.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec,
};

use crate::identity::{is_dns_label, is_dns_subdomain};
use crate::{Identity, MAX_LEAF_LIFETIME, dns_name};

/// The signer that Weir's operator is.
pub const SIGNER_NAME: &str = "inference.weir.dev/component";

/// The usages of a leaf, no more and no fewer.
pub(crate) const USAGES: [&str; 3] = ["digital signature", "client auth", "server auth"];

const CLAIM_NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const CLAIM_POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const CLAIM_POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Shortest life that Kubernetes lets a requester ask for.
const MIN_LIFETIME: Duration = Duration::from_secs(600);

/// ServiceAccount names of the components that may ask for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccounts {
    /// Of the node agents.
    pub agent: String,
    /// Of the local gateway plane.
    pub gateway_local: String,
    /// Of the cloud gateway plane.
    pub gateway_cloud: String,
}

impl Default for ServiceAccounts {
    fn default() -> Self {
        Self {
            agent: "weir-node-agent".into(),
            gateway_local: "weir-gateway-local".into(),
            gateway_cloud: "weir-gateway-cloud".into(),
        }
    }
}

/// What a review holds requests against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reviewer {
    /// Namespace of the components' ServiceAccounts: the release namespace.
    pub namespace: String,
    /// Their names.
    pub service_accounts: ServiceAccounts,
}

/// A request that may be signed, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approved {
    /// Goes into the URI SAN.
    pub identity: Identity,
    /// Goes into the DNS SAN: `<pod-uid>.weir.internal`.
    pub dns_san: String,
    /// Node of the requesting pod, as the API server attested it.
    pub node: String,
    /// Name of the requesting pod, as the API server attested it.
    pub pod_name: String,
    /// UID of the requesting pod, as the API server attested it.
    pub pod_uid: String,
    /// The request itself.
    pub csr_pem: String,
    /// How long the leaf may live.
    pub ttl: Duration,
}

/// Why a request is not signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningRefusal {
    /// Meant for another signer: to be ignored, not denied.
    #[error("signer {0:?} is not {SIGNER_NAME}")]
    OtherSigner(String),
    /// Not one of the components' ServiceAccounts.
    #[error("user {0:?} is not a component of this release")]
    UnknownUser(String),
    /// A bound-token claim is missing: the token was not a pod's.
    #[error("claim {0} is missing")]
    MissingClaim(&'static str),
    /// A claim has several values.
    #[error("claim {0} has {1} values")]
    AmbiguousClaim(&'static str, usize),
    /// A claim's value is no name.
    #[error("claim {0} has the malformed value {1:?}")]
    MalformedClaim(&'static str, String),
    /// Other usages than a component needs.
    #[error("usages {0:?} are not exactly digital signature, client auth, server auth")]
    Usages(Vec<String>),
    /// The request is not text.
    #[error("certificate request is not PEM")]
    NotPem,
    /// The asked life is not positive.
    #[error("expirationSeconds {0} is out of range")]
    Expiration(i32),
}

impl SigningRefusal {
    /// A CamelCase reason for a condition.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::OtherSigner(_) => "OtherSigner",
            Self::UnknownUser(_) => "UnknownUser",
            Self::MissingClaim(_) => "MissingClaim",
            Self::AmbiguousClaim(..) => "AmbiguousClaim",
            Self::MalformedClaim(..) => "MalformedClaim",
            Self::Usages(_) => "UnexpectedUsages",
            Self::NotPem => "MalformedRequest",
            Self::Expiration(_) => "ExpirationOutOfRange",
        }
    }
}

/// Whether the request already has an answer (certificate, denial or failure) and needs none from us.
pub fn is_settled(csr: &CertificateSigningRequest) -> bool {
    let Some(status) = &csr.status else {
        return false;
    };
    let finished = status
        .conditions
        .iter()
        .flatten()
        .any(|c| matches!(c.type_.as_str(), "Denied" | "Failed") && c.status == "True");
    finished || status.certificate.is_some()
}

/// Decides whom `csr` may be signed for, from what the API server attests about its creator and nothing else.
pub fn review(
    csr: &CertificateSigningRequest,
    reviewer: &Reviewer,
) -> Result<Approved, SigningRefusal> {
    let spec = &csr.spec;
    if spec.signer_name != SIGNER_NAME {
        return Err(SigningRefusal::OtherSigner(spec.signer_name.clone()));
    }
    let username = spec.username.as_deref().unwrap_or_default();
    let unknown = || SigningRefusal::UnknownUser(username.to_owned());
    let account = username
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
        .filter(|(namespace, _)| *namespace == reviewer.namespace)
        .map(|(_, name)| name)
        .ok_or_else(unknown)?;
    let node = claim(spec, CLAIM_NODE_NAME, is_dns_subdomain)?;
    let pod_name = claim(spec, CLAIM_POD_NAME, is_dns_subdomain)?;
    let pod_uid = claim(spec, CLAIM_POD_UID, is_dns_label)?;
    let accounts = &reviewer.service_accounts;
    let identity = if account == accounts.agent {
        Identity::Agent { node: node.clone() }
    } else if account == accounts.gateway_local {
        Identity::GatewayLocal {
            pod_uid: pod_uid.clone(),
        }
    } else if account == accounts.gateway_cloud {
        Identity::GatewayCloud {
            pod_uid: pod_uid.clone(),
        }
    } else {
        return Err(unknown());
    };
    check_usages(spec)?;
    let csr_pem = String::from_utf8(spec.request.0.clone()).map_err(|_| SigningRefusal::NotPem)?;
    Ok(Approved {
        identity,
        dns_san: dns_name(&pod_uid),
        node,
        pod_name,
        pod_uid,
        csr_pem,
        ttl: lifetime(spec.expiration_seconds)?,
    })
}

fn claim(
    spec: &CertificateSigningRequestSpec,
    name: &'static str,
    valid: fn(&str) -> bool,
) -> Result<String, SigningRefusal> {
    let values = spec
        .extra
        .as_ref()
        .and_then(|extra| extra.get(name))
        .map(Vec::as_slice)
        .unwrap_or_default();
    match values {
        [] => Err(SigningRefusal::MissingClaim(name)),
        [value] if valid(value) => Ok(value.clone()),
        [value] => Err(SigningRefusal::MalformedClaim(name, value.clone())),
        several => Err(SigningRefusal::AmbiguousClaim(name, several.len())),
    }
}

fn check_usages(spec: &CertificateSigningRequestSpec) -> Result<(), SigningRefusal> {
    let asked = spec.usages.as_deref().unwrap_or_default();
    let set: BTreeSet<&str> = asked.iter().map(String::as_str).collect();
    if set.len() == asked.len() && set == BTreeSet::from(USAGES) {
        return Ok(());
    }
    Err(SigningRefusal::Usages(asked.to_vec()))
}

fn lifetime(asked: Option<i32>) -> Result<Duration, SigningRefusal> {
    let Some(asked) = asked else {
        return Ok(MAX_LEAF_LIFETIME);
    };
    let seconds = u64::try_from(asked).map_err(|_| SigningRefusal::Expiration(asked))?;
    Ok(Duration::from_secs(seconds).clamp(MIN_LIFETIME, MAX_LEAF_LIFETIME))
}

//! A table of genuine and forged certificate requests.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestSpec,
    CertificateSigningRequestStatus,
};
use rstest::rstest;
use weir_identity::{
    Identity, Reviewer, SIGNER_NAME, ServiceAccounts, SigningRefusal, is_settled, review,
};

const NODE: &str = "authentication.kubernetes.io/node-name";
const POD: &str = "authentication.kubernetes.io/pod-name";
const UID: &str = "authentication.kubernetes.io/pod-uid";

fn reviewer() -> Reviewer {
    Reviewer {
        namespace: "weir-system".into(),
        service_accounts: ServiceAccounts::default(),
    }
}

fn genuine(account: &str) -> CertificateSigningRequest {
    let extra = [
        (NODE, "gpu-1.example.com"),
        (POD, "weir-pod-x7f2k"),
        (UID, "0a1b2c3d-0000-4000-8000-000000000001"),
    ];
    CertificateSigningRequest {
        spec: CertificateSigningRequestSpec {
            signer_name: SIGNER_NAME.into(),
            username: Some(format!("system:serviceaccount:weir-system:{account}")),
            extra: Some(
                extra
                    .map(|(k, v)| (k.to_owned(), vec![v.to_owned()]))
                    .into(),
            ),
            usages: Some(vec![
                "server auth".into(),
                "digital signature".into(),
                "client auth".into(),
            ]),
            request: ByteString(b"pem".to_vec()),
            expiration_seconds: Some(86_400),
            ..CertificateSigningRequestSpec::default()
        },
        ..CertificateSigningRequest::default()
    }
}

#[rstest]
#[case("weir-node-agent", "spiffe://weir.internal/agent/gpu-1.example.com")]
#[case(
    "weir-gateway-local",
    "spiffe://weir.internal/gateway-local/0a1b2c3d-0000-4000-8000-000000000001"
)]
#[case(
    "weir-gateway-cloud",
    "spiffe://weir.internal/gateway-cloud/0a1b2c3d-0000-4000-8000-000000000001"
)]
fn component_gets_the_identity_that_its_token_proves(#[case] account: &str, #[case] uri: &str) {
    let approved = review(&genuine(account), &reviewer()).unwrap();
    assert_eq!(approved.identity.spiffe_uri(), uri);
    assert_eq!(
        approved.dns_san,
        "0a1b2c3d-0000-4000-8000-000000000001.weir.internal"
    );
    assert_eq!(approved.node, "gpu-1.example.com");
    assert_eq!(approved.pod_name, "weir-pod-x7f2k");
    assert_eq!(approved.csr_pem, "pem");
    assert_eq!(approved.ttl, Duration::from_secs(86_400));
}

type Forge = fn(&mut CertificateSigningRequestSpec);

fn extra(spec: &mut CertificateSigningRequestSpec) -> &mut BTreeMap<String, Vec<String>> {
    spec.extra.get_or_insert_default()
}

/// What a forger changes, what it does, and the reason of the refusal.
const FORGERIES: &[(&str, Forge, &str)] = &[
    (
        "kubelet signer",
        |s| s.signer_name = "kubernetes.io/kubelet-serving".into(),
        "OtherSigner",
    ),
    (
        "signer in our domain",
        |s| s.signer_name = "inference.weir.dev/other".into(),
        "OtherSigner",
    ),
    ("no user", |s| s.username = None, "UnknownUser"),
    (
        "a person",
        |s| s.username = Some("weir-node-agent".into()),
        "UnknownUser",
    ),
    (
        "a node",
        |s| s.username = Some("system:node:gpu-1".into()),
        "UnknownUser",
    ),
    (
        "other namespace",
        |s| s.username = Some("system:serviceaccount:default:weir-node-agent".into()),
        "UnknownUser",
    ),
    (
        "namespace prefix",
        |s| s.username = Some("system:serviceaccount:weir-system-2:weir-node-agent".into()),
        "UnknownUser",
    ),
    (
        "other account",
        |s| s.username = Some("system:serviceaccount:weir-system:default".into()),
        "UnknownUser",
    ),
    (
        "the operator",
        |s| s.username = Some("system:serviceaccount:weir-system:weir-operator".into()),
        "UnknownUser",
    ),
    (
        "colon in account",
        |s| s.username = Some("system:serviceaccount:weir-system:weir-node-agent:x".into()),
        "UnknownUser",
    ),
    ("no claims", |s| s.extra = None, "MissingClaim"),
    (
        "no node",
        |s| {
            extra(s).remove(NODE);
        },
        "MissingClaim",
    ),
    (
        "no pod",
        |s| {
            extra(s).remove(POD);
        },
        "MissingClaim",
    ),
    (
        "no uid",
        |s| {
            extra(s).remove(UID);
        },
        "MissingClaim",
    ),
    (
        "empty list",
        |s| {
            extra(s).insert(NODE.into(), vec![]);
        },
        "MissingClaim",
    ),
    (
        "two nodes",
        |s| {
            extra(s)
                .entry(NODE.into())
                .or_default()
                .push("gpu-2".into())
        },
        "AmbiguousClaim",
    ),
    (
        "node with slash",
        |s| {
            extra(s).insert(NODE.into(), vec!["a/b".into()]);
        },
        "MalformedClaim",
    ),
    (
        "empty node",
        |s| {
            extra(s).insert(NODE.into(), vec![String::new()]);
        },
        "MalformedClaim",
    ),
    (
        "wildcard uid",
        |s| {
            extra(s).insert(UID.into(), vec!["*".into()]);
        },
        "MalformedClaim",
    ),
    (
        "dotted uid",
        |s| {
            extra(s).insert(UID.into(), vec!["a.b".into()]);
        },
        "MalformedClaim",
    ),
    ("no usages", |s| s.usages = None, "UnexpectedUsages"),
    (
        "fewer usages",
        |s| s.usages = Some(vec!["client auth".into()]),
        "UnexpectedUsages",
    ),
    (
        "cert sign",
        |s| s.usages.get_or_insert_default().push("cert sign".into()),
        "UnexpectedUsages",
    ),
    (
        "repeated usage",
        |s| s.usages.get_or_insert_default().push("client auth".into()),
        "UnexpectedUsages",
    ),
    (
        "not text",
        |s| s.request = ByteString(vec![0xff]),
        "MalformedRequest",
    ),
    (
        "negative life",
        |s| s.expiration_seconds = Some(-1),
        "ExpirationOutOfRange",
    ),
];

#[test]
fn forged_requests_are_refused() {
    for (what, forge, reason) in FORGERIES {
        let mut csr = genuine("weir-node-agent");
        forge(&mut csr.spec);
        let refusal = review(&csr, &reviewer()).unwrap_err();
        assert_eq!(refusal.reason(), *reason, "{what}: {refusal}");
    }
}

#[rstest]
#[case(None, 86_400)]
#[case(Some(600), 600)]
#[case(Some(1), 600)]
#[case(Some(31_536_000), 86_400)]
fn life_is_at_most_a_day(#[case] asked: Option<i32>, #[case] given: u64) {
    let mut csr = genuine("weir-node-agent");
    csr.spec.expiration_seconds = asked;
    let approved = review(&csr, &reviewer()).unwrap();
    assert_eq!(approved.ttl, Duration::from_secs(given));
}

#[test]
fn identity_comes_from_the_token_and_not_from_the_object() {
    let mut csr = genuine("weir-node-agent");
    csr.metadata.name = Some("weir-node-agent-gpu-2".into());
    let approved = review(&csr, &reviewer()).unwrap();
    let expected = Identity::Agent {
        node: "gpu-1.example.com".into(),
    };
    assert_eq!(approved.identity, expected);
}

#[test]
fn renamed_service_accounts_are_followed() {
    let mut renamed = reviewer();
    renamed.service_accounts.agent = "eyes".into();
    assert!(review(&genuine("eyes"), &renamed).is_ok());
    assert!(matches!(
        review(&genuine("weir-node-agent"), &renamed),
        Err(SigningRefusal::UnknownUser(_))
    ));
}

#[rstest]
#[case(None, None, false)]
#[case(Some("Approved"), None, false)]
#[case(Some("Denied"), None, true)]
#[case(Some("Failed"), None, true)]
#[case(Some("Approved"), Some("pem"), true)]
fn answered_request_is_settled(
    #[case] condition: Option<&str>,
    #[case] certificate: Option<&str>,
    #[case] settled: bool,
) {
    let mut csr = genuine("weir-node-agent");
    csr.status = Some(CertificateSigningRequestStatus {
        certificate: certificate.map(|text| ByteString(text.as_bytes().to_vec())),
        conditions: condition.map(|type_| {
            vec![CertificateSigningRequestCondition {
                type_: type_.into(),
                status: "True".into(),
                ..CertificateSigningRequestCondition::default()
            }]
        }),
    });
    assert_eq!(is_settled(&csr), settled);
}

//! What the authority puts into a leaf, and what it refuses.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{CertificateParams, IsCa, KeyPair, SanType};
use rstest::rstest;
use weir_identity::{CertificateAuthority, Identity, IssueError, Leaf};

const HOUR: Duration = Duration::from_secs(3600);

fn agent() -> Identity {
    Identity::Agent { node: "n1".into() }
}

fn now() -> Timestamp {
    Timestamp::now()
}

fn csr(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::default();
    change(&mut params);
    params.serialize_request(key).unwrap().pem().unwrap()
}

#[test]
fn leaf_carries_the_given_names_and_nothing_that_the_request_asks_for() {
    let authority = CertificateAuthority::generate(now()).unwrap();
    let key = KeyPair::generate().unwrap();
    let request = csr(&key, |params| {
        params.subject_alt_names = vec![
            SanType::URI("spiffe://weir.internal/operator".try_into().unwrap()),
            SanType::DnsName("victim.weir.internal".try_into().unwrap()),
        ];
        params.is_ca = IsCa::ExplicitNoCa;
    });
    let chain = authority
        .issue(&request, &agent(), Some("uid-1.weir.internal"), now(), HOUR)
        .unwrap();
    let leaf = Leaf::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes(), now()).unwrap();
    assert_eq!(*leaf.identity(), agent());
    assert_eq!(leaf.dns_names(), ["uid-1.weir.internal"]);
    let life = leaf.not_after().as_second() - now().as_second();
    assert!((3590..=3600).contains(&life), "{life}");
}

#[test]
fn no_leaf_lives_longer_than_a_day_or_than_its_authority() {
    let week = Duration::from_secs(7 * 86_400);
    let authority = CertificateAuthority::generate(now()).unwrap();
    let leaf = authority.issue_own(&agent(), None, now(), week).unwrap();
    assert!(leaf.not_after() <= now() + Duration::from_secs(86_400));
    let late = authority.not_after() - HOUR;
    let leaf = authority.issue_own(&agent(), None, late, week).unwrap();
    assert_eq!(leaf.not_after(), authority.not_after());
}

#[test]
fn authority_survives_its_pem_form() {
    let first = CertificateAuthority::generate(now()).unwrap();
    let second = CertificateAuthority::from_pem(first.certificate_pem(), &first.key_pem()).unwrap();
    let a = first.issue_own(&agent(), None, now(), HOUR).unwrap();
    let b = second.issue_own(&agent(), None, now(), HOUR).unwrap();
    assert_eq!(a.authority(), b.authority());
}

#[test]
fn authority_with_a_foreign_key_is_refused() {
    let first = CertificateAuthority::generate(now()).unwrap();
    let second = CertificateAuthority::generate(now()).unwrap();
    let mixed = CertificateAuthority::from_pem(first.certificate_pem(), &second.key_pem());
    assert!(matches!(mixed, Err(IssueError::AuthorityMismatch(_))));
}

#[test]
fn leaf_is_no_authority() {
    let authority = CertificateAuthority::generate(now()).unwrap();
    let key = KeyPair::generate().unwrap();
    let chain = authority
        .issue(&csr(&key, |_| {}), &agent(), None, now(), HOUR)
        .unwrap();
    let promoted = CertificateAuthority::from_pem(&chain, &key.serialize_pem());
    assert!(matches!(promoted, Err(IssueError::AuthorityMismatch(_))));
}

#[test]
fn leaf_with_another_key_does_not_load() {
    let authority = CertificateAuthority::generate(now()).unwrap();
    let key = KeyPair::generate().unwrap();
    let chain = authority
        .issue(&csr(&key, |_| {}), &agent(), None, now(), HOUR)
        .unwrap();
    let other = KeyPair::generate().unwrap().serialize_pem();
    assert!(Leaf::from_pem(chain.as_bytes(), other.as_bytes(), now()).is_err());
}

#[rstest]
#[case::empty("")]
#[case::not_pem("hello")]
#[case::not_a_request(
    "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"
)]
fn malformed_request_is_refused(#[case] pem: &str) {
    let authority = CertificateAuthority::generate(now()).unwrap();
    let result = authority.issue(pem, &agent(), None, now(), HOUR);
    assert!(matches!(result, Err(IssueError::Request(_))));
}

#[test]
fn request_whose_signature_does_not_verify_is_refused() {
    let authority = CertificateAuthority::generate(now()).unwrap();
    let key = KeyPair::generate().unwrap();
    let der = CertificateParams::default()
        .serialize_request(&key)
        .unwrap()
        .der()
        .to_vec();
    let mut forged = der.clone();
    // Inside the subject's common name: still well formed, no longer what was signed.
    let at = forged
        .windows(5)
        .position(|window| window == b"rcgen")
        .unwrap();
    forged[at] = b'R';
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(&forged);
    let pem =
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n");
    let result = authority.issue(&pem, &agent(), None, now(), HOUR);
    assert!(matches!(result, Err(IssueError::Request(_))), "{result:?}");
}

#[rstest]
#[case::p384(&rcgen::PKCS_ECDSA_P384_SHA384)]
#[case::ed25519(&rcgen::PKCS_ED25519)]
fn only_p256_keys_are_signed(#[case] algorithm: &'static rcgen::SignatureAlgorithm) {
    let authority = CertificateAuthority::generate(now()).unwrap();
    let key = KeyPair::generate_for(algorithm).unwrap();
    let result = authority.issue(&csr(&key, |_| {}), &agent(), None, now(), HOUR);
    assert!(matches!(result, Err(IssueError::UnsupportedKey)));
}

#[test]
fn oversized_request_is_refused_unread() {
    let authority = CertificateAuthority::generate(now()).unwrap();
    let result = authority.issue(&"x".repeat(20_000), &agent(), None, now(), HOUR);
    assert!(matches!(result, Err(IssueError::RequestTooLarge(20_000))));
}

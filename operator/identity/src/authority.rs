//! The certificate authority: signs leaves for identities that a reviewer approved.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use time::OffsetDateTime;

use crate::{Identity, Leaf, LeafError, dns_name};

/// No leaf lives longer.
pub const MAX_LEAF_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A leaf is valid from this much before it was signed, for clocks that are behind.
const BACKDATE: Duration = Duration::from_secs(300);
const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// An ECDSA P-256 request takes less than 1 KiB of PEM.
const MAX_CSR_PEM_BYTES: usize = 16 * 1024;
/// An uncompressed P-256 point.
const P256_POINT_BYTES: usize = 65;

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The CA certificate or its key cannot be used.
    #[error("unusable certificate authority")]
    Authority(#[source] rcgen::Error),
    /// Certificate and key of the CA are no pair, or the certificate is no CA.
    #[error("certificate authority is not usable: {0}")]
    AuthorityMismatch(&'static str),
    /// The request cannot be parsed or its signature does not verify.
    #[error("malformed certificate request")]
    Request(#[source] rcgen::Error),
    /// The request is larger than any genuine one.
    #[error("certificate request of {0} bytes is too large")]
    RequestTooLarge(usize),
    /// The request's key is not ECDSA P-256.
    #[error("certificate request holds a key that is not ECDSA P-256")]
    UnsupportedKey,
    /// A name cannot stand in a certificate.
    #[error("name {0:?} cannot stand in a certificate")]
    Name(String),
    /// The clock is out of the range of certificates.
    #[error("time out of range")]
    Time,
    /// Key generation or signing failed.
    #[error("signing failed")]
    Sign(#[source] rcgen::Error),
    /// No randomness.
    #[error("no randomness available")]
    Random,
    /// Our own new leaf does not load.
    #[error("issued leaf is not usable")]
    Leaf(#[source] LeafError),
}

/// A self-signed ECDSA P-256 authority with its key in memory.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    not_after: i64,
}

impl std::fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateAuthority")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl CertificateAuthority {
    /// A new authority, valid for ten years from `now`.
    pub fn generate(now: Timestamp) -> Result<Self, IssueError> {
        let key = KeyPair::generate().map_err(IssueError::Sign)?;
        let mut params = CertificateParams::default();
        // A name of its own, so that a peer of another authority is told apart from a forger.
        let number = hex_text(&serial()?.to_bytes()[..4]);
        params.distinguished_name = common_name(&format!("weir certificate authority {number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = instant(now, -seconds(BACKDATE))?;
        params.not_after = instant(now, seconds(CA_LIFETIME))?;
        params.serial_number = Some(serial()?);
        let certificate_pem = params.self_signed(&key).map_err(IssueError::Sign)?.pem();
        Self::from_pem(&certificate_pem, &key.serialize_pem())
    }

    /// The authority kept as PEM: certificate, and PKCS#8 key.
    ///
    /// Refuses a pair that does not match and a certificate that may not sign.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, IssueError> {
        let key = KeyPair::from_pem(key_pem).map_err(IssueError::Authority)?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes())
            .map_err(|_| IssueError::AuthorityMismatch("certificate is not PEM"))?;
        let certificate = pem
            .parse_x509()
            .map_err(|_| IssueError::AuthorityMismatch("certificate does not parse"))?;
        if !certificate.is_ca() {
            return Err(IssueError::AuthorityMismatch("certificate is not a CA"));
        }
        if *certificate.public_key().subject_public_key.data != *key.public_key_raw() {
            return Err(IssueError::AuthorityMismatch(
                "key does not belong to the certificate",
            ));
        }
        let not_after = certificate.validity().not_after.timestamp();
        let issuer =
            Issuer::from_ca_cert_pem(certificate_pem, key).map_err(IssueError::Authority)?;
        Ok(Self {
            issuer,
            certificate_pem: certificate_pem.to_owned(),
            not_after,
        })
    }

    /// The CA certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The CA key, PKCS#8 PEM, for the Secret that keeps it.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// When the CA certificate ends.
    pub fn not_after(&self) -> Timestamp {
        Timestamp::from_second(self.not_after).unwrap_or(Timestamp::MAX)
    }

    /// Signs a leaf for `identity` and returns leaf and CA as PEM, in this order.
    ///
    /// Of the request only the public key is taken (its signature proves possession); subject, names, usages and
    /// extensions that it asks for are ignored. The life is `ttl`, cut to [`MAX_LEAF_LIFETIME`] and to the CA's own.
    pub fn issue(
        &self,
        csr_pem: &str,
        identity: &Identity,
        dns_san: Option<&str>,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<String, IssueError> {
        if csr_pem.len() > MAX_CSR_PEM_BYTES {
            return Err(IssueError::RequestTooLarge(csr_pem.len()));
        }
        let request =
            CertificateSigningRequestParams::from_pem(csr_pem).map_err(IssueError::Request)?;
        let public_key = request.public_key;
        let is_p256 = PublicKeyData::algorithm(&public_key) == &rcgen::PKCS_ECDSA_P256_SHA256
            && public_key.der_bytes().len() == P256_POINT_BYTES;
        if !is_p256 {
            return Err(IssueError::UnsupportedKey);
        }
        self.sign(&public_key, identity, dns_san, now, ttl)
    }

    /// A leaf with a new key for the holder of the authority itself; the operator's way to its certificate.
    pub fn issue_own(
        &self,
        identity: &Identity,
        pod_uid: Option<&str>,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<Leaf, IssueError> {
        let key = KeyPair::generate().map_err(IssueError::Sign)?;
        let dns_san = pod_uid.map(dns_name);
        let chain = self.sign(&key, identity, dns_san.as_deref(), now, ttl)?;
        Leaf::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes(), now)
            .map_err(IssueError::Leaf)
    }

    fn sign(
        &self,
        public_key: &impl PublicKeyData,
        identity: &Identity,
        dns_san: Option<&str>,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<String, IssueError> {
        let life = seconds(ttl.min(MAX_LEAF_LIFETIME)).min(self.not_after - now.as_second());
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        params.subject_alt_names = subject_names(identity, dns_san)?;
        params.not_before = instant(now, -seconds(BACKDATE))?;
        params.not_after = instant(now, life)?;
        params.serial_number = Some(serial()?);
        params.use_authority_key_identifier_extension = true;
        let leaf = params
            .signed_by(public_key, &self.issuer)
            .map_err(IssueError::Sign)?;
        Ok(format!("{}{}", leaf.pem(), self.certificate_pem))
    }
}

fn subject_names(identity: &Identity, dns_san: Option<&str>) -> Result<Vec<SanType>, IssueError> {
    let text = |value: String| {
        value
            .as_str()
            .try_into()
            .map_err(|_| IssueError::Name(value.clone()))
    };
    let mut names = vec![SanType::URI(text(identity.spiffe_uri())?)];
    if let Some(name) = dns_san {
        names.push(SanType::DnsName(text(name.to_owned())?));
    }
    Ok(names)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn hex_text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn instant(now: Timestamp, offset_seconds: i64) -> Result<OffsetDateTime, IssueError> {
    OffsetDateTime::from_unix_timestamp(now.as_second().saturating_add(offset_seconds))
        .map_err(|_| IssueError::Time)
}

/// 127 random bits: positive, as RFC 5280 asks.
fn serial() -> Result<SerialNumber, IssueError> {
    let mut bytes = [0u8; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| IssueError::Random)?;
    bytes[0] = (bytes[0] & 0x7f) | 0x01;
    Ok(SerialNumber::from_slice(&bytes))
}

//! A throw-away authority and a server certificate for the fakes.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// PEM of an authority's certificate, and of a server's certificate and key.
pub struct ServerCertificate {
    /// The authority.
    pub ca: String,
    /// The server's certificate.
    pub certificate: String,
    /// The server's key.
    pub key: String,
}

/// Makes an authority and a certificate of it for these names.
pub fn server_certificate(names: &[String]) -> Result<ServerCertificate> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority
        .distinguished_name
        .push(DnType::CommonName, "demo authority");
    let authority_key = KeyPair::generate()?;
    let ca = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(names)?
        .signed_by(&key, &issuer)?
        .pem();
    Ok(ServerCertificate {
        ca,
        certificate,
        key: key.serialize_pem(),
    })
}

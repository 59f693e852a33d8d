//! A loaded certificate: key, chain, the pinned authority and the verifiers made from it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::ring::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{Identity, ParseIdentityError};

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    /// Chain or key is not PEM.
    #[error("certificate or key is not PEM")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// The chain is not exactly a leaf and its authority.
    #[error("expected a leaf and its authority, got {0} certificates")]
    ChainLength(usize),
    /// The certificate is not X.509.
    #[error("certificate does not parse")]
    Parse,
    /// The certificate names no identity, or more than one.
    #[error("certificate has {0} URI names instead of one")]
    UriNames(usize),
    /// The URI is not one of ours.
    #[error("certificate's URI is not an identity")]
    Identity(#[source] ParseIdentityError),
    /// Key and certificate are no pair, or the key type is unknown.
    #[error("key does not fit the certificate")]
    Key(#[source] rustls::Error),
    /// The authority cannot be a trust anchor.
    #[error("authority cannot be trusted")]
    Authority(#[source] rustls::Error),
    /// No verifier could be built.
    #[error("verifier cannot be built")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    /// The leaf does not verify against the authority that came with it.
    #[error("leaf does not verify against its authority")]
    Chain(#[source] rustls::Error),
}

/// A certificate in use: loaded, verified against its authority, with its key.
pub struct Leaf {
    identity: Identity,
    dns_names: Vec<String>,
    obtained: Timestamp,
    not_after: Timestamp,
    certified: Arc<CertifiedKey>,
    authority: CertificateDer<'static>,
    pub(crate) client_verifier: Arc<dyn ClientCertVerifier>,
    pub(crate) server_verifier: Arc<WebPkiServerVerifier>,
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaf")
            .field("identity", &self.identity)
            .field("dns_names", &self.dns_names)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Leaf {
    /// Loads leaf and CA (`chain_pem`, in this order) with the leaf's key, pinning the CA.
    pub fn from_pem(chain_pem: &[u8], key_pem: &[u8], now: Timestamp) -> Result<Self, LeafError> {
        let chain = CertificateDer::pem_slice_iter(chain_pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(LeafError::Pem)?;
        let count = chain.len();
        let [end_entity, authority] =
            <[_; 2]>::try_from(chain).map_err(|_| LeafError::ChainLength(count))?;
        let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(LeafError::Pem)?;
        Self::new(end_entity, authority, key, now)
    }

    fn new(
        end_entity: CertificateDer<'static>,
        authority: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
        now: Timestamp,
    ) -> Result<Self, LeafError> {
        let names = Names::of(&end_entity)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone()).map_err(LeafError::Authority)?;
        let roots = Arc::new(roots);
        let provider = Arc::new(default_provider());
        let client_verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(LeafError::Verifier)?;
        let server_verifier =
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .build()
                .map_err(LeafError::Verifier)?;
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        client_verifier
            .verify_client_cert(&end_entity, &[], at)
            .map_err(LeafError::Chain)?;
        let certified =
            CertifiedKey::from_der(vec![end_entity], key, &provider).map_err(LeafError::Key)?;
        Ok(Self {
            identity: names.identity,
            dns_names: names.dns_names,
            obtained: now,
            not_after: names.not_after,
            certified: Arc::new(certified),
            authority,
            client_verifier,
            server_verifier,
        })
    }

    /// Who this certificate speaks for.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The DNS names in it.
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// When it was loaded; renewal counts from here.
    pub fn obtained(&self) -> Timestamp {
        self.obtained
    }

    /// When it ends.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The authority that came with it, the only one trusted.
    pub fn authority(&self) -> &CertificateDer<'static> {
        &self.authority
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

/// What a certificate says about its holder.
pub(crate) struct Names {
    pub identity: Identity,
    pub dns_names: Vec<String>,
    not_after: Timestamp,
}

impl Names {
    /// Reads the names; exactly one URI, and that one an identity.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, LeafError> {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| LeafError::Parse)?;
        let not_after = Timestamp::from_second(parsed.validity().not_after.timestamp())
            .map_err(|_| LeafError::Parse)?;
        let names = parsed
            .subject_alternative_name()
            .map_err(|_| LeafError::Parse)?
            .map(|extension| extension.value.general_names.as_slice())
            .unwrap_or_default();
        let mut uris = Vec::new();
        let mut dns_names = Vec::new();
        for name in names {
            match name {
                GeneralName::URI(uri) => uris.push(*uri),
                GeneralName::DNSName(dns) => dns_names.push((*dns).to_owned()),
                _ => return Err(LeafError::Parse),
            }
        }
        let [uri] = uris.as_slice() else {
            return Err(LeafError::UriNames(uris.len()));
        };
        Ok(Self {
            identity: uri.parse().map_err(LeafError::Identity)?,
            dns_names,
            not_after,
        })
    }
}

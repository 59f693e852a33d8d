//! The HTTP client towards providers: TLS always, HTTP/1.1, no proxy, no redirects.

use super::guard::GuardedConnector;
use crate::upstream::connect::{Deadline, POOL_IDLE, UpstreamBody};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::sync::Arc;
use std::time::Duration;

/// A client with its pool of connections.
pub(crate) type ExternalClient = Client<Deadline<HttpsConnector<GuardedConnector>>, UpstreamBody>;

/// Time limits towards providers.
#[derive(Clone, Copy, Debug)]
pub struct ExternalTimeouts {
    /// Name, connection and TLS together.
    pub connect: Duration,
}

/// Why a provider's client cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The bundle has no certificate, or one that cannot be read.
    #[error("caBundle holds no certificate that can be read")]
    CaBundle,
    /// The TLS library refused its own defaults.
    #[error("tls cannot be set up")]
    Tls,
}

/// A client that trusts `ca_bundle`, or the public authorities where there is none.
///
/// # Errors
/// When the bundle cannot be read.
pub(crate) fn external_client(
    ca_bundle: Option<&str>,
    allow_private: bool,
    timeouts: ExternalTimeouts,
) -> Result<ExternalClient, ClientError> {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| ClientError::Tls)?
        .with_root_certificates(roots(ca_bundle)?)
        .with_no_client_auth();
    let tcp = GuardedConnector::new(allow_private, |connector| {
        connector.set_nodelay(true);
        connector.set_keepalive(Some(Duration::from_secs(15)));
        connector.set_connect_timeout(Some(timeouts.connect));
        connector.set_tcp_user_timeout(Some(Duration::from_secs(20)));
    });
    let https = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only()
        .enable_http1()
        .wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new())
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(64)
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .build(Deadline::new(https, timeouts.connect)))
}

fn roots(ca_bundle: Option<&str>) -> Result<RootCertStore, ClientError> {
    let mut roots = RootCertStore::empty();
    let Some(bundle) = ca_bundle else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    };
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        let certificate = certificate.map_err(|_| ClientError::CaBundle)?;
        roots.add(certificate).map_err(|_| ClientError::CaBundle)?;
    }
    if roots.is_empty() {
        Err(ClientError::CaBundle)
    } else {
        Ok(roots)
    }
}

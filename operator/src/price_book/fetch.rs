//! I/O: one HTTPS GET of a price document, with ETag, a cap on its size, no redirects, and no private addresses unless allowed.

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsConnector;
use url::Url;

/// Largest document in bytes; LiteLLM's catalogue has 1.5 MB.
pub const MAX_BYTES: usize = 16 << 20;
/// Price lists are no longer than this. A longer document waits until few others of its kind are in memory.
pub const USUAL_BYTES: usize = 2 << 20;
const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What to fetch.
#[derive(Debug, Clone)]
pub struct Source<'a> {
    /// An https URL.
    pub url: &'a str,
    /// Certificate authorities in PEM; `None`: the public ones.
    pub ca_bundle: Option<&'a str>,
    /// Whether private, loopback and link-local addresses may be reached.
    pub allow_private_addresses: bool,
    /// ETag of the document that is known.
    pub etag: Option<&'a str>,
    /// How many documents beyond [`USUAL_BYTES`] may be in memory.
    pub large: &'a Arc<Semaphore>,
}

/// A document, with its place among the large ones where it is one.
#[derive(Debug)]
pub struct Text {
    text: String,
    _place: Option<OwnedSemaphorePermit>,
}

impl Text {
    /// The document.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self { text, _place: None }
    }
}

/// What came.
#[derive(Debug)]
pub enum Fetched {
    /// The document is the one that the ETag names.
    Unchanged,
    /// A document.
    Document {
        /// Its text.
        text: Text,
        /// Its ETag.
        etag: Option<String>,
    },
}

/// Why nothing came.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL cannot be used.
    #[error("the URL {0:?} is not an https URL with a host")]
    Url(String),
    /// The CA bundle cannot be read.
    #[error("caBundle has no readable certificate")]
    CaBundle,
    /// The host has no usable name for TLS.
    #[error("the host is no name that a certificate can have")]
    ServerName(#[source] InvalidDnsNameError),
    /// The name does not resolve.
    #[error("the host {host} does not resolve")]
    Resolve {
        /// The host.
        host: String,
        /// What the resolver said.
        source: std::io::Error,
    },
    /// Every address is private.
    #[error(
        "the host {0} resolves to private addresses only; set allowPrivateAddresses to reach it"
    )]
    PrivateAddress(String),
    /// No connection.
    #[error("no connection to {address}")]
    Connect {
        /// The address that was tried last.
        address: SocketAddr,
        /// What went wrong.
        source: std::io::Error,
    },
    /// HTTP failed.
    #[error("the exchange broke off")]
    Http(#[source] hyper::Error),
    /// Not 200 or 304.
    #[error("the server answered {0}")]
    Status(StatusCode),
    /// The body could not be read to its end.
    #[error("the document broke off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Larger than [`MAX_BYTES`].
    #[error("the document is larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// Not UTF-8.
    #[error("the document is not UTF-8")]
    Encoding,
    /// Took too long.
    #[error("no complete answer within {} s", TIMEOUT.as_secs())]
    Timeout,
}

/// Fetches a document within 30 s.
///
/// # Errors
/// See [`FetchError`]; nothing is returned of a document that is not whole.
pub async fn fetch(source: &Source<'_>) -> Result<Fetched, FetchError> {
    tokio::time::timeout(TIMEOUT, exchange(source))
        .await
        .map_err(|_| FetchError::Timeout)?
}

async fn exchange(source: &Source<'_>) -> Result<Fetched, FetchError> {
    let bad_url = || FetchError::Url(source.url.to_owned());
    let url = Url::parse(source.url).map_err(|_| bad_url())?;
    let host = url.host_str().ok_or_else(bad_url)?.to_owned();
    if url.scheme() != "https" {
        return Err(bad_url());
    }
    let port = url.port_or_known_default().unwrap_or(443);
    let stream = connect(&host, port, source.allow_private_addresses).await?;
    let server_name = ServerName::try_from(host.clone()).map_err(FetchError::ServerName)?;
    let peer = stream.peer_addr().ok();
    let tls = TlsConnector::from(tls_config(source.ca_bundle)?)
        .connect(server_name, stream)
        .await
        .map_err(|source| FetchError::Connect {
            address: peer.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], port))),
            source,
        })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls))
        .await
        .map_err(FetchError::Http)?;
    // The connection ends with the exchange: it is driven here, not by a task of its own.
    let exchange = async {
        let response = sender
            .send_request(request(&url, source.etag))
            .await
            .map_err(FetchError::Http)?;
        document(response, source.large).await
    };
    tokio::pin!(exchange);
    tokio::pin!(connection);
    tokio::select! {
        outcome = &mut exchange => outcome,
        ended = &mut connection => {
            ended.map_err(FetchError::Http)?;
            exchange.await
        }
    }
}

fn request(url: &Url, etag: Option<&str>) -> Request<Empty<Bytes>> {
    let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let mut request = Request::builder()
        .uri(path)
        .header(header::HOST, authority)
        .header(
            header::USER_AGENT,
            concat!("weir/", env!("CARGO_PKG_VERSION")),
        )
        .header(
            header::ACCEPT,
            "application/json, application/yaml;q=0.9, */*;q=0.1",
        );
    if let Some(etag) = etag {
        request = request.header(header::IF_NONE_MATCH, etag);
    }
    request
        .body(Empty::new())
        .expect("a parsed URL and fixed headers make a request")
}

async fn document(
    response: http::Response<hyper::body::Incoming>,
    large: &Arc<Semaphore>,
) -> Result<Fetched, FetchError> {
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED => return Ok(Fetched::Unchanged),
        status => return Err(FetchError::Status(status)),
    }
    let etag = response
        .headers()
        .get(header::ETAG)
        .and_then(|value| value.to_str().ok())
        .filter(|etag| etag.len() <= 256)
        .map(str::to_owned);
    let mut body = Limited::new(response.into_body(), MAX_BYTES);
    let (mut bytes, mut place) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => FetchError::TooLarge,
            None => FetchError::Body(error),
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        bytes.extend_from_slice(&data);
        if bytes.len() > USUAL_BYTES && place.is_none() {
            place = Arc::clone(large).acquire_owned().await.ok();
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| FetchError::Encoding)?;
    let text = Text {
        text,
        _place: place,
    };
    Ok(Fetched::Document { text, etag })
}

/// Connects to the first address that answers; the address that was checked is the address that is used.
async fn connect(host: &str, port: u16, allow_private: bool) -> Result<TcpStream, FetchError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((bare, port))
        .await
        .map_err(|source| FetchError::Resolve {
            host: host.to_owned(),
            source,
        })?
        .filter(|address| allow_private || is_public(address.ip()))
        .collect();
    let mut failure = FetchError::PrivateAddress(host.to_owned());
    for address in addresses {
        let attempt = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
        let source = match attempt {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(source)) => source,
            Err(elapsed) => elapsed.into(),
        };
        failure = FetchError::Connect { address, source };
    }
    Err(failure)
}

/// Whether an address is on the public Internet, after the special-purpose registries of RFC 6890.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let benchmarking = a == 198 && (b == 18 || b == 19);
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast()
                || ip.is_multicast()
                || ip.is_documentation()
                || shared
                || benchmarking
                || a == 0
                || a >= 240)
        }
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(mapped) => is_public(IpAddr::V4(mapped)),
            None => {
                let first = ip.segments()[0];
                // 2000::/3 is what is allocated for global unicast; 2002::/16 and 64:ff9b::/96 embed IPv4.
                let global = first & 0xe000 == 0x2000;
                let embeds_v4 = first == 0x2002;
                let documentation = first == 0x2001 && ip.segments()[1] == 0x0db8;
                global && !embeds_v4 && !documentation
            }
        },
    }
}

fn tls_config(ca_bundle: Option<&str>) -> Result<Arc<rustls::ClientConfig>, FetchError> {
    let mut roots = RootCertStore::empty();
    match ca_bundle {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|_| FetchError::CaBundle)?;
                roots.add(certificate).map_err(|_| FetchError::CaBundle)?;
            }
        }
    }
    if roots.is_empty() {
        return Err(FetchError::CaBundle);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("127.0.0.1")]
    #[case("10.1.2.3")]
    #[case("169.254.169.254")]
    #[case("192.168.1.1")]
    #[case("100.64.0.1")]
    #[case("0.0.0.0")]
    #[case("::1")]
    #[case("fe80::1")]
    #[case("fc00::1")]
    #[case("::ffff:10.0.0.1")]
    #[case("64:ff9b::a00:1")]
    #[case("2002:a00:1::")]
    fn what_is_not_public_is_refused(#[case] ip: &str) {
        assert!(!is_public(ip.parse().expect("an address")));
    }

    #[rstest]
    #[case("93.184.216.34")]
    #[case("2606:2800:220:1::1")]
    fn public_addresses_pass(#[case] ip: &str) {
        assert!(is_public(ip.parse().expect("an address")));
    }

    #[tokio::test]
    async fn a_private_address_is_refused_before_a_connection_is_made() {
        let source = Source {
            url: "https://127.0.0.1:1/prices.json",
            ca_bundle: None,
            allow_private_addresses: false,
            etag: None,
            large: &Arc::new(Semaphore::new(1)),
        };
        assert!(matches!(
            fetch(&source).await,
            Err(FetchError::PrivateAddress(_))
        ));
    }

    #[tokio::test]
    async fn plain_http_is_refused() {
        let source = Source {
            url: "http://example.com/prices.json",
            ca_bundle: None,
            allow_private_addresses: true,
            etag: None,
            large: &Arc::new(Semaphore::new(1)),
        };
        assert!(matches!(fetch(&source).await, Err(FetchError::Url(_))));
    }
}

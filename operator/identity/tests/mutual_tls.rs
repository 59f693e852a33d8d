//! Mutual TLS on loopback: who gets through, and who is refused.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{Request, Response, Uri};
use jiff::Timestamp;
use rustls::client::Resumption;
use rustls::{ClientConfig, HandshakeKind};
use rustls_pki_types::ServerName;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower::{Service, ServiceExt};
use weir_identity::{
    CertificateAuthority, CertificateSource, HandshakeCounters, Identity, Leaf, PeerInfo,
    client_config, connect, dns_name, serve_tonic, server_config,
};

const HOUR: Duration = Duration::from_secs(3600);
const AGENT_POD: &str = "agent-pod-uid";

fn agent() -> Identity {
    Identity::Agent { node: "n1".into() }
}

fn authority() -> CertificateAuthority {
    CertificateAuthority::generate(Timestamp::now()).unwrap()
}

fn leaf(ca: &CertificateAuthority, identity: &Identity, pod_uid: Option<&str>) -> Leaf {
    ca.issue_own(identity, pod_uid, Timestamp::now(), HOUR)
        .unwrap()
}

fn source(ca: &CertificateAuthority, identity: &Identity) -> CertificateSource {
    CertificateSource::fixed(leaf(ca, identity, None))
}

/// Answers every call with the peer's identity in a header.
#[derive(Clone, Default)]
struct WhoAmI {
    seen: Arc<Mutex<Vec<Identity>>>,
}

impl NamedService for WhoAmI {
    const NAME: &'static str = "test.WhoAmI";
}

impl Service<Request<Body>> for WhoAmI {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let peer = request.extensions().get::<PeerInfo>().unwrap();
        self.seen.lock().unwrap().push(peer.identity.clone());
        let uri = peer.identity.spiffe_uri();
        let response = Response::builder()
            .header("x-peer", uri)
            .body(Body::empty())
            .unwrap();
        std::future::ready(Ok(response))
    }
}

struct Agent {
    address: SocketAddr,
    counters: Arc<HandshakeCounters>,
    service: WhoAmI,
}

/// An agent's server that talks to the operator only.
async fn serve(source: &CertificateSource) -> Agent {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = server_config(source, |identity| *identity == Identity::Operator).unwrap();
    let counters = tls.counters();
    let service = WhoAmI::default();
    let routes = Routes::new(service.clone());
    tokio::spawn(serve_tonic(listener, tls, routes, std::future::pending()));
    Agent {
        address,
        counters,
        service,
    }
}

async fn agent_of(ca: &CertificateAuthority) -> Agent {
    let source = CertificateSource::fixed(leaf(ca, &agent(), Some(AGENT_POD)));
    serve(&source).await
}

/// Dials and calls once; the peer that the server saw.
async fn call(
    address: SocketAddr,
    name: &str,
    source: &CertificateSource,
    expected: Identity,
) -> Result<String, String> {
    let tls = client_config(source, expected).unwrap();
    let channel = connect(address, name, tls)
        .await
        .map_err(|e| format!("{e:?}"))?;
    let request = Request::post(Uri::from_static("http://agent/test.WhoAmI/Call"))
        .body(Body::empty())
        .unwrap();
    let response = channel
        .oneshot(request)
        .await
        .map_err(|e| format!("{e:?}"))?;
    Ok(response.headers()["x-peer"].to_str().unwrap().to_owned())
}

#[tokio::test]
async fn operator_reaches_the_agent_and_both_know_each_other() {
    let ca = authority();
    let server = agent_of(&ca).await;
    let operator = source(&ca, &Identity::Operator);
    let peer = call(server.address, &dns_name(AGENT_POD), &operator, agent()).await;
    assert_eq!(peer.unwrap(), "spiffe://weir.internal/operator");
    assert_eq!(server.counters.completed(), 1);
    assert_eq!(server.counters.refused(), 0);
}

async fn assert_refused(server: &Agent, operator: &CertificateSource, name: &str, to: Identity) {
    let started = Instant::now();
    let result = call(server.address, name, operator, to).await;
    assert!(result.is_err(), "{result:?}");
    assert!(started.elapsed() < Duration::from_secs(1));
    assert!(server.service.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn client_of_another_authority_is_refused() {
    let ca = authority();
    let server = agent_of(&ca).await;
    let stranger = source(&authority(), &Identity::Operator);
    assert_refused(&server, &stranger, &dns_name(AGENT_POD), agent()).await;
}

#[tokio::test]
async fn server_that_trusts_another_authority_refuses_a_client_that_trusts_it() {
    let (ca, other) = (authority(), authority());
    let server = agent_of(&ca).await;
    let verifier = source(&ca, &Identity::Operator);
    // Verifies the server by its authority, presents a certificate of another one.
    let mut config = (*client_config(&verifier, agent()).unwrap().config()).clone();
    let foreign = client_config(&source(&other, &Identity::Operator), agent()).unwrap();
    config.client_auth_cert_resolver = Arc::clone(&foreign.config().client_auth_cert_resolver);
    assert_raw_refused(&server, config).await;
}

#[tokio::test]
async fn client_of_a_kind_that_is_not_allowed_is_refused() {
    let ca = authority();
    let server = agent_of(&ca).await;
    for identity in [
        agent(),
        Identity::GatewayLocal {
            pod_uid: "p".into(),
        },
        Identity::GatewayCloud {
            pod_uid: "p".into(),
        },
    ] {
        let client = source(&ca, &identity);
        assert_refused(&server, &client, &dns_name(AGENT_POD), agent()).await;
    }
    assert_eq!(server.counters.completed(), 0);
    assert!(server.counters.refused() >= 3);
}

#[tokio::test]
async fn agent_of_another_node_is_refused() {
    let ca = authority();
    let server = agent_of(&ca).await;
    let operator = source(&ca, &Identity::Operator);
    let other = Identity::Agent { node: "n2".into() };
    assert_refused(&server, &operator, &dns_name(AGENT_POD), other).await;
}

#[tokio::test]
async fn dns_name_of_another_pod_is_refused() {
    let ca = authority();
    let server = agent_of(&ca).await;
    let operator = source(&ca, &Identity::Operator);
    assert_refused(&server, &operator, &dns_name("other-pod"), agent()).await;
}

#[tokio::test]
async fn expired_server_and_expired_client_are_refused() {
    let ca = authority();
    let long_ago = Timestamp::now() - Duration::from_secs(7200);
    let expired = |identity: &Identity, pod: Option<&str>| {
        CertificateSource::fixed(ca.issue_own(identity, pod, long_ago, HOUR).unwrap())
    };
    let operator = source(&ca, &Identity::Operator);
    let old_server = serve(&expired(&agent(), Some(AGENT_POD))).await;
    assert_refused(&old_server, &operator, &dns_name(AGENT_POD), agent()).await;
    let server = agent_of(&ca).await;
    let old_operator = expired(&Identity::Operator, None);
    assert_refused(&server, &old_operator, &dns_name(AGENT_POD), agent()).await;
}

#[tokio::test]
async fn server_without_a_certificate_yet_refuses_and_serves_once_it_has_one() {
    let ca = Arc::new(authority());
    let (give, given) = tokio::sync::oneshot::channel::<()>();
    let (asked, mut asking) = tokio::sync::mpsc::channel(1);
    let mut waiting = Some(given);
    let issuer = Arc::clone(&ca);
    let agent_source = CertificateSource::start(move || {
        let (issuer, asked, waiting) = (Arc::clone(&issuer), asked.clone(), waiting.take());
        async move {
            asked.send(()).await.unwrap();
            if let Some(waiting) = waiting {
                waiting.await.unwrap();
            }
            issuer.issue_own(&agent(), Some(AGENT_POD), Timestamp::now(), HOUR)
        }
    });
    asking.recv().await.unwrap();
    let server = serve(&agent_source).await;
    let operator = source(&ca, &Identity::Operator);
    assert_refused(&server, &operator, &dns_name(AGENT_POD), agent()).await;
    give.send(()).unwrap();
    agent_source.wait_ready().await;
    let peer = call(server.address, &dns_name(AGENT_POD), &operator, agent()).await;
    assert!(peer.is_ok(), "{peer:?}");
}

/// A handshake by hand; in TLS 1.3 the client learns of a refusal when it reads.
async fn raw(address: SocketAddr, config: ClientConfig) -> std::io::Result<HandshakeKind> {
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(dns_name(AGENT_POD)).unwrap();
    let stream = TcpStream::connect(address).await?;
    let mut stream = connector.connect(name, stream).await?;
    let mut buffer = [0u8; 9];
    stream.read_exact(&mut buffer).await?;
    Ok(stream.get_ref().1.handshake_kind().unwrap())
}

async fn assert_raw_refused(server: &Agent, config: ClientConfig) {
    let started = Instant::now();
    let result = raw(server.address, config).await;
    assert!(result.is_err(), "{result:?}");
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(server.counters.completed(), 0);
}

#[tokio::test]
async fn client_without_a_certificate_is_refused() {
    let ca = authority();
    let server = agent_of(&ca).await;
    let operator = source(&ca, &Identity::Operator);
    let mut config = (*client_config(&operator, agent()).unwrap().config()).clone();
    let nobody =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
    config.client_auth_cert_resolver = nobody.client_auth_cert_resolver;
    assert_raw_refused(&server, config).await;
    assert_eq!(server.counters.refused(), 1);
}

#[tokio::test]
async fn sessions_are_never_resumed() {
    let ca = authority();
    let server = agent_of(&ca).await;
    let operator = source(&ca, &Identity::Operator);
    let mut config = (*client_config(&operator, agent()).unwrap().config()).clone();
    // A client that would resume if it were given a ticket.
    config.resumption = Resumption::in_memory_sessions(8);
    for _ in 0..3 {
        let kind = raw(server.address, config.clone()).await.unwrap();
        assert_eq!(kind, HandshakeKind::Full);
    }
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let ca = authority();
    let server = agent_of(&ca).await;
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(leaf(&ca, &agent(), None).authority().clone())
        .unwrap();
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    assert_raw_refused(&server, config).await;
}

#[tokio::test]
async fn silent_peers_do_not_keep_the_operator_out() {
    let ca = authority();
    let server = agent_of(&ca).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let operator = source(&ca, &Identity::Operator);
    let started = Instant::now();
    let peer = call(server.address, &dns_name(AGENT_POD), &operator, agent()).await;
    assert!(peer.is_ok(), "{peer:?}");
    assert!(started.elapsed() < Duration::from_secs(2));
    drop(silent);
}

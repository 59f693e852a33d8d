//! gRPC over our own TLS: an accept loop that no peer can block, and a dialer that reconnects.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{AlertDescription, CertificateError};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector, server};
use tonic::service::Routes;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Server};
use tower::service_fn;

use crate::leaf::Names;
use crate::{CertificateSource, ClientTls, Identity, ServerTls};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const CONCURRENT_HANDSHAKES: usize = 64;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection does not outlive the certificate that opened it by much.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(12 * 3600);
const MAX_CONNECTION_GRACE: Duration = Duration::from_secs(60);
const MAX_STREAMS_PER_CONNECTION: u32 = 100;
const DRAIN: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why serving ended badly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The gRPC server failed.
    #[error("grpc server failed")]
    Transport(#[source] tonic::transport::Error),
}

/// Why a server could not be dialed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name cannot stand in a certificate.
    #[error("server name {0:?} is not a DNS name")]
    ServerName(String),
    /// Connecting or the handshake failed.
    #[error("cannot connect to {address}")]
    Transport {
        /// Where to.
        address: SocketAddr,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}

/// What became of the handshakes of one server.
#[derive(Debug, Default)]
pub struct HandshakeCounters {
    completed: AtomicU64,
    refused: AtomicU64,
    timed_out: AtomicU64,
    shed: AtomicU64,
}

impl HandshakeCounters {
    /// Connections with an allowed peer.
    pub fn completed(&self) -> u64 {
        self.completed.load(Ordering::Relaxed)
    }

    /// Peers without a certificate, with a bad one, or that are not allowed.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Peers that did not finish in time.
    pub fn timed_out(&self) -> u64 {
        self.timed_out.load(Ordering::Relaxed)
    }

    /// Connections closed at once because too many handshakes were under way.
    pub fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }
}

/// The proven peer of a request: `request.extensions().get::<PeerInfo>()`.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// From the client's certificate.
    pub identity: Identity,
    /// Where it comes from.
    pub remote: SocketAddr,
}

/// A finished TLS connection with its peer.
struct PeerStream {
    stream: server::TlsStream<TcpStream>,
    peer: PeerInfo,
}

impl Connected for PeerStream {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Serves `routes` to allowed peers until `shutdown`, then lets requests under way finish for five seconds.
pub async fn serve_tonic(
    listener: TcpListener,
    tls: ServerTls,
    routes: Routes,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let (sender, receiver) = mpsc::channel(CONCURRENT_HANDSHAKES);
    let accepting = tokio::spawn(accept(listener, tls, sender));
    let incoming = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|stream| (stream, receiver))
    });
    let (stopping, stopped) = oneshot::channel();
    let signal = async move {
        shutdown.await;
        let _ = stopping.send(());
    };
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .max_connection_age(MAX_CONNECTION_AGE)
        .max_connection_age_grace(MAX_CONNECTION_GRACE)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming.map(Ok::<_, std::io::Error>), signal);
    let drained = async move {
        let _ = stopped.await;
        sleep(DRAIN).await;
    };
    let result = tokio::select! {
        result = server => result.map_err(ServeError::Transport),
        () = drained => Ok(()),
    };
    accepting.abort();
    result
}

async fn accept(listener: TcpListener, tls: ServerTls, sender: mpsc::Sender<PeerStream>) {
    let slots = Arc::new(Semaphore::new(CONCURRENT_HANDSHAKES));
    let acceptor = TlsAcceptor::from(tls.config());
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            tls.counters.shed.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let (acceptor, tls, sender) = (acceptor.clone(), tls.clone(), sender.clone());
        tokio::spawn(async move {
            if let Some(stream) = handshake(acceptor, &tls, stream, remote).await {
                let _ = sender.send(stream).await;
            }
            drop(slot);
        });
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    tls: &ServerTls,
    stream: TcpStream,
    remote: SocketAddr,
) -> Option<PeerStream> {
    let _ = stream.set_nodelay(true);
    let counters = &tls.counters;
    let stream = match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            counters.refused.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%remote, %error, "handshake refused");
            suspect_authority(&tls.source, &error);
            return None;
        }
        Err(_) => {
            counters.timed_out.fetch_add(1, Ordering::Relaxed);
            return None;
        }
    };
    let identity = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .and_then(|certificate| Names::of(certificate).ok())
        .map(|names| names.identity);
    let Some(identity) = identity else {
        counters.refused.fetch_add(1, Ordering::Relaxed);
        return None;
    };
    counters.completed.fetch_add(1, Ordering::Relaxed);
    let peer = PeerInfo { identity, remote };
    Some(PeerStream { stream, peer })
}

/// Tells the source when the two sides trust different authorities: one of them was replaced.
fn suspect_authority(source: &CertificateSource, error: &std::io::Error) {
    let Some(error) = error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>())
    else {
        return;
    };
    let unknown = matches!(
        error,
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature
        ) | rustls::Error::AlertReceived(
            AlertDescription::UnknownCA | AlertDescription::DecryptError
        )
    );
    if unknown {
        source.suspect();
    }
}

/// Dials `address`, whose certificate must name `server_name` (`<pod-uid>.weir.internal`).
///
/// The channel reconnects by itself, checking the peer anew each time; it ends up failing when the peer's pod is gone.
pub async fn connect(
    address: SocketAddr,
    server_name: &str,
    tls: ClientTls,
) -> Result<Channel, ConnectError> {
    let invalid = || ConnectError::ServerName(server_name.to_owned());
    let name = ServerName::try_from(server_name.to_owned()).map_err(|_| invalid())?;
    let endpoint = Endpoint::from_shared(format!("http://{server_name}:{}", address.port()))
        .map_err(|_| invalid())?
        .connect_timeout(HANDSHAKE_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let connector = service_fn(move |_: Uri| {
        let (name, tls) = (name.clone(), tls.clone());
        async move { dial(address, name, &tls).await.map(TokioIo::new) }
    });
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|source| ConnectError::Transport { address, source })
}

async fn dial(
    address: SocketAddr,
    name: ServerName<'static>,
    tls: &ClientTls,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let connector = TlsConnector::from(tls.config());
    let result = connector.connect(name, stream).await;
    if let Err(error) = &result {
        suspect_authority(&tls.source, error);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CertificateAuthority, client_config, server_config};
    use jiff::Timestamp;
    use rstest::rstest;

    const HOUR: Duration = Duration::from_secs(3600);

    fn source(authority: &CertificateAuthority, identity: &Identity) -> CertificateSource {
        let leaf = authority.issue_own(identity, Some("pod"), Timestamp::now(), HOUR);
        CertificateSource::fixed(leaf.unwrap())
    }

    #[rstest]
    #[case::same_authority(true, Identity::Operator, [false, false])]
    #[case::same_authority_but_not_allowed(true, Identity::Agent { node: "n2".into() }, [false, false])]
    #[case::replaced_authority(false, Identity::Operator, [true, true])]
    #[tokio::test]
    async fn both_sides_suspect_a_replaced_authority_and_nothing_else(
        #[case] same: bool,
        #[case] client: Identity,
        #[case] suspected: [bool; 2],
    ) {
        let first = CertificateAuthority::generate(Timestamp::now()).unwrap();
        let second = CertificateAuthority::generate(Timestamp::now()).unwrap();
        let agent = Identity::Agent { node: "n1".into() };
        let serving = source(&first, &agent);
        let dialing = source(if same { &first } else { &second }, &client);
        let server = server_config(&serving, |peer| *peer == Identity::Operator).unwrap();
        let tls = client_config(&dialing, agent).unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let name = ServerName::try_from("pod.weir.internal").unwrap();
        let accepting = async {
            let (stream, remote) = listener.accept().await.unwrap();
            handshake(TlsAcceptor::from(server.config()), &server, stream, remote).await
        };
        let _ = tokio::join!(accepting, dial(address, name, &tls));
        assert_eq!([serving.is_suspected(), dialing.is_suspected()], suspected);
    }
}

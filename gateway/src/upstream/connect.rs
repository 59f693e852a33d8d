//! Connections to targets.

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tower::Service;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request to a target: whole, so that it can be sent again where that is allowed.
pub(crate) type UpstreamBody = Full<Bytes>;

/// Idle connections are dropped before servers drop them (uvicorn and node: 5 s).
pub(crate) const POOL_IDLE: Duration = Duration::from_secs(4);

/// A client towards targets of this cluster.
pub(crate) type LocalClient = Client<Deadline<HttpConnector>, UpstreamBody>;

/// A body for a request.
pub(crate) fn full(bytes: Bytes) -> UpstreamBody {
    Full::new(bytes)
}

/// A plain-text client for this cluster. A peer that vanished without a word is noticed within seconds.
pub(crate) fn local_client(connect_timeout: Duration) -> LocalClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(connect_timeout));
    connector.set_keepalive(Some(Duration::from_secs(2)));
    connector.set_keepalive_interval(Some(Duration::from_secs(1)));
    connector.set_keepalive_retries(Some(3));
    connector.set_tcp_user_timeout(Some(Duration::from_secs(10)));
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(256)
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .build(Deadline::new(connector, connect_timeout))
}

/// Bounds all of connecting: name, TCP and TLS.
#[derive(Clone, Debug)]
pub(crate) struct Deadline<C> {
    inner: C,
    limit: Duration,
}

impl<C> Deadline<C> {
    /// Gives a connector a time limit.
    pub(crate) fn new(inner: C, limit: Duration) -> Self {
        Self { inner, limit }
    }
}

impl<C> Service<Uri> for Deadline<C>
where
    C: Service<Uri>,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
    C::Response: 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.inner.call(uri);
        let limit = self.limit;
        Box::pin(async move {
            match tokio::time::timeout(limit, connecting).await {
                Ok(connected) => connected.map_err(Into::into),
                Err(_) => {
                    Err(io::Error::new(io::ErrorKind::TimedOut, "connecting took too long").into())
                }
            }
        })
    }
}

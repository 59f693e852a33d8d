//! The API server, as the proxy reaches it.

use anyhow::{Context, Result};
use bytes::Bytes;
use http::uri::{Authority, Scheme, Uri};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, Error, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

/// Where requests are forwarded to.
#[derive(Debug, Clone)]
pub struct Upstream {
    scheme: Scheme,
    authority: Authority,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Upstream {
    /// The server of a configuration, by its address and the authorities that it trusts; its credentials are not used.
    ///
    /// # Errors
    /// When the configuration names no usable server or authority.
    pub fn of(config: &kube::Config) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in config.root_cert.iter().flatten() {
            roots.add(certificate.clone().into())?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        let server = config.cluster_url.clone().into_parts();
        Ok(Self {
            scheme: server.scheme.context("the server has no scheme")?,
            authority: server.authority.context("the server has no address")?,
            client: Client::builder(TokioExecutor::new()).build(connector),
        })
    }

    pub(super) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Error> {
        let mut target = std::mem::take(request.uri_mut()).into_parts();
        target.scheme = Some(self.scheme.clone());
        target.authority = Some(self.authority.clone());
        if let Ok(target) = Uri::from_parts(target) {
            *request.uri_mut() = target;
        }
        self.client.request(request).await
    }
}

//! The fakes as pods of the cluster, and their control API.

use super::pki::server_certificate;
use super::{apply, examples, namespace, service_address};
use crate::cluster::{Cluster, Images, output};
use crate::existing::Forwards;
use crate::fakes::bombs::Bomb;
use crate::fakes::control::Seen;
use crate::fakes::state::{Counters, FailureMode, TokenPrices};
use anyhow::{Context, Result, ensure};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use kube::Client;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use tokio::net::TcpStream;

const NAMESPACE: &str = "weir-fakes";
const API_KEY: &str = "fake-cloud-key-1";

/// The fake provider and the fake price feed, running in the cluster.
#[derive(Debug, Clone)]
pub struct FakeServices {
    /// PEM of the authority that signed their certificate.
    pub ca: String,
    /// Base URL of the provider.
    pub provider_url: String,
    /// URL of the price feed.
    pub prices_url: String,
    control: SocketAddr,
}

impl FakeServices {
    pub(super) async fn start(
        cluster: &Cluster,
        client: &Client,
        images: &Images,
        forwards: &Forwards,
    ) -> Result<Self> {
        namespace(cluster, NAMESPACE)?;
        let host = format!("fake-cloud.{NAMESPACE}.svc");
        let certificate = server_certificate(&[host.clone(), format!("{host}.cluster.local")])?;
        let image = images
            .images
            .get("weir/fakes")
            .context("the fakes have no image")?;
        apply(
            cluster,
            &manifests(image, &certificate.certificate, &certificate.key),
        )?;
        output(&mut cluster.kubectl([
            "-n",
            NAMESPACE,
            "rollout",
            "status",
            "deployment/fake-cloud",
            "--timeout=60s",
        ]))?;
        Ok(Self {
            ca: certificate.ca,
            provider_url: format!("https://{host}/v1"),
            prices_url: format!("https://{host}{}", crate::fakes::prices::PATH),
            control: service_address((cluster, client, forwards), NAMESPACE, "fake-control")
                .await?,
        })
    }

    /// The Secret with the key that the fake provider wants.
    pub fn provider_key() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": "acme", "namespace": "weir-providers"},
            "stringData": {"api-key": API_KEY},
        })
    }

    /// Sets prices, in USD per million tokens of prompts and answers.
    pub async fn set_price(&self, model: &str, (input, output): (f64, f64)) -> Result<()> {
        let prices = TokenPrices {
            input_cost_per_token: input / 1e6,
            output_cost_per_token: output / 1e6,
        };
        self.put("/prices", &json!({ model: prices })).await
    }

    /// Takes a model's row out of the feed.
    pub async fn remove_price(&self, model: &str) -> Result<()> {
        self.put("/prices", &json!({ model: null })).await
    }

    /// URL of a price document that is meant to do harm.
    pub fn bomb_url(&self, bomb: Bomb) -> String {
        let host = self.prices_url.trim_end_matches(crate::fakes::prices::PATH);
        format!("{host}/bombs/{}", bomb.name())
    }

    /// Replaces all failure modes; the model `*` stands for all.
    pub async fn set_modes(&self, modes: &BTreeMap<String, FailureMode>) -> Result<()> {
        self.put("/modes", &serde_json::to_value(modes)?).await
    }

    /// Makes the price feed fail, or work again.
    pub async fn set_prices_fail(&self, fail: bool) -> Result<()> {
        self.put("/prices-fail", &json!(fail)).await
    }

    /// What the fakes counted.
    pub async fn counters(&self) -> Result<Counters> {
        self.exchange(Method::GET, "/counters", &Value::Null).await
    }

    /// How many of the request bodies hold this text, which must need no escaping in a URL.
    pub async fn bodies_with(&self, text: &str) -> Result<usize> {
        let seen: Seen = self
            .exchange(Method::GET, &format!("/bodies?text={text}"), &Value::Null)
            .await?;
        Ok(seen.count)
    }

    async fn put(&self, path: &str, body: &Value) -> Result<()> {
        let _: Value = self.exchange(Method::PUT, path, body).await?;
        Ok(())
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<T> {
        let stream = TcpStream::connect(self.control)
            .await
            .context("connecting to the fakes")?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "fakes")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let bytes = response.into_body().collect().await?.to_bytes();
        ensure!(
            status.is_success(),
            "{path}: {status}: {}",
            String::from_utf8_lossy(&bytes)
        );
        let text = if bytes.is_empty() {
            &b"null"[..]
        } else {
            &bytes[..]
        };
        serde_json::from_slice(text).with_context(|| format!("{path}: an answer of another shape"))
    }
}

fn manifests(image: &str, certificate: &str, key: &str) -> Vec<Value> {
    let labels = json!({"app": "fake-cloud"});
    let service = |name: &str, port: u16, target: u16| {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"selector": labels, "ports": [{"port": port, "targetPort": target}]},
        })
    };
    let models = examples::models()
        .map(|(model, (input, output))| format!("--model={model}={input}/{output}"));
    let mut args = vec!["serve".to_owned(), "--tls=/tls".to_owned()];
    args.extend(models);
    let container = json!({
        "name": "fakes", "image": image, "imagePullPolicy": "IfNotPresent", "args": args,
        "env": [{"name": "FAKE_CLOUD_API_KEY", "value": API_KEY}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8081}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "tls", "mountPath": "/tls", "readOnly": true}],
    });
    vec![
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": "fake-cloud-tls", "namespace": NAMESPACE},
            "stringData": {"tls.crt": certificate, "tls.key": key},
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "fake-cloud", "namespace": NAMESPACE},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "automountServiceAccountToken": false,
                        "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
                        "containers": [container],
                        "volumes": [{"name": "tls", "secret": {"secretName": "fake-cloud-tls"}}],
                    },
                },
            },
        }),
        service("fake-cloud", 443, 8443),
        service("fake-control", 80, 8081),
    ]
}

//! Weir on a cluster: images, chart, fakes, the example objects. The demo and the scenarios share it.

mod events;
mod examples;
mod fake_services;
mod pki;

use crate::chat::Endpoint;
use crate::cluster::{Cluster, Images, output, repository};
use crate::existing::{self, Forwards};
use crate::wait;
use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use weir_crds::InferenceWorkload;
use weir_crds::names;
use weir_crds::workload::Egress;

pub use examples::{DEMO_NAMESPACE, Examples, PRICE_HIGH, PRICE_LOW, model_volume};
pub use fake_services::FakeServices;
pub use pki::{ServerCertificate, server_certificate};

/// Namespace of the release.
pub const RELEASE_NAMESPACE: &str = "weir-system";

/// Weir installed on a cluster, with its fakes.
pub struct Stack {
    /// The cluster.
    pub cluster: Cluster,
    /// A client as the admin.
    pub client: Client,
    /// The images that run.
    pub images: Images,
    /// The fake provider and price feed.
    pub fakes: FakeServices,
    forwards: Forwards,
}

impl Stack {
    /// Imports the images, installs the chart with the real helm and starts the fakes.
    pub async fn install(cluster: Cluster, images: Images) -> Result<Self> {
        Self::install_with(cluster, images, &[]).await
    }

    /// The same with values of the chart: `KEY=VALUE`.
    pub async fn install_with(cluster: Cluster, images: Images, sets: &[&str]) -> Result<Self> {
        let forwards = Forwards::default();
        match set_up((&cluster, &forwards), &images, sets).await {
            Ok((client, fakes)) => Ok(Self {
                cluster,
                client,
                images,
                fakes,
                forwards,
            }),
            // Now, for the cluster may go with its value.
            Err(error) => Err(error.context(cluster.evidence())),
        }
    }

    /// Applies manifests.
    pub fn apply(&self, objects: &[Value]) -> Result<()> {
        apply(&self.cluster, objects)
    }

    /// A workload as it is now.
    pub async fn workload(&self, namespace: &str, name: &str) -> Result<InferenceWorkload> {
        let api: Api<InferenceWorkload> = Api::namespaced(self.client.clone(), namespace);
        api.get(name)
            .await
            .with_context(|| format!("reading workload {namespace}/{name}"))
    }

    /// Waits until a workload is as `wanted` says; the error has its last status.
    pub async fn workload_until(
        &self,
        (namespace, name): (&str, &str),
        what: &str,
        limit: Duration,
        wanted: impl Fn(&InferenceWorkload) -> bool,
    ) -> Result<InferenceWorkload> {
        wait::until(&format!("workload {name}: {what}"), limit, || async {
            let workload = self.workload(namespace, name).await?;
            Ok(if wanted(&workload) {
                Ok(workload)
            } else {
                Err(workload.status)
            })
        })
        .await
    }

    /// Where clients of a workload send requests, as its status and its key Secret say.
    pub async fn endpoint(&self, namespace: &str, name: &str) -> Result<Endpoint> {
        let ready = |workload: &InferenceWorkload| {
            let status = workload.status.as_ref();
            status.is_some_and(|status| status.endpoint.is_some() && status.client_key.is_some())
        };
        let workload = self
            .workload_until(
                (namespace, name),
                "endpoint and key are in the status",
                Duration::from_secs(30),
                ready,
            )
            .await?;
        let plane = match workload.spec.data_policy.egress {
            Egress::Forbidden => "weir-gateway-local",
            Egress::Allowed => "weir-gateway-cloud",
        };
        let address = self.service(RELEASE_NAMESPACE, plane).await?;
        let status = workload.status.unwrap_or_default();
        let (endpoint, key) = status
            .endpoint
            .zip(status.client_key)
            .context("endpoint and key")?;
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = secrets
            .get(&key.secret_name)
            .await
            .context("reading the client key")?;
        let data = secret.data.unwrap_or_default();
        let key = data
            .get(names::CLIENT_KEY_DATA)
            .context("the Secret has no key")?;
        let url = url::Url::parse(&endpoint.url)?;
        Ok(Endpoint {
            address,
            host: url.host_str().unwrap_or_default().to_owned(),
            path: url.path().trim_end_matches('/').to_owned(),
            key: String::from_utf8(key.0.clone())?,
            model: endpoint.model,
        })
    }

    /// Where the host reaches a Service's first port: its address through our node, or a forwarded port.
    pub async fn service(&self, namespace: &str, name: &str) -> Result<SocketAddr> {
        service_address(
            (&self.cluster, &self.client, &self.forwards),
            namespace,
            name,
        )
        .await
    }
}

async fn set_up(
    (cluster, forwards): (&Cluster, &Forwards),
    images: &Images,
    sets: &[&str],
) -> Result<(Client, FakeServices)> {
    if cluster.is_external() {
        existing::import(cluster, images)?;
    } else {
        cluster.import(images)?;
    }
    let client = cluster.client().await?;
    namespace(cluster, RELEASE_NAMESPACE)?;
    helm_install(cluster, images, sets)?;
    let fakes = FakeServices::start(cluster, &client, images, forwards).await?;
    Ok((client, fakes))
}

async fn service_address(
    (cluster, client, forwards): (&Cluster, &Client, &Forwards),
    namespace: &str,
    name: &str,
) -> Result<SocketAddr> {
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let service = services
        .get(name)
        .await
        .with_context(|| format!("reading Service {namespace}/{name}"))?;
    let spec = service.spec.clone().unwrap_or_default();
    let port = spec
        .ports
        .iter()
        .flatten()
        .next()
        .map_or(80, |port| port.port);
    let port = u16::try_from(port).with_context(|| service.name_any())?;
    if cluster.is_external() {
        let local = forwards.open(cluster, namespace, name, port).await?;
        return Ok(SocketAddr::from(([127, 0, 0, 1], local)));
    }
    let ip: IpAddr = spec
        .cluster_ip
        .unwrap_or_default()
        .parse()
        .context("the Service has no address")?;
    Ok(SocketAddr::new(ip, port))
}

/// A namespace that admits pods of Pod Security `restricted` only.
pub fn namespace(cluster: &Cluster, name: &str) -> Result<()> {
    apply(
        cluster,
        &[serde_json::json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        })],
    )
}

fn apply(cluster: &Cluster, objects: &[Value]) -> Result<()> {
    let documents: Vec<String> = objects.iter().map(Value::to_string).collect();
    cluster.apply(&documents.join("\n---\n"))
}

/// Installs or upgrades the release, with our images and the values given.
pub fn helm_install(cluster: &Cluster, images: &Images, sets: &[&str]) -> Result<()> {
    let values = tempfile::NamedTempFile::new()?;
    std::fs::write(values.path(), images.helm_values.to_string())?;
    let chart = repository().join("charts/weir");
    let mut helm = cluster.helm(["upgrade", "--install", "weir"]);
    helm.arg(chart)
        .args([
            "--namespace",
            RELEASE_NAMESPACE,
            "--wait",
            "--timeout",
            "120s",
            "--values",
        ])
        .arg(values.path());
    for set in sets {
        helm.args(["--set", set]);
    }
    output(&mut helm).context("installing the chart").map(drop)
}

//! A fleet of GPU nodes that are not there: Node objects with capacity and labels, leases that are renewed,
//! and a kubelet that says of every pod on them that it runs and is ready.
//!
//! The cluster's own scheduler and controllers do the rest, so placement, exhaustion and node failure are real.
//! Pods have addresses and no network: let one process listen on the whole range where requests must be answered.

mod kubelet;
mod objects;
#[cfg(test)]
mod tests;

pub use objects::pod_status;

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How many requests are under way at once.
const CONCURRENCY: usize = 32;

/// Namespace of the leases by which nodes say that they live.
const LEASES: &str = "kube-node-lease";

/// What nodes there are.
#[derive(Clone, Debug)]
pub struct FleetSpec {
    /// Nodes are called `<prefix>-000` and so on.
    pub prefix: String,
    /// How many there are.
    pub nodes: usize,
    /// GPUs of each.
    pub gpus: u32,
    /// Product as GPU feature discovery names it.
    pub product: String,
    /// Memory of one GPU in MiB.
    pub gpu_memory_mib: u32,
    /// CPUs of each node.
    pub cpus: u32,
    /// Memory of each node in GiB.
    pub memory_gib: u32,
    /// Pods that a node takes.
    pub pods: u32,
    /// Labels beside those of GPU feature discovery.
    pub labels: BTreeMap<String, String>,
    /// A taint that keeps other pods away: key and value, with effect NoSchedule.
    pub taint: Option<(String, String)>,
    /// The first two bytes of the pods' addresses.
    pub pod_range: [u8; 2],
    /// How often leases are renewed. A node is lost about 50 s after its last renewal.
    pub renew_every: Duration,
}

impl Default for FleetSpec {
    fn default() -> Self {
        Self {
            prefix: "gpu".to_owned(),
            nodes: 100,
            gpus: 8,
            product: "NVIDIA-L40S".to_owned(),
            gpu_memory_mib: 46_068,
            cpus: 128,
            memory_gib: 1024,
            pods: 250,
            labels: BTreeMap::new(),
            taint: None,
            pod_range: [10, 245],
            renew_every: Duration::from_secs(10),
        }
    }
}

impl FleetSpec {
    /// Name of a node.
    pub fn node_name(&self, number: usize) -> String {
        format!("{}-{number:03}", self.prefix)
    }

    /// Reads a range such as `10.128.0.0/16`.
    ///
    /// # Errors
    /// When it is not an IPv4 range of 16 bits.
    pub fn in_range(mut self, range: &str) -> Result<Self> {
        let Some((address, "16")) = range.split_once('/') else {
            bail!("{range}: expected a range of 16 bits");
        };
        let address: Ipv4Addr = address
            .parse()
            .with_context(|| format!("reading {range}"))?;
        let [first, second, ..] = address.octets();
        self.pod_range = [first, second];
        Ok(self)
    }
}

/// What the fleet's tasks share.
#[derive(Debug, Default)]
struct Shared {
    failed: Mutex<BTreeSet<String>>,
    addresses: Mutex<u16>,
}

impl Shared {
    fn failed(&self) -> BTreeSet<String> {
        self.failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The next address of the range; its first and last are left out.
    fn next_address(&self, range: [u8; 2]) -> Ipv4Addr {
        let mut last = self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *last = last
            .checked_add(1)
            .filter(|next| *next < u16::MAX)
            .unwrap_or(1);
        let [third, fourth] = last.to_be_bytes();
        Ipv4Addr::new(range[0], range[1], third, fourth)
    }
}

/// A running fleet. Dropping it stops the leases and the kubelet; `remove` also deletes the nodes.
pub struct Fleet {
    client: Client,
    spec: FleetSpec,
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Fleet {
    /// Creates the nodes, all ready, and starts their heartbeats and their kubelet.
    ///
    /// # Errors
    /// When the API server refuses one of them.
    pub async fn start(client: Client, spec: FleetSpec) -> Result<Self> {
        stream::iter(0..spec.nodes)
            .map(|number| create_node(&client, &spec, number))
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>()
            .await?;
        let shared = Arc::new(Shared::default());
        let tasks = vec![
            tokio::spawn(renew(client.clone(), spec.clone(), shared.clone())),
            tokio::spawn(kubelet::run(client.clone(), spec.clone(), shared.clone())),
        ];
        Ok(Self {
            client,
            spec,
            shared,
            tasks,
        })
    }

    /// Names of the nodes.
    pub fn node_names(&self) -> Vec<String> {
        (0..self.spec.nodes)
            .map(|number| self.spec.node_name(number))
            .collect()
    }

    /// The node goes silent: its lease is no longer renewed and its pods are no longer looked after.
    pub fn fail(&self, node: &str) {
        let mut failed = self
            .shared
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        failed.insert(node.to_owned());
    }

    /// The node is back, and so are its pods, which the cluster took for unready.
    ///
    /// # Errors
    /// When its status cannot be written.
    pub async fn recover(&self, node: &str) -> Result<()> {
        {
            let mut failed = self
                .shared
                .failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            failed.remove(node);
        }
        renew_lease(&self.client, node).await?;
        write_status(&self.client, &self.spec, node).await?;
        kubelet::catch_up(&self.client, &self.spec, &self.shared, node).await
    }

    /// Stops the fleet and deletes its nodes and leases.
    ///
    /// # Errors
    /// When one cannot be deleted.
    pub async fn remove(self) -> Result<()> {
        self.tasks.iter().for_each(JoinHandle::abort);
        let nodes: Api<Node> = Api::all(self.client.clone());
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), LEASES);
        let names = self.node_names();
        stream::iter(&names)
            .map(|name| async {
                gone(nodes.delete(name, &DeleteParams::default()).await)?;
                gone(leases.delete(name, &DeleteParams::default()).await)
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>()
            .await
    }
}

/// What is gone already is what was asked for.
fn gone<T>(deleted: kube::Result<T>) -> Result<()> {
    match deleted {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => Ok(other.map(drop)?),
    }
}

async fn create_node(client: &Client, spec: &FleetSpec, number: usize) -> Result<()> {
    let name = spec.node_name(number);
    let nodes: Api<Node> = Api::all(client.clone());
    let node = serde_json::from_value(objects::node(spec, &name))?;
    match nodes.create(&PostParams::default(), &node).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        created => drop(created.with_context(|| format!("creating node {name}"))?),
    }
    renew_lease(client, &name).await?;
    write_status(client, spec, &name).await
}

async fn write_status(client: &Client, spec: &FleetSpec, name: &str) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let patch = json!({"status": objects::node_status(spec, name)});
    nodes
        .patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .with_context(|| format!("writing the status of node {name}"))?;
    Ok(())
}

async fn renew_lease(client: &Client, name: &str) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), LEASES);
    let now = jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S.%6fZ")
        .to_string();
    let lease: Value = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now}});
    let params = PatchParams::apply("weir-fake-kubelet").force();
    leases
        .patch(name, &params, &Patch::Apply(lease))
        .await
        .with_context(|| format!("renewing the lease of node {name}"))?;
    Ok(())
}

async fn renew(client: Client, spec: FleetSpec, shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(spec.renew_every);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let failed = shared.failed();
        let alive = (0..spec.nodes)
            .map(|number| spec.node_name(number))
            .filter(|name| !failed.contains(name));
        stream::iter(alive)
            .for_each_concurrent(CONCURRENCY, |name| {
                let client = client.clone();
                async move {
                    if let Err(error) = renew_lease(&client, &name).await {
                        tracing::warn!(
                            node = name,
                            error = format!("{error:#}"),
                            "fake node lease not renewed"
                        );
                    }
                }
            })
            .await;
    }
}

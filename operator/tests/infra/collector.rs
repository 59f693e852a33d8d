//! Telemetry over mutual TLS: a gateway and an agent in this process, found through their pods.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::{BroadcastStream, WatchStream};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use weir_identity::{
    CertificateAuthority, CertificateSource, Identity, serve_tonic, server_config,
};
use weir_operator::cli::Plane;
use weir_operator::stores::Stores;
use weir_operator::telemetry::{
    Acknowledged, Collecting, Heard, Processor, Telemetry, TelemetryChange, collect,
};
use weir_proto::agent_server::{Agent, AgentServer};
use weir_proto::gateway_server::{Gateway, GatewayServer};
use weir_proto::{
    Acknowledgement, AgentReport, AgentRequest, CpuReading, GatewayReport, GatewayRequest,
};
use weir_simapi::SimApi;

use super::{eventually, metrics, server};

type Reports<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A gateway that has one route in force; a change of it is told.
struct FakeGateway {
    pod_uid: String,
    step: watch::Receiver<i64>,
    cut: broadcast::Sender<()>,
}

#[tonic::async_trait]
impl Gateway for FakeGateway {
    type WatchStream = Reports<GatewayReport>;

    async fn watch(
        &self,
        _: Request<GatewayRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let pod_uid = self.pod_uid.clone();
        let reports = WatchStream::new(self.step.clone())
            .enumerate()
            .map(move |(i, step)| {
                Ok(GatewayReport {
                    pod_uid: pod_uid.clone(),
                    boot_id: "b1".into(),
                    seq: i as u64 + 1,
                    full: i == 0,
                    acknowledgements: vec![Acknowledgement {
                        uid: "w".into(),
                        generation: 1,
                        step,
                        ..Acknowledgement::default()
                    }],
                    ..GatewayReport::default()
                })
            });
        let mut cut = BroadcastStream::new(self.cut.subscribe());
        let reports = reports.take_until(async move { cut.next().await });
        Ok(Response::new(Box::pin(reports)))
    }
}

/// An agent that reports at a steady interval, and remembers the engines that it was told.
struct FakeAgent {
    node: String,
    engines: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl Agent for FakeAgent {
    type WatchStream = Reports<AgentReport>;

    async fn watch(
        &self,
        requests: Request<Streaming<AgentRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let engines = Arc::clone(&self.engines);
        let mut requests = requests.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let urls = request.engines.into_iter().map(|engine| engine.url);
                *engines.lock().unwrap() = urls.collect();
            }
        });
        let node = self.node.clone();
        let ticks = futures::stream::unfold(1_u64, |seq| async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Some((seq, seq + 1))
        });
        let reports = ticks.map(move |seq| {
            Ok(AgentReport {
                node_name: node.clone(),
                boot_id: "b1".into(),
                seq,
                monotonic_ms: seq * 50,
                cpu: Some(CpuReading {
                    utilization_percent: Some(42.0),
                    ..CpuReading::default()
                }),
                ..AgentReport::default()
            })
        });
        Ok(Response::new(Box::pin(reports)))
    }
}

struct World {
    api: SimApi,
    authority: Arc<CertificateAuthority>,
    telemetry: Telemetry,
    port: u16,
    stop: CancellationToken,
}

impl World {
    async fn start() -> Self {
        let api = server();
        let metrics = metrics();
        let authority = Arc::new(CertificateAuthority::generate(Timestamp::now()).unwrap());
        let (stores, reflectors) = Stores::start(&api.client("op"), "weir-system", &metrics);
        stores.wait_ready().await;
        let telemetry = Telemetry::new(metrics.clone());
        let certificate =
            CertificateSource::from_authority(authority.clone(), Identity::Operator, None).unwrap();
        // Every pod has an address of its own on loopback, and all of them the same port.
        let probe = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = probe.local_addr().unwrap().port();
        let collecting = Collecting {
            stores,
            telemetry: telemetry.clone(),
            certificate,
            port,
            metrics,
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            let _reflectors = reflectors;
            collect(collecting, stopped).await;
        });
        Self {
            api,
            authority,
            telemetry,
            port,
            stop,
        }
    }

    /// Tells the cluster of a pod that has no address yet; returns its UID.
    fn pod(&self, name: &str, labels: &serde_json::Value) -> String {
        let pod = self.api.seed(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "weir-system", "labels": labels},
            "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "i"}]},
            "status": {"phase": "Pending"}
        }));
        pod.unwrap()["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// Serves at this address as `identity`, and tells the cluster that the pod runs there.
    async fn serve(&self, (name, uid, ip): (&str, &str, &str), identity: Identity, routes: Routes) {
        let address: SocketAddr = format!("{ip}:{}", self.port).parse().unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        let life = Duration::from_secs(3600);
        let leaf = self
            .authority
            .issue_own(&identity, Some(uid), Timestamp::now(), life)
            .unwrap();
        let source = CertificateSource::fixed(leaf);
        let tls = server_config(&source, |peer| *peer == Identity::Operator).unwrap();
        let stop = self.stop.clone();
        tokio::spawn(serve_tonic(listener, tls, routes, async move {
            stop.cancelled().await;
        }));
        let status = json!({"status": {"phase": "Running", "podIP": ip,
            "conditions": [{"type": "Ready", "status": "True"}]}});
        let pods = Api::<Pod>::namespaced(self.api.client("kubelet"), "weir-system");
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
            .await
            .unwrap();
    }

    fn acknowledged(&self, step: i64) -> Acknowledged {
        self.telemetry.acknowledged(Plane::Cloud, "w", 1, step)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn gateway_labels() -> serde_json::Value {
    json!({"app.kubernetes.io/component": "gateway", "inference.weir.dev/plane": "cloud"})
}

#[tokio::test]
async fn a_gateway_is_found_dialed_and_believed_and_a_cut_stream_comes_back() {
    let world = World::start().await;
    let mut changes = world.telemetry.subscribe();
    let (step, in_force) = watch::channel(3);
    let (cut, _) = broadcast::channel(4);
    let pod_uid = world.pod("gateway", &gateway_labels());
    let gateway = FakeGateway {
        pod_uid: pod_uid.clone(),
        step: in_force,
        cut: cut.clone(),
    };
    let routes = Routes::new(GatewayServer::new(gateway));
    let uid = pod_uid.clone();
    let identity = Identity::GatewayCloud { pod_uid };
    world
        .serve(("gateway", &uid, "127.0.0.2"), identity, routes)
        .await;
    eventually("acknowledged", || async { world.acknowledged(3).is_all() }).await;
    assert!(!world.acknowledged(4).is_all());
    step.send(4).unwrap();
    eventually("the next step", || async { world.acknowledged(4).is_all() }).await;
    let told =
        async { while changes.next().await != Some(TelemetryChange::Workload("w".into())) {} };
    tokio::time::timeout(Duration::from_secs(5), told)
        .await
        .unwrap();
    cut.send(()).unwrap();
    eventually("held", || async { !world.acknowledged(4).is_all() }).await;
    eventually("back", || async { world.acknowledged(4).is_all() }).await;
}

#[tokio::test]
async fn a_pod_that_cannot_prove_who_it_is_acknowledges_nothing() {
    let world = World::start().await;
    let (_step, in_force) = watch::channel(3);
    let uid = world.pod("gateway", &gateway_labels());
    let gateway = FakeGateway {
        pod_uid: uid.clone(),
        step: in_force,
        cut: broadcast::channel(4).0,
    };
    let routes = Routes::new(GatewayServer::new(gateway));
    // A pod of the local plane that claims, by its labels, to be of the cloud plane.
    let identity = Identity::GatewayLocal {
        pod_uid: uid.clone(),
    };
    world
        .serve(("gateway", &uid, "127.0.0.2"), identity, routes)
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let waiting = Acknowledged::Waiting(vec!["gateway".into()]);
    assert_eq!(world.acknowledged(1), waiting);
}

#[tokio::test]
async fn an_agent_is_told_its_engines_and_its_readings_arrive() {
    let world = World::start().await;
    let engines = Arc::new(Mutex::new(Vec::new()));
    let agent = FakeAgent {
        node: "node-1".into(),
        engines: Arc::clone(&engines),
    };
    let routes = Routes::new(AgentServer::new(agent));
    let identity = Identity::Agent {
        node: "node-1".into(),
    };
    let uid = world.pod(
        "agent",
        &json!({"app.kubernetes.io/component": "node-agent"}),
    );
    world
        .serve(("agent", &uid, "127.0.0.3"), identity, routes)
        .await;
    let cpu = || world.telemetry.heard("node-1", Processor::Cpu);
    let is_read = || matches!(cpu(), Some(Heard::Percent(percent)) if percent.round() == 42.0);
    eventually("a reading", || async { is_read() }).await;
    assert_eq!(*engines.lock().unwrap(), Vec::<String>::new());
    world
        .api
        .seed(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "engine", "namespace": "default",
                "labels": {"app.kubernetes.io/managed-by": "weir-operator", "pod-template-hash": "abc",
                    "inference.weir.dev/workload-uid": "0f9c2b1e-0"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "chat-0f9c2b1e-abc",
                    "uid": "r", "controller": true}]},
            "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "i"}]},
            "status": {"phase": "Running", "podIP": "10.244.0.7"}
        }))
        .unwrap();
    eventually("the engine is told", || async {
        *engines.lock().unwrap() == ["http://10.244.0.7:8000"]
    })
    .await;
    let pods = Api::<Pod>::namespaced(world.api.client("user"), "default");
    pods.delete("engine", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    eventually("the engine is gone", || async {
        engines.lock().unwrap().is_empty()
    })
    .await;
}

//! A gateway around a table, a client, and the targets of `upstream`.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use weir_gateway::config::Limits;
use weir_gateway::policy::TrafficPolicy;
use weir_gateway::request::Gateway;
use weir_gateway::routing::{
    Index, Keys, RouteTable, RouteTarget, SharedState, Target, Workload, WorkloadState,
};
use weir_gateway::server::{Drained, ServerLimits, serve};

pub use crate::upstream::{Step, Upstream, chunk, end, event, ok, stream, stream_head, whole};

pub const KEY: &str = "weir-test-key";
pub const UID: &str = "0f9c2b1e-55aa-4c11-9d21-0123456789ab";
pub const CHAT: &str =
    r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"seed":12345678901234567890}"#;
pub const STREAM: &str = r#"{"model":"m","stream":true,"messages":[]}"#;

/// A workload to route to.
pub struct Route {
    pub uid: &'static str,
    pub key: &'static str,
    pub step: i64,
    pub targets: Vec<RouteTarget>,
    pub reachable: Vec<Arc<str>>,
    pub traffic: TrafficPolicy,
    pub state: Arc<WorkloadState>,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            uid: UID,
            key: KEY,
            step: 1,
            targets: Vec::new(),
            reachable: Vec::new(),
            traffic: TrafficPolicy::default(),
            state: Arc::default(),
        }
    }
}

impl Route {
    pub fn local(self, name: &str, weight: u32, port: u16) -> Self {
        self.engines(name, weight, &[port])
    }

    /// A local target with an engine at each of these ports of loopback.
    pub fn engines(mut self, name: &str, weight: u32, ports: &[u16]) -> Self {
        let addresses: Vec<SocketAddr> =
            ports.iter().map(|p| ([127, 0, 0, 1], *p).into()).collect();
        let engines = self.state.target(name).engines_at(&addresses);
        self.push(name, weight, Target::Local(engines));
        self
    }

    pub fn asleep(mut self) -> Self {
        self.targets.last_mut().expect("a target").asleep = true;
        self
    }

    pub fn push(&mut self, name: &str, weight: u32, target: Target) {
        let state = self.state.target(name);
        self.targets.push(RouteTarget {
            name: name.into(),
            weight,
            asleep: false,
            target,
            state,
        });
    }

    pub fn build(self) -> Arc<Workload> {
        Arc::new(Workload {
            uid: self.uid.into(),
            namespace: "ns".into(),
            name: "chat".into(),
            generation: 1,
            model: "m".into(),
            created: 1_700_000_000,
            keys: Keys::only(Sha256::digest(self.key).into()),
            decision_id: "d-1".into(),
            step: self.step,
            targets: self.targets,
            closed: None,
            reachable: self.reachable,
            traffic: self.traffic,
            state: self.state,
        })
    }
}

/// What a gateway of this plane knows at first.
#[cfg(not(feature = "cloud"))]
pub fn empty_index() -> Index {
    Index::new()
}

/// What a gateway of this plane knows at first.
#[cfg(feature = "cloud")]
pub fn empty_index() -> Index {
    use weir_gateway::external::{ExternalTimeouts, Providers};
    let connect = Duration::from_secs(1);
    Index::new(Providers::new(ExternalTimeouts { connect }))
}

/// A port that nobody listens on.
pub async fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port")
        .local_addr()
        .expect("an address")
        .port()
}

/// A gateway that serves on loopback.
pub struct Server {
    pub port: u16,
    pub shared: Arc<SharedState>,
    pub task: JoinHandle<Drained>,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn quick() -> Limits {
    Limits {
        first_byte: Duration::from_millis(300),
        response: Duration::from_millis(300),
        idle: Duration::from_millis(400),
        ..Limits::default()
    }
}

impl Server {
    pub async fn start(workloads: Vec<Arc<Workload>>) -> Self {
        Self::start_with(workloads, Limits::default()).await
    }

    pub async fn start_with(workloads: Vec<Arc<Workload>>, limits: Limits) -> Self {
        let server = Self::start_unsynced(limits).await;
        server.shared.publish(RouteTable::new(workloads));
        server
    }

    pub async fn start_unsynced(limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(SharedState::default());
        let gateway = Arc::new(Gateway::new(Arc::clone(&shared), limits));
        let limits = ServerLimits {
            max_connections: 1024,
            header_timeout: Duration::from_secs(10),
            drain_delay: Duration::from_millis(200),
            drain_timeout: Duration::from_secs(5),
        };
        let task = tokio::spawn(serve(listener, gateway, limits));
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self {
            port,
            shared,
            task,
            client,
        }
    }

    pub async fn send(&self, request: http::request::Builder, body: &str) -> Response<Incoming> {
        let request = request
            .body(Full::new(Bytes::from(body.to_owned())))
            .expect("a request");
        self.client.request(request).await.expect("an answer")
    }

    pub fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let uri = format!("http://127.0.0.1:{}{path}", self.port);
        Request::builder()
            .method(method)
            .uri(uri)
            .header("authorization", format!("Bearer {KEY}"))
    }

    pub async fn post(&self, body: &str) -> Answer {
        let response = self
            .send(self.request(Method::POST, "/v1/chat/completions"), body)
            .await;
        Answer::read(response).await
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub body: String,
    /// The body ended as it should.
    pub whole: bool,
}

impl Answer {
    pub async fn read(response: Response<Incoming>) -> Self {
        let (parts, mut incoming) = response.into_parts();
        let mut body = Vec::new();
        let mut whole = true;
        while let Some(frame) = incoming.frame().await {
            match frame {
                Ok(frame) => body.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Err(_) => {
                    whole = false;
                    break;
                }
            }
        }
        let body = String::from_utf8(body).expect("utf-8");
        Self {
            status: parts.status,
            headers: parts.headers,
            body,
            whole,
        }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("text"))
    }

    pub fn code(&self) -> String {
        let value: serde_json::Value = serde_json::from_str(&self.body).expect("an error in JSON");
        value["error"]["code"].as_str().expect("a code").to_owned()
    }

    /// Target, location and reason.
    pub fn way(&self) -> (&str, &str, &str) {
        (
            self.header("x-weir-target"),
            self.header("x-weir-location"),
            self.header("x-weir-reason"),
        )
    }
}

/// Polls until something holds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..300 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} never held");
}

//! A running `weir-engine serve` with the reference model, and a small HTTP client.
#![allow(dead_code)]

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// SHA-256 of the reference model.
pub const SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
const START_TIMEOUT: Duration = Duration::from_secs(180);

/// The model file: `WEIR_TEST_MODEL`, or what the project's own fetcher has in its cache or puts there.
pub fn model_path() -> PathBuf {
    if let Some(path) = std::env::var_os("WEIR_TEST_MODEL") {
        return PathBuf::from(path);
    }
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/cluster/weir-cluster"
    );
    let output = Command::new(script)
        .arg("model")
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("{script}: {error}; WEIR_TEST_MODEL names a file instead"));
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    assert!(
        output.status.success() && path.is_file(),
        "{script} model: {}; WEIR_TEST_MODEL names a file instead",
        output.status
    );
    path
}

/// A server process, killed when dropped.
pub struct Server {
    child: Child,
    base: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port()
}

/// `weir-engine serve` with a model and more arguments, not started.
pub fn command(port: u16, model: &std::path::Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-engine"));
    command
        .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--model"])
        .arg(model)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

impl Server {
    /// Starts a server and waits until it is ready.
    pub async fn start(args: &[&str]) -> Self {
        let server = Self::spawn(args);
        let begin = Instant::now();
        while server.get("/readyz").await.map(|r| r.0) != Some(StatusCode::OK) {
            assert!(begin.elapsed() < START_TIMEOUT, "the server is not ready");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        server
    }

    /// Starts a server.
    pub fn spawn(args: &[&str]) -> Self {
        let port = free_port();
        let mut all = vec!["--served-model-name", "smol"];
        all.extend_from_slice(args);
        let child = command(port, &model_path(), &all)
            .spawn()
            .expect("the server starts");
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            child,
            base: format!("http://127.0.0.1:{port}"),
            client: Client::builder(TokioExecutor::new()).build(connector),
        }
    }

    /// Status and text of a path; `None` while nobody listens.
    pub async fn get(&self, path: &str) -> Option<(StatusCode, String)> {
        let request = Request::get(format!("{}{path}", self.base))
            .body(Full::default())
            .expect("a request");
        let response = self.client.request(request).await.ok()?;
        let status = response.status();
        let body = response.into_body().collect().await.ok()?.to_bytes();
        Some((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// A counter or gauge of `/metrics`, by its name with labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics").await.expect("metrics");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in:\n{text}"))
            .parse()
            .expect("a number")
    }

    /// Waits until a metric has a value.
    pub async fn wait_for_metric(&self, name: &str, wanted: f64) {
        let begin = Instant::now();
        while self.metric(name).await != wanted {
            assert!(begin.elapsed() < START_TIMEOUT, "{name} is not {wanted}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Posts JSON; the body is not read yet.
    pub async fn send(&self, path: &str, body: &Value) -> (StatusCode, HeaderMap, Incoming) {
        let request = Request::post(format!("{}{path}", self.base))
            .header("content-type", "application/json")
            .body(Full::from(body.to_string()))
            .expect("a request");
        let response = self.client.request(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        (parts.status, parts.headers, body)
    }

    /// Posts JSON and reads the whole answer.
    pub async fn post(&self, path: &str, body: &Value) -> (StatusCode, HeaderMap, String) {
        let (status, headers, body) = self.send(path, body).await;
        let bytes = body.collect().await.expect("a body").to_bytes();
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        (status, headers, text)
    }

    /// Posts JSON and reads JSON.
    pub async fn json(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let (status, _, text) = self.post(path, body).await;
        (status, serde_json::from_str(&text).expect("JSON"))
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let status = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        assert!(status.is_ok_and(|status| status.success()));
    }

    /// Waits for the process' end.
    pub async fn wait(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                return status;
            }
            assert!(begin.elapsed() < START_TIMEOUT, "the server does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

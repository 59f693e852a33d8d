//! A proxy between one component and the API server that numbers writes and kills the component at the one it is told:
//! before it forwards the write, or after the API server's answer and before it passes that on.
//!
//! It listens in plain HTTP on loopback and speaks TLS to the API server; credentials are the component's own and pass
//! through. Watches stream. Writes are known by labels that the user gives them, so that numbers survive small shifts.

mod upstream;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use upstream::Upstream;

/// When the component is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Position {
    /// The API server does not get the write.
    BeforeForwarding,
    /// The API server has answered; the component does not learn it.
    AfterCommit,
}

/// One write: its label, and which of the forwarded writes with that label it is, from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// As the proxy's user named it.
    pub label: String,
    /// Counted from [`FaultProxy::begin`]. A write that was not forwarded does not count: its repetition is the same point.
    pub occurrence: usize,
}

impl fmt::Display for Point {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} #{}", self.label, self.occurrence)
    }
}

/// A mutating request, as far as labels need it.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    /// POST, PUT, PATCH or DELETE.
    pub verb: &'a Method,
    /// Path without its query.
    pub path: &'a str,
    /// The query's field manager; empty where there is none.
    pub manager: &'a str,
    /// The body.
    pub body: &'a [u8],
}

/// What is known of a request that came through.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// When it came, from the start of the proxy.
    pub at: Duration,
    /// Its verb.
    pub verb: Method,
    /// Its path without the query.
    pub path: String,
    /// The point that it is; `None` for writes that are none, and for reads.
    pub point: Option<Point>,
    /// The API server's answer; `None` when there was none.
    pub status: Option<StatusCode>,
    /// The component was killed by it.
    pub killed: Option<Position>,
}

impl fmt::Display for Exchange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.as_ref().map_or("-", StatusCode::as_str);
        let seconds = self.at.as_secs_f64();
        let point = self.point.as_ref().map(Point::to_string);
        let shown = point.unwrap_or_else(|| format!("{} {}", self.verb, self.path));
        write!(formatter, "{seconds:9.3} {status:>3} {shown}")?;
        match self.killed {
            Some(position) => write!(formatter, "  KILLED {position:?}"),
            None => Ok(()),
        }
    }
}

/// Names a write, given the labels of those forwarded since [`FaultProxy::begin`]; `None` makes it no point.
pub type Describe = dyn Fn(Write<'_>, &[String]) -> Option<String> + Send + Sync;
/// Kills the component at once; it is dead when this returns.
pub type Kill = dyn Fn(&Point, Position) + Send + Sync;

/// A running proxy; it ends with this value.
pub struct FaultProxy {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

struct Shared {
    upstream: Upstream,
    describe: Box<Describe>,
    kill: Box<Kill>,
    start: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    armed: BTreeMap<Point, Position>,
    forwarded: Vec<String>,
    exchanges: Vec<Exchange>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FaultProxy {
    /// Starts a proxy on a free port of loopback.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(
        upstream: Upstream,
        describe: Box<Describe>,
        kill: Box<Kill>,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("binding the proxy")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream,
            describe,
            kill,
            start: Instant::now(),
            state: Mutex::default(),
        });
        let mut server = JoinSet::new();
        server.spawn(serve(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            _server: server,
        })
    }

    /// A kubeconfig whose server is this proxy and whose user has this bearer token.
    pub fn kubeconfig(&self, token: &str) -> String {
        let server = format!("http://{}", self.address);
        serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {"server": server}}],
            "users": [{"name": "proxy", "user": {"token": token}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
        })
        .to_string()
    }

    /// Counts from here, and kills at each of these points once.
    pub fn begin(&self, armed: impl IntoIterator<Item = (Point, Position)>) {
        let mut state = self.shared.state();
        state.forwarded.clear();
        state.armed = armed.into_iter().collect();
    }

    /// The points that did not come yet.
    pub fn armed(&self) -> Vec<(Point, Position)> {
        let state = self.shared.state();
        let armed = state.armed.iter();
        armed.map(|(point, at)| (point.clone(), *at)).collect()
    }

    /// The points forwarded since [`FaultProxy::begin`], in their order.
    pub fn points(&self) -> Vec<Point> {
        let labels = self.shared.state().forwarded.clone();
        let point = |(index, label): (usize, &String)| Point {
            label: label.clone(),
            occurrence: occurrences(&labels[..=index], label),
        };
        labels.iter().enumerate().map(point).collect()
    }

    /// Every write that came through, and every read that was refused for want of a right.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.state().exchanges.clone()
    }

    /// How long no point has come.
    pub fn quiet(&self) -> Duration {
        let state = self.shared.state();
        let points = state.exchanges.iter().rev();
        let last = points.into_iter().find(|each| each.point.is_some());
        let now = self.shared.start.elapsed();
        last.map_or(now, |last| now.saturating_sub(last.at))
    }
}

fn occurrences(labels: &[String], label: &str) -> usize {
    labels.iter().filter(|each| *each == label).count()
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with the proxy, so no connection outlives it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(connection(stream, Arc::clone(&shared)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // Fails only to lower the latency.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { exchange(&shared, request).await }
    });
    // A connection that breaks is what this proxy is for.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Why a connection is cut without an answer.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error("the component was killed")]
    Killed,
    #[error("the component's request cannot be read")]
    Read(#[source] hyper::Error),
    #[error("the API server does not answer")]
    Upstream(#[source] hyper_util::client::legacy::Error),
    #[error("the API server's answer was cut")]
    Answer(#[source] hyper::Error),
}

type Body = BoxBody<Bytes, hyper::Error>;

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

async fn exchange(shared: &Shared, request: Request<Incoming>) -> Result<Response<Body>, Cut> {
    let (mut parts, body) = request.into_parts();
    let body = body.collect().await.map_err(Cut::Read)?.to_bytes();
    strip(&mut parts.headers);
    let at = shared.start.elapsed();
    let verb = parts.method.clone();
    let path = parts.uri.path().to_owned();
    let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(&verb);
    if reads {
        let request = Request::from_parts(parts, Full::new(body));
        let answer = shared.upstream.send(request).await.map_err(Cut::Upstream)?;
        if answer.status() == StatusCode::FORBIDDEN {
            shared.state().exchanges.push(Exchange {
                at,
                verb,
                path,
                point: None,
                status: Some(answer.status()),
                killed: None,
            });
        }
        return Ok(answer.map(BodyExt::boxed));
    }
    let query = parts.uri.query().unwrap_or_default();
    let manager = url::form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "fieldManager")
        .map_or_else(String::new, |(_, value)| value.into_owned());
    let seen = Write {
        verb: &verb,
        path: &path,
        manager: &manager,
        body: &body,
    };
    let (number, point, fault) = note(shared, at, seen);
    let forward = Request::from_parts(parts, Full::new(body));
    let strike = point.zip(fault);
    if let Some((point, Position::BeforeForwarding)) = &strike {
        (shared.kill)(point, Position::BeforeForwarding);
        return Err(Cut::Killed);
    }
    let answer = shared.upstream.send(forward).await.map_err(Cut::Upstream)?;
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.map_err(Cut::Answer)?.to_bytes();
    shared.state().exchanges[number].status = Some(parts.status);
    if let Some((point, position)) = &strike {
        (shared.kill)(point, *position);
        return Err(Cut::Killed);
    }
    Ok(Response::from_parts(parts, whole(body)))
}

/// Records a write; says which point it is, and the fault that it meets.
fn note(
    shared: &Shared,
    at: Duration,
    write: Write<'_>,
) -> (usize, Option<Point>, Option<Position>) {
    let mut state = shared.state();
    let label = (shared.describe)(write, &state.forwarded);
    let point = label.map(|label| Point {
        occurrence: occurrences(&state.forwarded, &label) + 1,
        label,
    });
    let fault = point.as_ref().and_then(|point| state.armed.remove(point));
    if let Some(point) = &point
        && fault != Some(Position::BeforeForwarding)
    {
        state.forwarded.push(point.label.clone());
    }
    state.exchanges.push(Exchange {
        at,
        verb: write.verb.clone(),
        path: write.path.to_owned(),
        point: point.clone(),
        status: None,
        killed: fault,
    });
    (state.exchanges.len() - 1, point, fault)
}

/// Removes the headers that speak of one connection; the client towards the API server makes its own.
fn strip(headers: &mut HeaderMap) {
    for name in ["host", "connection", "transfer-encoding", "content-length"] {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests;

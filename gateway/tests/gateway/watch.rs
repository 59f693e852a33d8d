//! Tables follow the API server, and stay when it is away.

use crate::support::{empty_index, eventually};
use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;
use weir_gateway::routing::{Publisher, SharedState, watch_workloads};

type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// An API server with one kind: a list, and events on the open watch.
#[derive(Clone, Default)]
pub struct Api {
    pub list: Arc<Mutex<Vec<Value>>>,
    open: Arc<Mutex<Option<mpsc::UnboundedSender<Value>>>>,
    away: Arc<Mutex<bool>>,
    lists: Arc<Mutex<usize>>,
    /// The version that it is at, counted back from 1000.
    pub back: Arc<Mutex<u64>>,
    pub queries: Arc<Mutex<Vec<String>>>,
}

impl Api {
    pub fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let answer = api.answer(request.uri().query().unwrap_or_default());
            async move { Ok::<_, Infallible>(answer) }
        });
        Client::new(service, "default")
    }

    fn answer(&self, query: &str) -> Response<Answer> {
        self.queries.lock().expect("lock").push(query.to_owned());
        if *self.away.lock().expect("lock") {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "InternalError", "code": 500, "message": "away"});
            return response(StatusCode::INTERNAL_SERVER_ERROR, whole(&status));
        }
        if !query.contains("watch=") {
            *self.lists.lock().expect("lock") += 1;
            let version = 1000 - *self.back.lock().expect("lock");
            let list = json!({
                "apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferenceWorkloadList",
                "metadata": {"resourceVersion": version.to_string()}, "items": *self.list.lock().expect("lock")
            });
            return response(StatusCode::OK, whole(&list));
        }
        let (sender, receiver) = mpsc::unbounded_channel::<Value>();
        *self.open.lock().expect("lock") = Some(sender);
        let frames = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver)
            .map(|event| Ok::<_, Infallible>(Frame::data(Bytes::from(format!("{event}\n")))));
        response(StatusCode::OK, StreamBody::new(frames).boxed_unsync())
    }

    pub fn send(&self, kind: &str, object: Value) {
        let open = self.open.lock().expect("lock");
        open.as_ref()
            .expect("a watch")
            .send(json!({"type": kind, "object": object}))
            .expect("open");
    }

    pub fn set_away(&self, away: bool) {
        *self.away.lock().expect("lock") = away;
        *self.open.lock().expect("lock") = None;
    }

    pub fn is_watched(&self) -> bool {
        self.open
            .lock()
            .expect("lock")
            .as_ref()
            .is_some_and(|open| !open.is_closed())
    }
}

fn whole(value: &Value) -> Answer {
    Full::new(Bytes::from(value.to_string())).boxed_unsync()
}

fn response(status: StatusCode, body: Answer) -> Response<Answer> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(body)
        .expect("a response")
}

pub fn object(uid: &str, version: u64, step: i64) -> Value {
    let (egress, targets) = if cfg!(feature = "cloud") {
        (
            "Allowed",
            json!([{"name": "local", "local": {"modelRef": {"name": "m"}, "tiers": ["cpu"]}}]),
        )
    } else {
        (
            "Forbidden",
            json!([{"name": "local", "local": {"modelRef": {"name": "m"}, "tiers": ["cpu"]}}]),
        )
    };
    json!({
        "apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferenceWorkload",
        "metadata": {"name": "chat", "namespace": "ns", "uid": uid, "generation": 1, "resourceVersion": version.to_string(),
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"dataPolicy": {"egress": egress}, "targets": targets},
        "status": {
            "clientKey": {"secretName": "s", "sha256": hex::encode(Sha256::digest(uid)), "counter": 0},
            "placement": {"target": "local", "location": "Local", "since": "2026-01-01T00:00:00Z",
                "weights": [{"target": "local", "weight": 100, "replicas": 1}, {"target": "gone", "weight": 0}],
                "decisionId": "d-1", "step": step, "stepSince": "2026-01-01T00:00:00Z", "generation": 1}
        }
    })
}

fn start(api: &Api) -> Arc<SharedState> {
    let shared = Arc::new(SharedState::default());
    let publisher = Publisher::new(empty_index(), Arc::clone(&shared), &["workloads"], None);
    tokio::spawn(watch_workloads(api.client(), Arc::clone(&publisher)));
    tokio::spawn(async move { publisher.publish_forever(|_| ()).await });
    shared
}

pub fn step(shared: &SharedState, uid: &str) -> Option<i64> {
    shared.table().by_uid(uid).map(|workload| workload.step)
}

#[tokio::test]
async fn a_table_follows_events_and_ends_with_deletion() {
    let api = Api::default();
    api.list.lock().expect("lock").push(object("u1", 10, 1));
    let shared = start(&api);
    eventually("the list is in force", || step(&shared, "u1") == Some(1)).await;
    let key = Sha256::digest("u1").into();
    assert_eq!(
        shared.table().by_key(&key).expect("by key").targets.len(),
        1
    );
    eventually("a watch is open", || api.is_watched()).await;

    api.send("MODIFIED", object("u1", 1001, 2));
    eventually("the step is in force", || step(&shared, "u1") == Some(2)).await;
    api.send("MODIFIED", object("u1", 999, 1));
    api.send("ADDED", object("u2", 1002, 7));
    eventually("the other one is in force", || {
        step(&shared, "u2") == Some(7)
    })
    .await;
    assert_eq!(step(&shared, "u1"), Some(2), "an older state is ignored");

    api.send("DELETED", object("u1", 1003, 2));
    eventually("it is gone", || step(&shared, "u1").is_none()).await;
    assert!(shared.table().by_key(&key).is_none());
}

#[tokio::test]
async fn an_object_that_does_not_decode_loses_its_route_and_hurts_no_other() {
    let api = Api::default();
    api.list
        .lock()
        .expect("lock")
        .extend([object("u1", 10, 1), object("u2", 11, 1)]);
    let shared = start(&api);
    eventually("both are in force", || {
        step(&shared, "u1").is_some() && step(&shared, "u2").is_some()
    })
    .await;
    eventually("a watch is open", || api.is_watched()).await;
    let mut broken = object("u1", 1001, 2);
    broken["spec"]["dataPolicy"]["egress"] = "Sometimes".into();
    api.send("MODIFIED", broken);
    eventually("it has no route", || step(&shared, "u1").is_none()).await;
    assert!(step(&shared, "u2").is_some());
}

#[tokio::test]
async fn the_last_table_stays_while_the_api_server_is_away() {
    let api = Api::default();
    api.set_away(true);
    let shared = start(&api);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(
        !shared.is_synced(),
        "without a first list there is no table"
    );

    api.list.lock().expect("lock").push(object("u1", 10, 1));
    api.set_away(false);
    eventually("the list is in force", || step(&shared, "u1") == Some(1)).await;
    eventually("a watch is open", || api.is_watched()).await;
    let version = *shared.versions().borrow();

    let fails = || {
        let page = weir_gateway::telemetry::metrics::render(&shared);
        page.contains("weir_gateway_watch_failing{kind=\"workloads\"} 1\n")
    };
    assert!(!fails());
    api.set_away(true);
    eventually("it is told", fails).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(
        (step(&shared, "u1"), *shared.versions().borrow()),
        (Some(1), version),
        "nothing was taken away"
    );

    api.set_away(false);
    eventually("a watch is open again", || api.is_watched()).await;
    api.send("MODIFIED", object("u1", 1005, 3));
    eventually("news arrive again", || step(&shared, "u1") == Some(3)).await;
    assert!(!fails());
}

//! Engines follow the cluster's EndpointSlices.

use crate::support::{empty_index, eventually};
use crate::watch::Api;
use rstest::rstest;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use weir_gateway::routing::{Index, Publisher, SharedState, TargetKey, convert, watch_endpoints};

fn slice(name: &str, version: u64, endpoints: Value) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": "ns", "name": name, "resourceVersion": version.to_string(), "labels": {
            "inference.weir.dev/workload-uid": "u", "inference.weir.dev/target": "here",
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}},
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "metrics", "port": 9090}, {"name": "http", "port": 8000, "protocol": "TCP"}],
    })
}

fn pod(address: &str, conditions: Value) -> Value {
    json!({"addresses": [address], "conditions": conditions, "targetRef": {"kind": "Pod", "name": "p"}})
}

fn read(object: Value) -> Option<(Vec<SocketAddr>, Vec<SocketAddr>)> {
    let object = serde_json::from_value(object).expect("a slice");
    convert::slice(&object).map(|slice| (slice.ready, slice.ending))
}

const ADDRESS: &str = "10.0.0.1:8000";

#[rstest]
#[case::ready(json!({"ready": true, "serving": true}), &[ADDRESS], &[])]
#[case::unknown(json!({}), &[ADDRESS], &[])]
#[case::starting(json!({"ready": false, "serving": false}), &[], &[])]
#[case::not_told(json!({"ready": false}), &[], &[])]
#[case::ending(json!({"ready": false, "serving": true, "terminating": true}), &[], &[ADDRESS])]
fn an_endpoint_is_ready_or_ends_or_is_none(
    #[case] conditions: Value,
    #[case] ready: &[&str],
    #[case] ending: &[&str],
) {
    let found = read(slice("a", 1, json!([pod("10.0.0.1", conditions)])));
    let text = |all: Vec<SocketAddr>| all.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (is_ready, ends) = found.expect("a slice of a target");
    assert_eq!(
        (text(is_ready), text(ends)),
        (
            ready.iter().map(ToString::to_string).collect(),
            ending.iter().map(ToString::to_string).collect(),
        )
    );
}

#[test]
fn what_is_no_pod_or_has_no_port_or_no_target_is_no_engine() {
    let mut external = pod("203.0.113.9", json!({"ready": true}));
    external
        .as_object_mut()
        .expect("an object")
        .remove("targetRef");
    let mut node = pod("10.0.0.2", json!({"ready": true}));
    node["targetRef"]["kind"] = "Node".into();
    let named = pod("engine.example.com", json!({"ready": true}));
    let all = json!([
        external,
        node,
        named,
        pod("10.0.0.1", json!({"ready": true}))
    ]);
    let (ready, _) = read(slice("a", 1, all.clone())).expect("a slice of a target");
    assert_eq!(ready, [ADDRESS.parse().expect("an address")]);
    let mut portless = slice("a", 1, all.clone());
    portless["ports"] = json!([{"name": "metrics", "port": 9090}]);
    assert_eq!(read(portless), Some((Vec::new(), Vec::new())));
    let mut foreign = slice("a", 1, all);
    foreign["metadata"]["labels"] = json!({"kubernetes.io/service-name": "web"});
    assert_eq!(read(foreign), None);
}

#[tokio::test]
async fn engines_come_and_go_with_the_slices_of_the_controller() {
    let api = Api::default();
    let engine = |last: u8| json!([pod(&format!("10.0.0.{last}"), json!({"ready": true}))]);
    let listed = slice("a", 1, engine(1));
    api.list.lock().expect("lock").push(listed);
    let shared = Arc::new(SharedState::default());
    let publisher = Publisher::new(empty_index(), Arc::clone(&shared), &["endpoints"], None);
    tokio::spawn(watch_endpoints(api.client(), Arc::clone(&publisher)));
    let (publisher, seen) = (Arc::clone(&publisher), Arc::new(Mutex::new(Vec::new())));
    let record = Arc::clone(&seen);
    tokio::spawn(async move {
        let key = TargetKey {
            namespace: "ns".into(),
            uid: "u".into(),
            label: "here".into(),
        };
        let published = |index: &mut Index| {
            let addresses = index.endpoints.of(&key);
            let last = addresses
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>();
            record.lock().expect("lock").push(last);
        };
        publisher.publish_forever(published).await;
    });
    let now = |expected: &[&str]| {
        let seen = seen.lock().expect("lock");
        seen.last().is_some_and(|last| last == expected)
    };
    eventually("the list is in force", || now(&["10.0.0.1:8000"])).await;
    assert!(shared.is_synced());
    eventually("a watch is open", || api.is_watched()).await;
    api.send("ADDED", slice("b", 1001, engine(2)));
    eventually("the other one is, too", || {
        now(&["10.0.0.1:8000", "10.0.0.2:8000"])
    })
    .await;
    api.send("MODIFIED", slice("a", 1002, json!([])));
    eventually("the first is gone", || now(&["10.0.0.2:8000"])).await;
    let tables = seen.lock().expect("lock").len();
    api.send("MODIFIED", slice("a", 1003, json!([])));
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(
        seen.lock().expect("lock").len(),
        tables,
        "a slice that says the same makes no table"
    );
    api.send("DELETED", slice("b", 1004, engine(2)));
    eventually("none is left", || now(&[])).await;
    let queries = api.queries.lock().expect("lock");
    assert!(queries.iter().all(|query| query.contains("labelSelector=")
        && query.contains("endpointslice-controller.k8s.io")));
}

//! Who may reach an engine: the NetworkPolicy beside its Deployment.

use serde_json::{Value, json};

use super::fixtures::{Cluster, eventually, private};
use super::lives::writes_of;

const DEAR: &str = "100";
const POLICIES: &str = "networkpolicies.networking.k8s.io";

fn ask(cluster: &Cluster, verb: &str, name: &str, body: Value) {
    let request = weir_simapi::RequestInfo {
        actor: "user".into(),
        verb: verb.into(),
        group: "networking.k8s.io".into(),
        version: "v1".into(),
        resource: "networkpolicies".into(),
        namespace: "team".into(),
        name: name.into(),
        content_type: "application/merge-patch+json".into(),
        body,
        ..weir_simapi::RequestInfo::default()
    };
    cluster.api.handle(&request).expect("is accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_have_a_policy_of_their_own_and_get_it_back_without_a_restart() {
    let cluster = Cluster::new(DEAR);
    let operator = cluster.operator("op").await;
    let created = cluster.api.seed(&private("private")).expect("seeds");
    let uid = created["metadata"]["uid"].as_str().expect("a UID");
    let name = weir_crds::names::child_name("private", "here", uid);
    let policy = || cluster.api.object(POLICIES, "team", &name);
    eventually("ready", || cluster.is("private", "Ready", "True")).await;
    let made = policy().expect("a policy");
    assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], uid);
    let selected = &made["spec"]["podSelector"]["matchLabels"];
    let deployment = cluster.deployment("here").expect("a Deployment");
    assert_eq!(selected, &deployment["spec"]["selector"]["matchLabels"]);
    // As it was before there were any, and as somebody opens it.
    ask(&cluster, "delete", &name, Value::Null);
    eventually("made again", || policy().is_some()).await;
    ask(&cluster, "patch", &name, json!({"spec": {"ingress": [{}]}}));
    eventually("closed again", || {
        policy().is_some_and(|policy| policy["spec"] == made["spec"])
    })
    .await;
    let after = cluster.deployment("here").expect("a Deployment");
    let generation = |object: &Value| object["metadata"]["generation"].clone();
    assert_eq!(generation(&after), generation(&deployment));
    operator.end().await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_go_where_the_release_has_none_and_nothing_is_written_then() {
    let mut cluster = Cluster::new(DEAR);
    let operator = cluster.operator("op").await;
    cluster.api.seed(&private("private")).expect("seeds");
    let policies = |cluster: &Cluster| cluster.api.objects(POLICIES, "team").len();
    eventually("ready", || cluster.is("private", "Ready", "True")).await;
    assert_eq!(policies(&cluster), 1);
    operator.end().await;
    cluster.settings.engine_network_policy = false;
    let operator = cluster.operator("next").await;
    eventually("gone", || policies(&cluster) == 0).await;
    let of_policies = |write: &&String| write.contains("networkpolicies");
    // On a busy machine the operator sees its own deletion late, and asks for it once more.
    for _ in 0..5 {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let writes = writes_of(&cluster, "next");
        cluster.api.clear_history();
        if writes.iter().find(of_policies).is_none() {
            break;
        }
    }
    cluster.api.cut_watches();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let writes = writes_of(&cluster, "next");
    assert_eq!(writes.iter().find(of_policies), None);
    operator.end().await;
    cluster.stop();
}

/// A gateway of the local plane, with the mark or of a version from before.
fn gateway(name: &str, sends_key: bool) -> Value {
    let annotations = match sends_key {
        true => json!({"inference.weir.dev/sends-engine-key": "true"}),
        false => json!({}),
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "weir-system", "annotations": annotations, "labels": {
            "app.kubernetes.io/component": "gateway", "inference.weir.dev/plane": "local"}},
        "spec": {"containers": [{"name": "gateway", "image": "x"}]}
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_are_locked_when_the_last_gateway_that_has_no_key_is_gone_and_stay_locked() {
    let cluster = Cluster::new(DEAR);
    for (name, sends_key) in [("before", false), ("after", true)] {
        let pod = gateway(name, sends_key);
        cluster.api.seed(&pod).expect("seeds");
    }
    let operator = cluster.operator("op").await;
    cluster.api.seed(&private("private")).expect("seeds");
    eventually("ready", || cluster.is("private", "Ready", "True")).await;
    let is_locked = || {
        let deployment = cluster.deployment("here").expect("a Deployment");
        let args = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
        args.to_string().contains("--key-root=")
    };
    assert!(!is_locked(), "a gateway without a key serves");
    let request = weir_simapi::RequestInfo {
        actor: "user".into(),
        verb: "delete".into(),
        version: "v1".into(),
        resource: "pods".into(),
        namespace: "weir-system".into(),
        name: "before".into(),
        body: json!({"gracePeriodSeconds": 0}),
        ..weir_simapi::RequestInfo::default()
    };
    cluster.api.handle(&request).expect("is accepted");
    eventually("locked by itself", is_locked).await;
    let pod = gateway("back", false);
    cluster.api.seed(&pod).expect("seeds");
    let poke = json!({"metadata": {"annotations": {"looked": "again"}}});
    cluster.edit("private", poke);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(is_locked(), "a lock is not taken off again");
    operator.end().await;
    cluster.stop();
}

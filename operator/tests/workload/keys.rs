//! Client keys: they survive the loss of their root, and a Secret that is missing or refused is told and made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use weir_gateway::routing::KeyHash;
use weir_operator::ca;
use weir_simapi::ApiError;

use super::fixtures::{Cluster, WORKLOADS, eventually, private};

const SERVED: usize = 20;
const OVERLAP: Duration = Duration::from_secs(20);
/// What whole seconds take from a time.
const MARGIN: Duration = Duration::from_secs(2);

fn names() -> Vec<String> {
    (0..SERVED).map(|at| format!("w{at}")).collect()
}

/// Hash of the key in the Secret that status names.
fn held(cluster: &Cluster, name: &str) -> Option<KeyHash> {
    let workload = cluster.workload(name);
    let secret = workload["status"]["clientKey"]["secretName"].as_str()?;
    let secret = cluster.api.object("secrets", "team", secret)?;
    let key = STANDARD.decode(secret["data"]["api-key"].as_str()?).ok()?;
    Some(Sha256::digest(key).into())
}

/// Whether a gateway that sees this version of a workload lets a key in.
fn opens(workload: &Value, key: &KeyHash) -> bool {
    opens_at(workload, key, Timestamp::now())
}

fn opens_at(workload: &Value, key: &KeyHash, at: Timestamp) -> bool {
    let workload = serde_json::from_value(workload.clone()).expect("a workload");
    let input = weir_gateway::routing::convert::workload(&workload);
    let Ok(input) = input else {
        return false;
    };
    input.keys.accepts(key, at.as_second())
}

/// When a workload's key was made anew, where its conditions say so.
fn replaced_at(workload: &Value) -> Option<Timestamp> {
    let conditions = workload["status"]["conditions"].as_array()?;
    let replaced = conditions
        .iter()
        .find(|condition| condition["reason"] == "RootReplaced")?;
    replaced["lastTransitionTime"].as_str()?.parse().ok()
}

fn secrets(cluster: &Cluster) -> usize {
    cluster.api.objects("secrets", "team").len()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_the_root_locks_no_client_out_and_is_told() {
    let mut cluster = Cluster::new("100");
    let client = cluster.api.client("operator");
    let root = ca::load_or_create(&client, "weir-system").await;
    let root = root.expect("is made");
    assert!(root.is_new);
    cluster.settings.key_overlap = OVERLAP;
    cluster.client_keys = root.client_keys;
    let first = cluster.operator("first").await;
    for name in names() {
        cluster.api.seed(&private(&name)).expect("seeds");
    }
    cluster.set_devices(40, 40);
    let all = |holds: &dyn Fn(&str) -> bool| names().iter().all(|name| holds(name));
    eventually("served", || all(&|name| cluster.is(name, "Ready", "True"))).await;
    let old: BTreeMap<String, KeyHash> = names()
        .into_iter()
        .map(|name| (name.clone(), held(&cluster, &name).expect("a key")))
        .collect();
    first.end().await;

    cluster.ask_in("delete", ("", "v1", "secrets"), "weir-system", "weir-ca");
    let root = ca::load_or_create(&client, "weir-system").await;
    let root = root.expect("is made anew");
    assert!(root.is_new);
    cluster
        .gateways
        .silent_on_keys
        .store(true, Ordering::Relaxed);
    cluster.api.clear_history();
    cluster.client_keys = root.client_keys;
    let begun = Timestamp::now();
    let second = cluster.operator("second").await;
    let has_new = |name: &str| {
        let key = held(&cluster, name);
        key.is_some_and(|key| key != old[name] && opens(&cluster.workload(name), &key))
            && cluster.condition(name, "ClientKeyReady")["reason"] == "RootReplaced"
            && cluster.is(name, "Ready", "True")
    };
    eventually("every new key opens", || all(&has_new)).await;
    // In every version that a gateway can have seen, the old key opens; once it is replaced, for the whole overlap.
    let mut versions = 0;
    for record in cluster.api.writes() {
        let request = &record.request;
        if request.resource == "inferenceworkloads" && record.committed.is_some() {
            versions += 1;
            let until = replaced_at(&record.answer).map_or(begun, |at| at + OVERLAP - MARGIN);
            assert!(
                opens_at(&record.answer, &old[&request.name], until),
                "{}",
                record.answer
            );
        }
    }
    assert!(versions >= SERVED);
    eventually("an event each", || {
        let told = cluster.events();
        let told = told
            .iter()
            .filter(|reason| *reason == "ClientKeyRootReplaced");
        told.count() == SERVED
    })
    .await;
    assert_eq!(secrets(&cluster), 2 * SERVED);

    tokio::time::sleep(OVERLAP).await;
    assert_eq!(
        secrets(&cluster),
        2 * SERVED,
        "no gateway says that it has the new keys"
    );
    cluster
        .gateways
        .silent_on_keys
        .store(false, Ordering::Relaxed);
    eventually("the old Secrets are gone", || {
        secrets(&cluster) == SERVED
            && all(&|name| cluster.condition(name, "ClientKeyReady")["reason"] == "Made")
    })
    .await;
    for name in names() {
        assert!(!opens(&cluster.workload(&name), &old[&name]));
        assert!(has_key(&cluster, &name));
    }
    second.end().await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_is_deleted_beside_a_leader_is_there_again_and_another_one_ends_it() {
    let cluster = Cluster::new("100");
    let client = cluster.api.client("operator");
    let load = || ca::load_or_create(&client, "weir-system");
    let made = load().await.expect("is made");
    let key = made.client_keys.derive("u", 0).sha256;
    let every = Duration::from_millis(50);
    let namespace = "weir-system".to_owned();
    let stop = CancellationToken::new();
    let keeping = tokio::spawn(ca::keep(client.clone(), namespace, made, every, stop));
    let there = || cluster.api.object("secrets", "weir-system", "weir-ca");
    let delete = || cluster.ask_in("delete", ("", "v1", "secrets"), "weir-system", "weir-ca");
    delete();
    eventually("there again", || there().is_some()).await;
    let again = load().await.expect("is read");
    assert!(!again.is_new);
    assert_eq!(again.client_keys.derive("u", 0).sha256, key);
    assert!(!keeping.is_finished());
    let other = Cluster::new("100");
    let elsewhere = other.api.client("operator");
    drop(ca::load_or_create(&elsewhere, "weir-system").await);
    let another = other.api.object("secrets", "weir-system", "weir-ca");
    cluster.replace_secret(&another.expect("is made"));
    eventually("ends", || keeping.is_finished()).await;
    cluster.stop();
    other.stop();
}

fn has_key(cluster: &Cluster, name: &str) -> bool {
    held(cluster, name).is_some_and(|key| opens(&cluster.workload(name), &key))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_keeps_the_key_before_it_for_the_overlap_of_the_annotation() {
    let cluster = Cluster::new("100");
    let operator = cluster.operator("op").await;
    cluster.api.seed(&private("chat")).expect("seeds");
    eventually("ready", || cluster.is("chat", "Ready", "True")).await;
    let before = held(&cluster, "chat").expect("a key");
    let rotate = |counter: &str, overlap: &str| {
        let annotations = json!({"inference.weir.dev/key-counter": counter, "inference.weir.dev/key-overlap": overlap});
        cluster.edit("chat", json!({"metadata": {"annotations": annotations}}));
    };
    rotate("1", "1h");
    eventually("rotated", || {
        held(&cluster, "chat").is_some_and(|key| key != before)
    })
    .await;
    let after = held(&cluster, "chat").expect("a key");
    let workload = cluster.workload("chat");
    assert!(opens(&workload, &before) && opens(&workload, &after));
    assert_eq!(
        cluster.condition("chat", "ClientKeyReady")["reason"],
        "Rotated"
    );
    rotate("2", "0s");
    eventually("leaked, and closed at once", || {
        let workload = cluster.workload("chat");
        !opens(&workload, &after) && has_key(&cluster, "chat") && secrets(&cluster) == 2
    })
    .await;
    assert!(opens(&cluster.workload("chat"), &before));
    operator.end().await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_whose_key_a_quota_refuses_is_not_ready() {
    let cluster = Cluster::new("100");
    let full = Arc::new(AtomicBool::new(true));
    let quota = Arc::clone(&full);
    let words = "secrets \"k\" is forbidden: exceeded quota: q, requested: count/secrets=1";
    cluster.api.on_admission(move |request, _, _| {
        if request.resource == "secrets" && quota.load(Ordering::Relaxed) {
            return Err(ApiError::new(403, "Forbidden", words));
        }
        Ok(())
    });
    let operator = cluster.operator("op").await;
    cluster.api.seed(&private("chat")).expect("seeds");
    eventually("told", || cluster.is("chat", "LocalReady", "True")).await;
    let condition = cluster.condition("chat", "ClientKeyReady");
    assert_eq!(condition["reason"], "ChildRefused");
    assert!(
        condition["message"]
            .as_str()
            .is_some_and(|message| message.contains(words))
    );
    assert_eq!(cluster.condition("chat", "Ready")["reason"], "ChildRefused");
    assert!(cluster.is("chat", "Ready", "False") && cluster.is("chat", "Stalled", "True"));
    assert!(cluster.workload("chat")["status"]["clientKey"].is_null());
    eventually("an event", || {
        cluster.events().contains(&"ClientKeyNotReady".to_owned())
    })
    .await;
    full.store(false, Ordering::Relaxed);
    eventually("made", || cluster.is("chat", "Ready", "True")).await;
    assert!(has_key(&cluster, "chat"));
    operator.end().await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_missing_comes_back_when_its_workload_is_edited_also_an_invalid_one() {
    let cluster = Cluster::new("100");
    let operator = cluster.operator("op").await;
    cluster.api.seed(&private("chat")).expect("seeds");
    eventually("ready", || cluster.is("chat", "Ready", "True")).await;
    let delete_secret = || {
        let workload = cluster
            .api
            .object(WORKLOADS, "team", "chat")
            .unwrap_or_default();
        let secret = workload["status"]["clientKey"]["secretName"].clone();
        let secret = secret.as_str().expect("a name");
        cluster.ask_in("delete", ("", "v1", "secrets"), "team", secret);
    };
    delete_secret();
    cluster.edit(
        "chat",
        json!({"metadata": {"annotations": {"team/note": "key, please"}}}),
    );
    eventually("back", || has_key(&cluster, "chat")).await;

    let mut targets = private("chat")["spec"]["targets"].clone();
    targets[0]["local"]["podTemplate"] = json!({"resources": {"limits": {"memory": "a lot"}}});
    cluster.edit("chat", json!({"spec": {"targets": targets}}));
    eventually("invalid", || cluster.is("chat", "Accepted", "False")).await;
    delete_secret();
    targets[0]["local"]["podTemplate"] = json!({"resources": {"limits": {"memory": "very much"}}});
    cluster.edit("chat", json!({"spec": {"targets": targets}}));
    eventually("back again", || has_key(&cluster, "chat")).await;
    assert!(cluster.is("chat", "Accepted", "False"));
    operator.end().await;
    cluster.stop();
}

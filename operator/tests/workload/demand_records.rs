//! What is known of a workload's hours outlives the operator and the gateways, and goes with the workload.

use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use weir_crds::names;
use weir_proto::Minute;
use weir_simapi::Fault;

use super::fixtures::{Cluster, eventually, hybrid};

const RECORDS: &str = "inferencedemands.inference.weir.dev";
/// Objects are this old, so that the hours before now count.
const AGE: i64 = 48;

fn observed(name: &str) -> Value {
    let mut workload = hybrid(name);
    workload["spec"]["demand"]["source"] = "Observed".into();
    workload
}

fn uid_of(workload: &Value) -> String {
    workload["metadata"]["uid"]
        .as_str()
        .expect("a UID")
        .to_owned()
}

fn hour(ago: i64) -> Timestamp {
    let this = Timestamp::now().as_second() / 3_600 * 3_600;
    Timestamp::from_second(this - ago * 3_600).expect("a time")
}

/// A minute with traffic in every second hour of the last day, busier towards now.
fn told(uid: &str) -> Vec<Minute> {
    let minute = |ago: i64| Minute {
        uid: uid.to_owned(),
        start: hour(ago).as_second() + 600,
        requests: (30 - ago).unsigned_abs(),
        input_tokens: 500,
        output_tokens: 100,
        ..Minute::default()
    };
    (1..=22).step_by(2).map(minute).collect()
}

/// A record of the hours so long ago.
fn earlier(workload: &Value, owner: &str, ago: RangeInclusive<i64>) -> Value {
    let each = |count: i64| ago.clone().map(|_| count).collect::<Vec<_>>();
    let run = json!({"start": hour(*ago.end()).to_string(), "requests": ago.clone().collect::<Vec<_>>(),
        "inputTokens": each(1_000), "cachedInputTokens": each(100), "outputTokens": each(200)});
    record_of(workload, owner, &run)
}

fn record_of(workload: &Value, owner: &str, run: &Value) -> Value {
    let name = workload["metadata"]["name"].as_str().unwrap_or_default();
    json!({
        "apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferenceDemand",
        "metadata": {"name": names::demand_name(name, &uid_of(workload)), "namespace": "team",
            "ownerReferences": [{"apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferenceWorkload",
                "name": name, "uid": owner, "controller": true, "blockOwnerDeletion": true}]},
        "spec": {}, "status": {"runs": [run]},
    })
}

fn record(cluster: &Cluster, workload: &Value) -> Value {
    let name = workload["metadata"]["name"].as_str().unwrap_or_default();
    let name = names::demand_name(name, &uid_of(workload));
    let record = cluster.api.object(RECORDS, "team", &name);
    record.unwrap_or_default()
}

/// The figures that hours decide.
fn figures(cluster: &Cluster, name: &str) -> [Value; 3] {
    let inputs = &cluster.workload(name)["status"]["decision"]["inputs"];
    [
        "requestsPerMonth",
        "activeHoursPercent",
        "peakToMeanPercent",
    ]
    .map(|of| inputs[of].clone())
}

fn revision(cluster: &Cluster, name: &str) -> Value {
    cluster.workload(name)["status"]["decision"]["inputs"]["priceBook"]["revision"].clone()
}

fn writes_of(cluster: &Cluster, actor: &str) -> usize {
    let requests = cluster.api.history();
    let records = requests.iter().filter(|record| {
        let request = &record.request;
        request.actor == actor && request.is_mutating() && request.resource == "inferencedemands"
    });
    records.count()
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_that_were_learned_outlive_the_operator_and_the_gateways() {
    let cluster = Cluster::aged("100", AGE);
    let busy = cluster.api.seed(&observed("busy")).expect("seeds");
    let idle = cluster.api.seed(&observed("idle")).expect("seeds");
    let record_before = earlier(&busy, &uid_of(&busy), 26..=40);
    cluster.api.seed(&record_before).expect("seeds");
    cluster.gateways.hours_up.store(30, Ordering::Relaxed);
    *cluster.gateways.minutes.lock().expect("not poisoned") = told(&uid_of(&busy));
    let first = cluster.operator("first").await;
    eventually("recorded", || {
        record(&cluster, &busy)["status"]["knownHours"].as_i64() > Some(30)
    })
    .await;
    let recorded = record(&cluster, &busy)["status"].clone();
    eventually("decided by", || {
        figures(&cluster, "busy")[2] == recorded["peakToMeanPercent"]
    })
    .await;
    let known = figures(&cluster, "busy");
    assert_eq!(known[0], recorded["requestsPerMonth"]);
    assert_eq!(known[1], recorded["activeHoursPercent"]);
    assert!(known.iter().all(Value::is_i64), "{known:?}");
    first.end().await;
    // Metadata and status once, and once more should an hour end meanwhile.
    let writes = writes_of(&cluster, "first");
    assert!((2..=3).contains(&writes), "{writes}");
    assert_eq!(record(&cluster, &idle), Value::Null);

    cluster.gateways.absent.store(true, Ordering::Relaxed);
    let second = cluster.operator("second").await;
    cluster.set_price("99");
    eventually("decided anew", || revision(&cluster, "busy") == "r99").await;
    assert_eq!(figures(&cluster, "busy"), known);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(writes_of(&cluster, "second"), 0);
    second.end().await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_goes_with_its_workload_and_a_new_one_of_the_same_name_inherits_nothing() {
    let cluster = Cluster::aged("100", AGE);
    cluster.gateways.absent.store(true, Ordering::Relaxed);
    let old = cluster.api.seed(&observed("chat")).expect("seeds");
    let record_before = earlier(&old, &uid_of(&old), 2..=40);
    cluster.api.seed(&record_before).expect("seeds");
    let operator = cluster.operator("op").await;
    eventually("decided", || revision(&cluster, "chat") == "r100").await;
    assert_eq!(figures(&cluster, "chat")[1], 100);
    cluster.delete("chat");
    eventually("gone", || record(&cluster, &old) == Value::Null).await;
    let new = cluster.api.seed(&observed("chat")).expect("seeds");
    assert_ne!(uid_of(&new), uid_of(&old));
    eventually("decided", || revision(&cluster, "chat") == "r100").await;
    assert_eq!(figures(&cluster, "chat")[1..], [Value::Null, Value::Null]);
    assert_eq!(cluster.api.objects(RECORDS, "team"), Vec::<Value>::new());
    operator.end().await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_and_a_damaged_record_are_told_and_replaced() {
    let cluster = Cluster::aged("100", AGE);
    cluster.gateways.hours_up.store(30, Ordering::Relaxed);
    let names = ["foreign", "orphaned", "damaged"];
    let workloads = names.map(|name| cluster.api.seed(&observed(name)).expect("seeds"));
    let [foreign, orphaned, damaged] = workloads.each_ref();
    let other = uid_of(&cluster.api.seed(&observed("other")).expect("seeds"));
    let mut records = [
        earlier(foreign, &other, 26..=40),
        earlier(orphaned, &other, 26..=40),
        earlier(damaged, &uid_of(damaged), 26..=40),
    ];
    records[1]["metadata"]["ownerReferences"] = json!([]);
    let twice = records[2]["status"]["runs"][0].clone();
    records[2]["status"]["runs"] = json!([twice, twice]);
    for record in &records {
        cluster.api.seed(record).expect("seeds");
    }
    let minutes = workloads
        .iter()
        .flat_map(|workload| told(&uid_of(workload)));
    *cluster.gateways.minutes.lock().expect("not poisoned") = minutes.collect();
    let operator = cluster.operator("op").await;
    for workload in &workloads {
        eventually("replaced", || {
            let record = record(&cluster, workload);
            let owner = &record["metadata"]["ownerReferences"][0]["uid"];
            *owner == uid_of(workload) && record["status"]["newestHour"].is_string()
        })
        .await;
        let known = record(&cluster, workload)["status"]["knownHours"].as_i64();
        assert!(
            known.is_some_and(|known| (20..=25).contains(&known)),
            "{known:?}"
        );
    }
    let told = || {
        cluster
            .events()
            .iter()
            .filter(|reason| *reason == "DemandRecordUnusable")
            .count()
    };
    eventually("told", || told() == names.len()).await;
    operator.end().await;
    cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_written_keeps_nothing_back() {
    let cluster = Cluster::aged("100", AGE);
    let chat = cluster.api.seed(&hybrid("chat")).expect("seeds");
    cluster.gateways.hours_up.store(30, Ordering::Relaxed);
    *cluster.gateways.minutes.lock().expect("not poisoned") = told(&uid_of(&chat));
    cluster.api.on_request(|request| {
        if request.actor == "refused"
            && request.is_mutating()
            && request.resource == "inferencedemands"
        {
            return Fault::RespondBefore(403);
        }
        Fault::Pass
    });
    let refused = cluster.operator("refused").await;
    eventually("tried", || writes_of(&cluster, "refused") > 0).await;
    eventually("on the local target", || cluster.settled_on("chat", "here")).await;
    cluster.set_price("0.1");
    eventually("on the cloud", || cluster.settled_on("chat", "cloud")).await;
    // It is tried again after a minute only.
    let tries = writes_of(&cluster, "refused");
    assert!((1..=3).contains(&tries), "{tries}");
    refused.end().await;
    assert_eq!(record(&cluster, &chat), Value::Null);
    let next = cluster.operator("next").await;
    eventually("recorded", || {
        record(&cluster, &chat)["status"]["newestHour"].is_string()
    })
    .await;
    next.end().await;
    cluster.stop();
}

/// Eight days in which each had a quarter with traffic for two and a half replicas; `busy` says which hours before this one.
fn quarters(workload: &Value, busy: impl Fn(i64) -> bool) -> Value {
    let hours = || (1..=8 * 24_i64).rev();
    let each = |count: i64| {
        let of_hour = |ago: i64| if busy(ago % 24) { count } else { count / 50 };
        hours().map(of_hour).collect::<Vec<_>>()
    };
    let run = json!({"start": hour(8 * 24).to_string(), "requests": each(50_000), "inputTokens": each(50_000),
        "cachedInputTokens": each(0), "outputTokens": each(90_000_000)});
    record_of(workload, &uid_of(workload), &run)
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_follow_the_hour_of_the_day() {
    let cluster = Cluster::aged("100", 9 * 24);
    cluster.gateways.absent.store(true, Ordering::Relaxed);
    let scaled = |name: &str| {
        let mut workload = observed(name);
        workload["spec"]["targets"][0]["local"]["scaling"]["maxReplicas"] = 6.into();
        workload["spec"]["traffic"]["spillover"] = json!({"enabled": true});
        cluster.api.seed(&workload).expect("seeds")
    };
    let (busy, quiet) = (scaled("busy-now"), scaled("quiet-now"));
    let records = [
        quarters(&busy, |ago| !(3..=21).contains(&ago)),
        quarters(&quiet, |ago| (9..15).contains(&ago)),
    ];
    for record in &records {
        cluster.api.seed(record).expect("seeds");
    }
    let operator = cluster.operator("op").await;
    for (workload, replicas) in [(&busy, 3), (&quiet, 1)] {
        let name = workload["metadata"]["name"].as_str().expect("a name");
        eventually("split", || {
            let decision = &cluster.workload(name)["status"]["decision"];
            decision["split"] == json!({"replicas": replicas, "overflowTarget": "cloud"})
        })
        .await;
        // The decision is for the busy hour in both.
        let decision = &cluster.workload(name)["status"]["decision"];
        assert_eq!(decision["candidates"][0]["replicas"], 3, "{decision}");
        let child = names::child_name(name, "here", &uid_of(workload));
        let ordered = || cluster.api.object("deployments.apps", "team", &child);
        eventually("ordered", || {
            ordered().is_some_and(|ordered| ordered["spec"]["replicas"] == replicas)
        })
        .await;
    }
    operator.end().await;
    cluster.stop();
}

/// By the month one replica costs $730, all three that the busy hours need $2190, and the cloud $1828; one with the cloud for
/// what it leaves $1765.
#[tokio::test(flavor = "multi_thread")]
async fn a_base_in_the_cluster_and_bursts_in_the_cloud_are_costed_together() {
    let cluster = Cluster::aged("0.105", 9 * 24);
    cluster.gateways.absent.store(true, Ordering::Relaxed);
    let mut workload = observed("mixed");
    workload["spec"]["targets"][0]["local"]["scaling"]["maxReplicas"] = 6.into();
    workload["spec"]["traffic"]["spillover"] = json!({"enabled": true});
    let workload = cluster.api.seed(&workload).expect("seeds");
    let record = quarters(&workload, |ago| ago < 6);
    cluster.api.seed(&record).expect("seeds");
    let first = cluster.operator("first").await;
    let decision = || cluster.workload("mixed")["status"]["decision"].clone();
    eventually("in the cluster", || decision()["target"] == "here").await;
    let placed = decision();
    let here = &placed["candidates"][0];
    assert_eq!(here["replicas"], 1, "{placed}");
    let overflow = &here["overflow"];
    let told = (&overflow["target"], &overflow["percent"]);
    assert_eq!(told, (&json!("cloud"), &json!(57)));
    let loads = placed["inputs"]["hourlyLoadPercent"].as_array();
    assert_eq!(loads.map(Vec::len), Some(20), "{placed}");
    first.end().await;

    // The next operator knows the record, and what was decided for it.
    let next = cluster.operator("next").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(decision()["id"], placed["id"]);
    assert_eq!(decision()["time"], placed["time"]);

    // What may not spill needs all replicas for its busy hours, which the cloud serves for less.
    cluster.gateways.absent.store(false, Ordering::Relaxed);
    let apart = json!({"spec": {"traffic": {"spillover": {"enabled": false}}}});
    cluster.edit("mixed", apart);
    eventually("wished for the cloud", || decision()["target"] == "cloud").await;
    let apart = &decision()["candidates"][0];
    assert_eq!(
        (&apart["replicas"], &apart["overflow"]),
        (&json!(3), &Value::Null)
    );
    next.end().await;
    cluster.stop();
}

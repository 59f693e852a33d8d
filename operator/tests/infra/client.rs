//! The client of controllers: late writes are refused, few requests are repeated, none waits for ever.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;
use weir_operator::client::{Budget, guarded, is_not_leading};
use weir_operator::leader::Gate;
use weir_simapi::{Fault, SimApi};

use super::{metrics, server};

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

fn open() -> Gate {
    let gate = Gate::new();
    gate.open_until(Instant::now() + Duration::from_secs(3600));
    gate
}

fn maps(api: &SimApi, gate: &Gate) -> Api<ConfigMap> {
    let budget = Budget::start(50, 50, metrics());
    let limits = (budget, Duration::from_millis(4_500));
    let client: Client = guarded(api.client("operator"), gate.clone(), limits, metrics());
    Api::namespaced(client, "weir-system")
}

fn requests(api: &SimApi) -> usize {
    api.history().len()
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_does_not_lead_reads_and_does_not_write() {
    let api = server();
    let gate = Gate::new();
    let maps = maps(&api, &gate);
    let (post, delete) = (PostParams::default(), DeleteParams::default());
    assert!(maps.list(&ListParams::default()).await.is_ok());
    let before = requests(&api);
    let apply = Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap"}));
    let errors = [
        maps.create(&post, &config_map("a")).await.unwrap_err(),
        maps.delete("a", &delete).await.unwrap_err(),
        maps.patch("a", &PatchParams::apply("x"), &apply)
            .await
            .unwrap_err(),
    ];
    assert!(errors.iter().all(is_not_leading), "{errors:?}");
    assert_eq!(requests(&api), before);
    gate.open_until(Instant::now() + Duration::from_secs(10));
    assert!(maps.create(&post, &config_map("a")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_write_that_waited_past_the_deadline_is_not_sent() {
    let api = server();
    let gate = Gate::new();
    let maps = maps(&api, &gate);
    gate.open_until(Instant::now() + Duration::from_secs(3));
    let post = PostParams::default();
    let names: Vec<String> = (0..600).map(|i| format!("m{i}")).collect();
    let objects: Vec<ConfigMap> = names.iter().map(|name| config_map(name)).collect();
    let writes = objects.iter().map(|object| maps.create(&post, object));
    let results = futures::future::join_all(writes).await;
    let refused = results
        .iter()
        .filter_map(|result| result.as_ref().err())
        .filter(|error| is_not_leading(error))
        .count();
    // 300 at once, then 50 a second for three seconds.
    assert!((140..=160).contains(&refused), "{refused}");
    assert_eq!(api.writes().len(), 600 - refused);
}

#[tokio::test(start_paused = true)]
async fn reads_are_repeated_and_creates_are_not() {
    let api = server();
    let maps = maps(&api, &open());
    api.on_request(|_| Fault::RespondBefore(503));
    assert!(maps.get_opt("a").await.is_err());
    assert_eq!(requests(&api), 3);
    api.clear_history();
    let created = maps.create(&PostParams::default(), &config_map("a")).await;
    assert!(created.is_err());
    assert_eq!(requests(&api), 1);
}

#[tokio::test(start_paused = true)]
async fn a_create_whose_answer_was_lost_is_not_sent_again() {
    let api = server();
    let maps = maps(&api, &open());
    api.on_request(|request| match request.verb.as_str() {
        "create" => Fault::DropAfterCommit,
        _ => Fault::Pass,
    });
    let created = maps.create(&PostParams::default(), &config_map("a")).await;
    assert!(created.is_err());
    assert_eq!(requests(&api), 1);
    assert!(maps.get("a").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_ends_after_ten_seconds() {
    let api = server();
    let maps = maps(&api, &open());
    api.on_request(|_| Fault::Hang);
    let began = Instant::now();
    assert!(maps.get("a").await.is_err());
    assert_eq!(began.elapsed(), Duration::from_secs(10));
    assert_eq!(requests(&api), 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_without_an_answer_ends_before_another_replica_may_lead() {
    let api = server();
    let maps = maps(&api, &open());
    api.on_request(|_| Fault::Hang);
    let began = Instant::now();
    let created = maps.create(&PostParams::default(), &config_map("a")).await;
    assert!(created.is_err());
    assert_eq!(began.elapsed(), Duration::from_millis(4_500));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_too_much_to_do_is_asked_less_and_left_alone_as_long_as_it_asks() {
    let api = server();
    let maps = maps(&api, &open());
    let begun = Instant::now();
    let busy_until = begun + Duration::from_secs(20);
    api.on_request(move |_| match Instant::now() < busy_until {
        true => Fault::RespondBefore(429),
        false => Fault::Pass,
    });
    let post = PostParams::default();
    let objects: Vec<ConfigMap> = (0..2_000).map(|i| config_map(&format!("m{i}"))).collect();
    let writes = objects.iter().map(|object| maps.create(&post, object));
    let all = futures::future::join_all(writes);
    tokio::time::timeout(Duration::from_secs(20), all)
        .await
        .unwrap_err();
    // 200 at once, and then ever fewer: 50 a second would be 1,000 more.
    assert!(requests(&api) < 200 + 300, "{}", requests(&api));
}

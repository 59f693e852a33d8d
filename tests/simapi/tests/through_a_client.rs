//! The server as operators meet it: through `kube::Client`.

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::{
    DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, WatchEvent,
    WatchParams,
};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use std::time::Duration;
use weir_simapi::{FakeDeploymentController, Fault, Outcome, SimApi};

fn deployment(replicas: i32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "engine", "labels": {"app": "engine"}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "engine"}},
            "template": {"metadata": {"labels": {"app": "engine"}},
                "spec": {"containers": [{"name": "engine", "image": "localhost/weir/engine:1", "ports": [{"containerPort": 8000}]}]}}}})
}

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"parity": if name.len().is_multiple_of(2) { "even" } else { "odd" }}}})).unwrap()
}

fn maps(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), "default")
}

#[tokio::test]
async fn an_apply_that_changes_nothing_keeps_the_resource_version() {
    let api = SimApi::builder().build();
    let deployments: Api<Deployment> = Api::namespaced(api.client("operator"), "default");
    let params = PatchParams::apply("weir-operator").force();
    let first = deployments
        .patch("engine", &params, &Patch::Apply(deployment(1)))
        .await
        .unwrap();
    let second = deployments
        .patch("engine", &params, &Patch::Apply(deployment(1)))
        .await
        .unwrap();
    assert_eq!(first.resource_version(), second.resource_version());
    assert_eq!(api.writes().len(), 1);
    let third = deployments
        .patch("engine", &params, &Patch::Apply(deployment(2)))
        .await
        .unwrap();
    assert_eq!(third.metadata.generation, Some(2));
}

#[tokio::test]
async fn a_field_that_is_no_longer_applied_goes_and_a_field_of_another_manager_conflicts() {
    let api = SimApi::builder().build();
    let maps = maps(&api.client("operator"));
    let apply = |data: Value| {
        Patch::Apply(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data}),
        )
    };
    let (one, two) = (PatchParams::apply("one"), PatchParams::apply("two"));
    maps.patch("m", &one, &apply(json!({"a": "1", "b": "1"})))
        .await
        .unwrap();
    maps.patch("m", &two, &apply(json!({"c": "2"})))
        .await
        .unwrap();
    let after = maps
        .patch("m", &one, &apply(json!({"a": "1"})))
        .await
        .unwrap();
    assert_eq!(
        after.data.unwrap().into_keys().collect::<Vec<_>>(),
        ["a", "c"]
    );
    let refused = maps
        .patch("m", &two, &apply(json!({"a": "2"})))
        .await
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("conflict with \"one\": .data.a"),
        "{refused}"
    );
    let forced = maps
        .patch("m", &two.clone().force(), &apply(json!({"a": "2"})))
        .await
        .unwrap();
    assert_eq!(forced.data.unwrap()["a"], "2");
}

#[tokio::test]
async fn a_replace_with_a_stale_resource_version_is_a_conflict() {
    let api = SimApi::builder().build();
    let maps = maps(&api.client("operator"));
    let mut first = maps
        .create(&PostParams::default(), &config_map("m"))
        .await
        .unwrap();
    maps.patch(
        "m",
        &PatchParams::default(),
        &Patch::Merge(json!({"data": {"a": "1"}})),
    )
    .await
    .unwrap();
    first.data = Some([("a".to_owned(), "2".to_owned())].into());
    let refused = maps
        .replace("m", &PostParams::default(), &first)
        .await
        .unwrap_err();
    assert!(matches!(refused, kube::Error::Api(status) if status.is_conflict()));
}

#[tokio::test]
async fn a_delete_for_another_uid_is_refused() {
    let api = SimApi::builder().build();
    let maps = maps(&api.client("operator"));
    maps.create(&PostParams::default(), &config_map("m"))
        .await
        .unwrap();
    let params = DeleteParams::default().preconditions(Preconditions {
        uid: Some("another".to_owned()),
        resource_version: None,
    });
    let refused = maps.delete("m", &params).await.unwrap_err();
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 409));
    maps.delete("m", &DeleteParams::default()).await.unwrap();
    assert!(maps.get_opt("m").await.unwrap().is_none());
}

#[tokio::test]
async fn dependents_go_with_their_owner() {
    let api = SimApi::builder().garbage_collection(true).build();
    let maps = maps(&api.client("operator"));
    let owner = maps
        .create(&PostParams::default(), &config_map("owner"))
        .await
        .unwrap();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "child", "ownerReferences":
        [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.uid()}]}, "stringData": {"k": "v"}});
    let secrets: Api<Secret> = Api::namespaced(api.client("operator"), "default");
    let made = secrets
        .create(
            &PostParams::default(),
            &serde_json::from_value(secret).unwrap(),
        )
        .await
        .unwrap();
    assert_eq!(made.data.unwrap()["k"].0, b"v");
    maps.delete("owner", &DeleteParams::foreground())
        .await
        .unwrap();
    assert!(secrets.get_opt("child").await.unwrap().is_none());
    assert!(maps.get_opt("owner").await.unwrap().is_none());
}

#[tokio::test]
async fn lists_come_in_pages_of_one_snapshot() {
    let api = SimApi::builder().build();
    let maps = maps(&api.client("operator"));
    for name in ["a", "b", "c", "d", "e"] {
        maps.create(&PostParams::default(), &config_map(name))
            .await
            .unwrap();
    }
    let first = maps.list(&ListParams::default().limit(2)).await.unwrap();
    maps.delete("d", &DeleteParams::default()).await.unwrap();
    let token = first.metadata.continue_.clone().unwrap();
    let rest = maps
        .list(&ListParams::default().continue_token(&token))
        .await
        .unwrap();
    let names: Vec<_> = first
        .iter()
        .chain(rest.iter())
        .map(ResourceExt::name_any)
        .collect();
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    api.compact();
    let refused = maps
        .list(&ListParams::default().continue_token(&token))
        .await
        .unwrap_err();
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 410));
}

#[tokio::test]
async fn a_watch_reports_what_enters_and_leaves_its_selector() {
    let api = SimApi::builder().build();
    let maps = maps(&api.client("operator"));
    let params = WatchParams::default().labels("parity=odd");
    let mut events = maps.watch(&params, "0").await.unwrap().boxed();
    maps.create(&PostParams::default(), &config_map("aa"))
        .await
        .unwrap();
    let to = |parity: &str| Patch::Merge(json!({"metadata": {"labels": {"parity": parity}}}));
    maps.patch("aa", &PatchParams::default(), &to("odd"))
        .await
        .unwrap();
    maps.patch("aa", &PatchParams::default(), &to("even"))
        .await
        .unwrap();
    assert!(matches!(
        events.next().await.unwrap().unwrap(),
        WatchEvent::Added(_)
    ));
    assert!(matches!(
        events.next().await.unwrap().unwrap(),
        WatchEvent::Deleted(_)
    ));
}

#[tokio::test]
async fn a_watcher_recovers_from_410_and_from_cut_streams() {
    for streaming in [false, true] {
        let api = SimApi::builder().build();
        let maps = maps(&api.client("operator"));
        let config = watcher::Config::default();
        let config = if streaming {
            config.streaming_lists()
        } else {
            config
        };
        let mut seen = watcher(maps.clone(), config)
            .default_backoff()
            .touched_objects()
            .boxed();
        maps.create(&PostParams::default(), &config_map("a"))
            .await
            .unwrap();
        assert_eq!(seen.next().await.unwrap().unwrap().name_any(), "a");
        api.expire_watches();
        api.compact();
        maps.create(&PostParams::default(), &config_map("b"))
            .await
            .unwrap();
        let mut names = Vec::new();
        while !names.contains(&"b".to_owned()) {
            if let Ok(object) = seen.next().await.unwrap() {
                names.push(object.name_any());
            }
        }
        api.cut_watches();
        maps.create(&PostParams::default(), &config_map("c"))
            .await
            .unwrap();
        while !names.contains(&"c".to_owned()) {
            if let Ok(object) = seen.next().await.unwrap() {
                names.push(object.name_any());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_by_the_tokio_clock() {
    let api = SimApi::builder().build();
    let maps = maps(&api.client("operator"));
    let mut events = maps
        .watch(&WatchParams::default(), "1")
        .await
        .unwrap()
        .boxed();
    let from = tokio::time::Instant::now();
    // The namespaces that the server starts with are not ConfigMaps, but their revisions are seen.
    assert!(matches!(
        events.next().await.unwrap().unwrap(),
        WatchEvent::Bookmark(_)
    ));
    assert_eq!(from.elapsed(), Duration::from_secs(60));
}

#[tokio::test]
async fn a_fault_after_commit_leaves_the_object() {
    let api = SimApi::builder().build();
    let maps = maps(&api.client("operator"));
    api.on_request(|request| match request.verb.as_str() {
        "create" => Fault::RespondAfterCommit(504),
        "delete" => Fault::DropBefore,
        _ => Fault::Pass,
    });
    maps.create(&PostParams::default(), &config_map("m"))
        .await
        .unwrap_err();
    assert_eq!(maps.get("m").await.unwrap().name_any(), "m");
    maps.delete("m", &DeleteParams::default())
        .await
        .unwrap_err();
    let history = api.history();
    assert_eq!(
        history.iter().map(|record| record.code).collect::<Vec<_>>(),
        [201, 200, 0]
    );
    assert_eq!(history[0].request.describe(), "create /configmaps default");
    assert!(api.object("configmaps", "default", "m").is_some());
}

#[tokio::test]
async fn deployments_get_pods_that_fare_as_told() {
    let api = SimApi::builder().garbage_collection(true).build();
    let client = api.client("operator");
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let controller = FakeDeploymentController::new(&api);
    controller.set(
        "engine",
        Outcome::Waiting("ImagePullBackOff".to_owned(), "no such image".to_owned()),
    );
    deployments
        .patch(
            "engine",
            &PatchParams::apply("w"),
            &Patch::Apply(deployment(2)),
        )
        .await
        .unwrap();
    controller.step();
    let list = pods
        .list(&ListParams::default().labels("app=engine"))
        .await
        .unwrap();
    assert_eq!(list.items.len(), 2);
    assert_eq!(
        deployments
            .get("engine")
            .await
            .unwrap()
            .status
            .unwrap()
            .ready_replicas,
        None
    );
    controller.set("engine", Outcome::Ready);
    controller.step();
    assert_eq!(
        deployments
            .get("engine")
            .await
            .unwrap()
            .status
            .unwrap()
            .ready_replicas,
        Some(2)
    );
    let revision = api.revision();
    controller.step();
    assert_eq!(api.revision(), revision);
    deployments
        .patch(
            "engine",
            &PatchParams::apply("w"),
            &Patch::Apply(deployment(0)),
        )
        .await
        .unwrap();
    controller.step();
    assert_eq!(
        pods.list(&ListParams::default()).await.unwrap().items.len(),
        0
    );
    deployments
        .delete("engine", &DeleteParams::default())
        .await
        .unwrap();
    assert!(api.objects("replicasets.apps", "").is_empty());
}

#[tokio::test]
async fn metadata_alone_is_served_on_request() {
    let api = SimApi::builder().build();
    let client = api.client("operator");
    maps(&client)
        .create(&PostParams::default(), &config_map("m"))
        .await
        .unwrap();
    let list = maps(&client)
        .list_metadata(&ListParams::default())
        .await
        .unwrap();
    assert_eq!(list.items[0].name_any(), "m");
    assert_eq!(
        maps(&client)
            .get_metadata("m")
            .await
            .unwrap()
            .types
            .unwrap()
            .kind,
        "PartialObjectMetadata"
    );
}

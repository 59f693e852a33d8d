//! The Secrets with what opens engines.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use weir_crds::names;
use weir_engine_key::PlaneKey;
use weir_operator::engine_key::{EngineKeyError, load_or_create};

use super::server;

const NAMESPACE: &str = "weir-system";

fn key(secret: &Secret, which: &str) -> PlaneKey {
    let data = secret.data.as_ref().expect("data");
    let part = |part: &str| &data[&format!("{which}.{part}")].0;
    PlaneKey::from_parts(part("key"), part("certificate")).expect("a key")
}

#[tokio::test]
async fn what_opens_engines_is_made_once_and_a_planes_key_that_is_lost_is_made_again() {
    let api = server();
    let client = api.client("op");
    let secrets = Api::<Secret>::namespaced(api.client("user"), NAMESPACE);
    let root = load_or_create(&client, NAMESPACE).await.unwrap();
    let local = secrets.get("weir-engine-key-local").await.unwrap();
    let cloud = secrets.get("weir-engine-key-cloud").await.unwrap();
    assert!(key(&local, "current").is_certified(root.public(), "local"));
    assert!(key(&cloud, "current").is_certified(root.public(), "cloud"));
    assert!(!key(&cloud, "current").is_certified(root.public(), "local"));
    api.clear_history();
    let again = load_or_create(&client, NAMESPACE).await.unwrap();
    assert_eq!(again.public(), root.public());
    assert!(api.writes().is_empty(), "{:?}", api.writes());
    let params = DeleteParams::default();
    secrets
        .delete("weir-engine-key-local", &params)
        .await
        .unwrap();
    load_or_create(&client, NAMESPACE).await.unwrap();
    let made = secrets.get("weir-engine-key-local").await.unwrap();
    assert!(key(&made, "current").is_certified(root.public(), "local"));
}

#[tokio::test]
async fn a_root_that_is_lost_leaves_gateways_a_key_for_engines_that_know_it() {
    let api = server();
    let client = api.client("op");
    let secrets = Api::<Secret>::namespaced(api.client("user"), NAMESPACE);
    let lost = load_or_create(&client, NAMESPACE).await.unwrap();
    let params = DeleteParams::default();
    secrets
        .delete(names::ENGINE_ROOT_SECRET, &params)
        .await
        .unwrap();
    let root = load_or_create(&client, NAMESPACE).await.unwrap();
    assert_ne!(root.public(), lost.public());
    let local = secrets.get("weir-engine-key-local").await.unwrap();
    assert!(key(&local, "current").is_certified(root.public(), "local"));
    assert!(key(&local, "previous").is_certified(lost.public(), "local"));
}

#[tokio::test]
async fn a_root_that_cannot_be_read_is_not_replaced() {
    let api = server();
    let client = api.client("op");
    let secrets = Api::<Secret>::namespaced(api.client("user"), NAMESPACE);
    load_or_create(&client, NAMESPACE).await.unwrap();
    let mut secret = secrets.get(names::ENGINE_ROOT_SECRET).await.unwrap();
    secret.data = Some([("root.key".to_owned(), ByteString(b"?".to_vec()))].into());
    let params = PostParams::default();
    secrets
        .replace(names::ENGINE_ROOT_SECRET, &params, &secret)
        .await
        .unwrap();
    let error = load_or_create(&client, NAMESPACE).await.unwrap_err();
    assert!(matches!(error, EngineKeyError::Unusable));
    assert!(error.to_string().contains("weir-engine-root"), "{error}");
}

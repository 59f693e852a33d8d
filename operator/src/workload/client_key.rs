//! The Secret with a workload's client key, and the endpoint that it opens. Pure.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use weir_crds::workload_status::{ClientKey, Endpoint};
use weir_crds::{InferenceWorkload, names};

use super::build::owner;
use super::labels;
use crate::ca::ClientKeyRoot;

/// How often the key was rotated, as the annotation says. What is not a number counts as none.
pub fn counter(workload: &InferenceWorkload) -> u32 {
    let annotations = workload.metadata.annotations.as_ref();
    annotations
        .and_then(|annotations| annotations.get(names::ANNOTATION_KEY_COUNTER))
        .and_then(|counter| counter.trim().parse().ok())
        .unwrap_or(0)
}

/// Where clients send requests, for the life of the object.
pub fn endpoint(workload: &InferenceWorkload, plane_url: &str) -> Endpoint {
    let uid = workload.metadata.uid.as_deref().unwrap_or_default();
    Endpoint {
        url: format!("{plane_url}/w/{uid}/v1"),
        model: workload.served_model_name().to_owned(),
    }
}

/// What status says of the key, and the Secret that holds it.
pub fn client_key(
    workload: &InferenceWorkload,
    root: &ClientKeyRoot,
    endpoint: &Endpoint,
) -> (ClientKey, Secret) {
    let meta = &workload.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    let uid = meta.uid.as_deref().unwrap_or_default();
    let counter = counter(workload);
    let key = root.derive(uid, counter);
    let secret_name = names::key_secret_name(name, uid, counter);
    let data = [
        (names::CLIENT_KEY_DATA, key.text.into_bytes()),
        (names::CLIENT_URL_DATA, endpoint.url.clone().into_bytes()),
    ];
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(secret_name.clone()),
            namespace: meta.namespace.clone(),
            labels: Some(labels::of_workload(name, uid)),
            owner_references: Some(vec![owner(workload)]),
            ..ObjectMeta::default()
        },
        type_: Some(names::CLIENT_KEY_SECRET_TYPE.to_owned()),
        immutable: Some(true),
        data: Some(
            data.map(|(key, bytes)| (key.to_owned(), ByteString(bytes)))
                .into(),
        ),
        ..Secret::default()
    };
    let status = ClientKey {
        secret_name,
        sha256: key.sha256,
        counter: i64::from(counter),
    };
    (status, secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload() -> InferenceWorkload {
        let mut workload = InferenceWorkload::new(
            "chat",
            serde_json::from_value(serde_json::json!({
                "targets": [{"name": "here", "local": {"modelRef": {"name": "m"}, "tiers": ["t"]}}]
            }))
            .expect("a spec"),
        );
        workload.metadata.namespace = Some("team".into());
        workload.metadata.uid = Some("0f9c2b1e-55aa-4c11-9d21-0123456789ab".into());
        workload
    }

    #[test]
    fn a_rotation_gives_another_secret_and_another_key() {
        let root = ClientKeyRoot::new([7; 32]);
        let mut workload = workload();
        let endpoint = endpoint(&workload, "http://gateway");
        let (first, secret) = client_key(&workload, &root, &endpoint);
        assert_eq!(first.secret_name, "chat-0f9c2b1e-key");
        assert_eq!(secret.immutable, Some(true));
        assert_eq!(
            endpoint.url,
            "http://gateway/w/0f9c2b1e-55aa-4c11-9d21-0123456789ab/v1"
        );
        workload.metadata.annotations =
            Some([(names::ANNOTATION_KEY_COUNTER.to_owned(), "2".to_owned())].into());
        let (second, _) = client_key(&workload, &root, &endpoint);
        assert_eq!(second.secret_name, "chat-0f9c2b1e-key-2");
        assert_ne!(first.sha256, second.sha256);
    }

    #[test]
    fn an_annotation_that_is_no_number_rotates_nothing() {
        let mut workload = workload();
        workload.metadata.annotations =
            Some([(names::ANNOTATION_KEY_COUNTER.to_owned(), "soon".to_owned())].into());
        assert_eq!(counter(&workload), 0);
    }
}

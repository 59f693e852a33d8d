//! The Secret with a workload's client key, the endpoint that it opens, and which keys before it are still valid. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use sha2::{Digest, Sha256};
use weir_crds::workload_status::{ClientKey, Endpoint, FormerKey};
use weir_crds::{InferenceWorkload, names, quantity};

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

/// For how long a key that is replaced stays valid: what the annotation says, or else the operator's setting.
pub fn overlap(workload: &InferenceWorkload, setting: Duration) -> Duration {
    let annotations = workload.metadata.annotations.as_ref();
    annotations
        .and_then(|annotations| annotations.get(names::ANNOTATION_KEY_OVERLAP))
        .and_then(|overlap| quantity::duration(overlap.trim()).ok())
        .unwrap_or(setting)
}

/// Where clients send requests, for the life of the object.
pub fn endpoint(workload: &InferenceWorkload, plane_url: &str) -> Endpoint {
    let uid = workload.metadata.uid.as_deref().unwrap_or_default();
    Endpoint {
        url: format!("{plane_url}/w/{uid}/v1"),
        model: workload.served_model_name().to_owned(),
    }
}

/// Keys that may be on their way out at a time; another rotation waits until the oldest is gone.
const MOST_FORMER: usize = 4;

/// The key that is to be, without those before it, and the Secret that holds it.
pub fn wanted(
    workload: &InferenceWorkload,
    root: &ClientKeyRoot,
    endpoint: &Endpoint,
) -> (ClientKey, Secret) {
    let meta = &workload.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    let uid = meta.uid.as_deref().unwrap_or_default();
    let counter = counter(workload);
    let key = root.derive(uid, counter);
    let content = format!("{}\0{}", key.sha256, endpoint.url);
    let digest = hex::encode(Sha256::digest(content));
    let secret_name = match known(workload, endpoint) {
        // A Secret from before names followed from what is in them.
        Some(known) if known.sha256 == key.sha256 => known.secret_name.clone(),
        _ => names::key_secret_name(name, uid, &digest),
    };
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
    let key = ClientKey {
        secret_name,
        sha256: key.sha256,
        counter: i64::from(counter),
        former: Vec::new(),
    };
    (key, secret)
}

/// The key of status, where it is for this endpoint.
fn known<'a>(workload: &'a InferenceWorkload, endpoint: &Endpoint) -> Option<&'a ClientKey> {
    let status = workload.status.as_ref()?;
    let same = status.endpoint.as_ref()?.url == endpoint.url;
    status.client_key.as_ref().filter(|_| same)
}

/// Whether another key may take the place of this one now.
pub fn may_replace(known: &ClientKey) -> bool {
    known.former.len() < MOST_FORMER
}

/// What status says once the Secret of `wanted` is there. The key before it stays valid until `until`.
pub fn replaced(known: Option<&ClientKey>, wanted: &ClientKey, until: Timestamp) -> ClientKey {
    let Some(known) = known else {
        return wanted.clone();
    };
    if known.secret_name == wanted.secret_name {
        return ClientKey {
            former: known.former.clone(),
            ..wanted.clone()
        };
    }
    let ClientKey {
        secret_name,
        sha256,
        counter,
        former,
    } = known.clone();
    let before = FormerKey {
        secret_name,
        sha256,
        counter,
        valid_until: Time(Timestamp::from_second(until.as_second()).unwrap_or(until)),
    };
    let former = std::iter::once(before).chain(former);
    ClientKey {
        // A key that comes back, with its root, is a former one no more.
        former: former
            .filter(|former| former.secret_name != wanted.secret_name)
            .collect(),
        ..wanted.clone()
    }
}

/// Secrets of keys whose time is over.
pub fn expired(key: &ClientKey, now: Timestamp) -> Vec<String> {
    let over = key.former.iter().filter(|it| it.valid_until.0 <= now);
    over.map(|former| former.secret_name.clone()).collect()
}

/// When the next key's time is over.
pub fn next_expiry(key: &ClientKey, now: Timestamp) -> Option<Timestamp> {
    let times = key.former.iter().map(|former| former.valid_until.0);
    times.filter(|until| *until > now).min()
}

/// Whether the key changed although nobody asked for it: the root that keys are derived from is another.
pub fn root_was_replaced(key: &ClientKey) -> bool {
    let before = key.former.first();
    before.is_some_and(|before| before.counter == key.counter && before.sha256 != key.sha256)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_crds::InferenceWorkloadStatus;

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

    fn annotated(name: &str, value: &str) -> InferenceWorkload {
        let mut workload = workload();
        workload.metadata.annotations = Some([(name.to_owned(), value.to_owned())].into());
        workload
    }

    fn key_of(workload: &InferenceWorkload, root: u8, plane: &str) -> ClientKey {
        let endpoint = endpoint(workload, plane);
        wanted(workload, &ClientKeyRoot::new([root; 32]), &endpoint).0
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    #[test]
    fn the_name_of_the_secret_follows_from_what_is_in_it() {
        let rotated = annotated(names::ANNOTATION_KEY_COUNTER, "2");
        let keys = [
            key_of(&workload(), 7, "http://gateway"),
            key_of(&rotated, 7, "http://gateway"),
            key_of(&workload(), 8, "http://gateway"),
            key_of(&workload(), 7, "http://other"),
        ];
        let mut secrets: Vec<&str> = keys.iter().map(|key| key.secret_name.as_str()).collect();
        assert!(
            secrets
                .iter()
                .all(|name| name.starts_with("chat-0f9c2b1e-key-"))
        );
        secrets.sort_unstable();
        secrets.dedup();
        assert_eq!(secrets.len(), 4);
        assert_eq!(keys[0], key_of(&workload(), 7, "http://gateway"));
        let endpoint = endpoint(&workload(), "http://gateway");
        assert_eq!(
            endpoint.url,
            "http://gateway/w/0f9c2b1e-55aa-4c11-9d21-0123456789ab/v1"
        );
    }

    #[test]
    fn a_secret_that_was_named_before_names_followed_from_keys_is_kept() {
        let mut old = workload();
        let endpoint = endpoint(&old, "http://gateway");
        let mut key = key_of(&old, 7, "http://gateway");
        key.secret_name = "chat-0f9c2b1e-key".into();
        old.status = Some(InferenceWorkloadStatus {
            endpoint: Some(endpoint),
            client_key: Some(key.clone()),
            ..InferenceWorkloadStatus::default()
        });
        assert_eq!(key_of(&old, 7, "http://gateway"), key);
        assert_ne!(
            key_of(&old, 8, "http://gateway").secret_name,
            key.secret_name
        );
    }

    #[test]
    fn the_key_before_stays_valid_for_the_overlap_and_comes_back_with_its_root() {
        let (first, other) = (key_of(&workload(), 7, "u"), key_of(&workload(), 8, "u"));
        assert_eq!(replaced(None, &first, at(9)), first);
        assert_eq!(replaced(Some(&first), &first, at(9)), first);
        let lost = replaced(Some(&first), &other, at(100));
        assert_eq!(lost.former[0].sha256, first.sha256);
        assert!(root_was_replaced(&lost));
        assert_eq!(
            (expired(&lost, at(99)).len(), next_expiry(&lost, at(99))),
            (0, Some(at(100)))
        );
        let due = expired(&lost, at(100));
        assert_eq!(due, std::slice::from_ref(&first.secret_name));
        let restored = replaced(Some(&lost), &first, at(200));
        assert_eq!(restored.former.len(), 1);
        assert_eq!(restored.former[0].sha256, other.sha256);
        let asked = key_of(&annotated(names::ANNOTATION_KEY_COUNTER, "1"), 7, "u");
        assert!(!root_was_replaced(&replaced(Some(&first), &asked, at(9))));
    }

    #[test]
    fn an_annotation_that_is_no_number_or_duration_changes_nothing() {
        assert_eq!(
            counter(&annotated(names::ANNOTATION_KEY_COUNTER, "soon")),
            0
        );
        let day = Duration::from_secs(86_400);
        for (value, expected) in [("soon", day), ("0s", Duration::ZERO)] {
            let workload = annotated(names::ANNOTATION_KEY_OVERLAP, value);
            assert_eq!(overlap(&workload, day), expected);
        }
    }
}

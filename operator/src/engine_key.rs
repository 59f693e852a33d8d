//! What opens engines, as Secrets of the release's namespace: the root, which the leader makes when it is absent, and one
//! key for the gateways of each plane, which it certifies and replaces long before its end.
//!
//! Engines know the root's public half, from their start. So a new key of a plane changes nothing at an engine; a new root
//! changes their Deployments, and gateways present a token by either until the old key ends.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use weir_crds::names;
use weir_engine_key::{EngineRoot, KeyError, PlaneKey};

use crate::cli::Plane;

const DAY: u64 = 86_400;
/// Engines take a plane's key for this long: gateways serve without an operator until then.
const LIFETIME: u64 = 90 * DAY;
/// A key with less time than this is replaced.
const RENEW_BEFORE: u64 = 60 * DAY;
const LOOK_EVERY: Duration = Duration::from_secs(600);
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
const ROOT_DATA: &str = "root.key";
const CURRENT: &str = names::ENGINE_KEYS[0];
const PREVIOUS: &str = names::ENGINE_KEYS[1];

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum EngineKeyError {
    /// None could be made.
    #[error("key towards engines cannot be made")]
    Key(#[from] KeyError),
    /// The Secret could neither be read nor written.
    #[error("secret {name} cannot be {action}")]
    Secret {
        /// Name of the Secret.
        name: String,
        /// `read`, `created` or `written`.
        action: &'static str,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// What is in the Secret is no root.
    #[error(
        "secret {} holds no usable root: restore it, or delete it for a new one",
        names::ENGINE_ROOT_SECRET
    )]
    Unusable,
}

/// The root and the keys of both planes, made where they are absent. Waits out an API server that is away.
///
/// # Errors
/// When the root's Secret cannot be used and must not be replaced.
pub async fn load_or_create(
    client: &Client,
    namespace: &str,
) -> Result<EngineRoot, EngineKeyError> {
    let api = Api::<Secret>::namespaced(client.clone(), namespace);
    let mut pause = FIRST_BACKOFF;
    loop {
        match attempt(&api).await {
            Err(error @ EngineKeyError::Secret { .. }) => {
                tracing::warn!(error = %crate::queue::chain(&error), retry_in = ?pause, "keys towards engines are not available");
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_BACKOFF);
            }
            settled => return settled,
        }
    }
}

async fn attempt(api: &Api<Secret>) -> Result<EngineRoot, EngineKeyError> {
    let root = root(api).await?;
    for plane in [Plane::Local, Plane::Cloud] {
        ensure(api, &root, plane, now()).await?;
    }
    Ok(root)
}

/// Keeps the keys of both planes valid, for as long as this replica leads.
pub async fn keep(client: Client, namespace: String, root: EngineRoot, stop: CancellationToken) {
    let api = Api::<Secret>::namespaced(client, &namespace);
    loop {
        tokio::select! {
            () = sleep(LOOK_EVERY) => {}
            () = stop.cancelled() => return,
        }
        for plane in [Plane::Local, Plane::Cloud] {
            if let Err(error) = ensure(&api, &root, plane, now()).await {
                tracing::warn!(plane = plane.as_str(), error = %crate::queue::chain(&error), "key towards engines cannot be kept");
            }
        }
    }
}

async fn root(api: &Api<Secret>) -> Result<EngineRoot, EngineKeyError> {
    let name = names::ENGINE_ROOT_SECRET;
    if let Some(secret) = read(api, name).await? {
        return parse_root(&secret);
    }
    let root = EngineRoot::generate()?;
    let data = [(ROOT_DATA.to_owned(), ByteString(root.pkcs8().to_vec()))];
    match api
        .create(&PostParams::default(), &secret(name, data.into()))
        .await
    {
        Ok(_) => {
            tracing::info!(secret = name, "root of keys towards engines created");
            Ok(root)
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let secret = read(api, name).await?.ok_or(EngineKeyError::Unusable)?;
            parse_root(&secret)
        }
        Err(error) => Err(failed(name, "created")(error)),
    }
}

fn parse_root(secret: &Secret) -> Result<EngineRoot, EngineKeyError> {
    let bytes = secret.data.as_ref().and_then(|data| data.get(ROOT_DATA));
    let bytes = bytes.ok_or(EngineKeyError::Unusable)?;
    EngineRoot::from_pkcs8(&bytes.0).map_err(|_| EngineKeyError::Unusable)
}

/// Makes the Secret of a plane as it is to be. At rest it is read and no more.
async fn ensure(
    api: &Api<Secret>,
    root: &EngineRoot,
    plane: Plane,
    now: u64,
) -> Result<(), EngineKeyError> {
    let name = names::engine_key_secret(plane.as_str());
    let existing = read(api, &name).await?;
    let known = existing.as_ref().and_then(|secret| secret.data.clone());
    let known = known.unwrap_or_default();
    let Some(data) = renewed(&known, root, plane, now)? else {
        return Ok(());
    };
    let of_another = |key: PlaneKey| !key.is_certified(root.public(), plane.as_str());
    if key(&known, CURRENT).is_some_and(of_another) {
        tracing::warn!(secret = %name, "the root of keys towards engines is another one: engines are started anew to know it");
    }
    let mut wanted = secret(&name, data);
    let params = PostParams::default();
    let written = match &existing {
        Some(existing) => {
            wanted.metadata.resource_version = existing.metadata.resource_version.clone();
            api.replace(&name, &params, &wanted).await
        }
        None => api.create(&params, &wanted).await,
    };
    written.map_err(failed(&name, "written"))?;
    tracing::info!(secret = %name, "gateways have a new key towards engines");
    Ok(())
}

/// What the Secret of a plane is to hold instead, or nothing where it can stay. The key before stays beside a new one, so
/// that engines that know another root, or a gateway that reads late, lose nothing.
fn renewed(
    known: &BTreeMap<String, ByteString>,
    root: &EngineRoot,
    plane: Plane,
    now: u64,
) -> Result<Option<BTreeMap<String, ByteString>>, KeyError> {
    let current = key(known, CURRENT);
    let stays = current.as_ref().is_some_and(|current| {
        let is_ours = current.is_certified(root.public(), plane.as_str());
        is_ours && current.not_after() > now + RENEW_BEFORE
    });
    if stays {
        return Ok(None);
    }
    let next = root.certify(plane.as_str(), now + LIFETIME)?;
    let previous = current.filter(|current| current.not_after() > now);
    let mut data = BTreeMap::from(parts(CURRENT, &next));
    data.extend(previous.iter().flat_map(|key| parts(PREVIOUS, key)));
    Ok(Some(data))
}

fn key(data: &BTreeMap<String, ByteString>, which: &str) -> Option<PlaneKey> {
    let part = |part: &str| data.get(&format!("{which}.{part}"));
    let pkcs8 = part(names::ENGINE_KEY_DATA)?;
    let certificate = part(names::ENGINE_CERTIFICATE_DATA)?;
    PlaneKey::from_parts(&pkcs8.0, &certificate.0).ok()
}

fn parts(which: &str, key: &PlaneKey) -> [(String, ByteString); 2] {
    let name = |part: &str| format!("{which}.{part}");
    [
        (
            name(names::ENGINE_KEY_DATA),
            ByteString(key.pkcs8().to_vec()),
        ),
        (
            name(names::ENGINE_CERTIFICATE_DATA),
            ByteString(key.certificate().to_vec()),
        ),
    ]
}

fn secret(name: &str, data: BTreeMap<String, ByteString>) -> Secret {
    let labels = [
        (names::LABEL_NAME, "weir"),
        (names::LABEL_COMPONENT, "operator"),
        (names::LABEL_MANAGED_BY, names::MANAGED_BY_OPERATOR),
    ];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels.into()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}

async fn read(api: &Api<Secret>, name: &str) -> Result<Option<Secret>, EngineKeyError> {
    api.get_opt(name).await.map_err(failed(name, "read"))
}

fn failed(name: &str, action: &'static str) -> impl FnOnce(kube::Error) -> EngineKeyError {
    let name = name.to_owned();
    move |source| EngineKeyError::Secret {
        name,
        action,
        source: Box::new(source),
    }
}

fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_engine_key::{Audience, EngineLock, RootPublic};

    const NOW: u64 = 1_800_000_000;

    fn root() -> EngineRoot {
        EngineRoot::generate().expect("a root")
    }

    fn renewed_at(
        known: &BTreeMap<String, ByteString>,
        root: &EngineRoot,
        now: u64,
    ) -> Option<BTreeMap<String, ByteString>> {
        renewed(known, root, Plane::Local, now).expect("randomness")
    }

    fn opens(data: &BTreeMap<String, ByteString>, which: &str, root: RootPublic, now: u64) -> bool {
        let token = key(data, which).expect("a key").token("uid", now + 60);
        let lock = EngineLock::new(root, Audience::new("local", "uid"));
        lock.open(Some(&token), now).is_ok()
    }

    #[test]
    fn a_key_is_replaced_long_before_its_end_and_the_one_before_stays_valid() {
        let root = root();
        let first = renewed_at(&BTreeMap::new(), &root, NOW).expect("a first key");
        assert_eq!(first.len(), 2);
        assert!(opens(&first, CURRENT, root.public(), NOW));
        assert_eq!(
            renewed_at(&first, &root, NOW + LIFETIME - RENEW_BEFORE - 1),
            None
        );
        let later = NOW + LIFETIME - RENEW_BEFORE;
        let second = renewed_at(&first, &root, later).expect("another key");
        for which in names::ENGINE_KEYS {
            assert!(opens(&second, which, root.public(), later), "{which}");
        }
        assert_eq!(renewed_at(&second, &root, later), None);
        let long_after = later + 2 * LIFETIME;
        let third = renewed_at(&second, &root, long_after).expect("another key");
        assert_eq!(third.len(), 2, "what no engine takes is not kept");
    }

    #[test]
    fn after_the_loss_of_the_root_engines_of_both_are_opened() {
        let (before, after) = (root(), root());
        let first = renewed_at(&BTreeMap::new(), &before, NOW).expect("a key");
        let second = renewed_at(&first, &after, NOW).expect("a key of the new root");
        assert!(opens(&second, CURRENT, after.public(), NOW));
        assert!(opens(&second, PREVIOUS, before.public(), NOW));
    }

    #[test]
    fn a_secret_that_somebody_damaged_gets_a_key_again() {
        let root = root();
        let mut damaged = renewed_at(&BTreeMap::new(), &root, NOW).expect("a key");
        damaged.insert("current.key".to_owned(), ByteString(b"?".to_vec()));
        let mended = renewed_at(&damaged, &root, NOW).expect("a key");
        assert!(opens(&mended, CURRENT, root.public(), NOW));
    }
}

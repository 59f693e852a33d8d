//! The operator's certificate authority and the root of client keys: one Secret, made by the leader when absent.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use sha2::{Digest, Sha256};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use weir_crds::names;
use weir_identity::{CertificateAuthority, IssueError};

const CERTIFICATE: &str = "ca.crt";
const KEY: &str = "ca.key";
const CLIENT_KEY_ROOT: &str = "client-key-root";
const ROOT_BYTES: usize = 32;
/// Separates client keys from whatever else may come to be derived from the root.
const CLIENT_KEY_INFO: &str = "weir client key v1";
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A new authority could not be made.
    #[error("certificate authority cannot be made")]
    Generate(#[source] IssueError),
    /// The Secret could neither be read nor created.
    #[error("secret {name} cannot be {action}")]
    Secret {
        /// Name of the Secret.
        name: &'static str,
        /// `read` or `created`.
        action: &'static str,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// A key of the Secret is missing or no text.
    #[error("secret {name} has no usable {key}")]
    Data {
        /// Name of the Secret.
        name: &'static str,
        /// The key.
        key: &'static str,
    },
    /// Certificate and key in the Secret cannot be used.
    #[error("secret {name} holds no usable authority")]
    Unusable {
        /// Name of the Secret.
        name: &'static str,
        /// Why.
        #[source]
        source: IssueError,
    },
}

impl AuthorityError {
    /// Whether another attempt may succeed without anyone changing the Secret.
    fn is_transient(&self) -> bool {
        matches!(self, Self::Secret { .. })
    }
}

/// What the Secret holds.
#[derive(Clone, Debug)]
pub struct Authority {
    /// Signs the certificates of agents and gateways.
    pub certificates: Arc<CertificateAuthority>,
    /// Client keys are derived from it.
    pub client_keys: ClientKeyRoot,
    /// The Secret was not there: this process made it.
    pub is_new: bool,
}

impl Authority {
    fn is_same(&self, other: &Self) -> bool {
        self.client_keys.0 == other.client_keys.0
            && self.certificates.certificate_pem() == other.certificates.certificate_pem()
    }
}

/// Client keys are derived from this root, the workload's UID and a counter.
#[derive(Clone)]
pub struct ClientKeyRoot(Arc<[u8; ROOT_BYTES]>);

impl std::fmt::Debug for ClientKeyRoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientKeyRoot")
    }
}

/// A key that clients of one workload present. Has no `Debug`: it must not be logged.
pub struct ClientKey {
    /// The bearer token: `weir-` and 32 bytes in base64url.
    pub text: String,
    /// Its SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

impl ClientKeyRoot {
    /// A root of these bytes.
    pub fn new(bytes: [u8; ROOT_BYTES]) -> Self {
        Self(Arc::new(bytes))
    }

    /// The key of a workload after `counter` rotations: HKDF-SHA-256 (RFC 5869) of the root.
    pub fn derive(&self, workload_uid: &str, counter: u32) -> ClientKey {
        let hkdf = Hkdf::<Sha256>::new(None, self.0.as_slice());
        let mut bytes = [0u8; ROOT_BYTES];
        let info = format!("{CLIENT_KEY_INFO}\0{workload_uid}\0{counter}");
        hkdf.expand(info.as_bytes(), &mut bytes)
            .expect("32 bytes are within the limit of 255 blocks");
        let text = format!("weir-{}", URL_SAFE_NO_PAD.encode(bytes));
        let sha256 = hex::encode(Sha256::digest(text.as_bytes()));
        ClientKey { text, sha256 }
    }
}

/// Reads the Secret, or creates it. Waits out an API server that is away; fails on a Secret that cannot be used.
pub async fn load_or_create(client: &Client, namespace: &str) -> Result<Authority, AuthorityError> {
    let api = Api::<Secret>::namespaced(client.clone(), namespace);
    let mut pause = FIRST_BACKOFF;
    loop {
        match attempt(&api).await {
            Err(error) if error.is_transient() => {
                tracing::warn!(error = %crate::queue::chain(&error), retry_in = ?pause, "certificate authority is not available");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_BACKOFF);
            }
            settled => return settled,
        }
    }
}

/// Looks whether the Secret is there, and makes it again from what this process knows: a root is lost only where no operator
/// runs. Ends at `stop`, or when the Secret holds another authority, which counts from the next start.
pub async fn keep(
    client: Client,
    namespace: String,
    authority: Authority,
    every: Duration,
    stop: CancellationToken,
) {
    let api = Api::<Secret>::namespaced(client, &namespace);
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let found = match api.get_opt(names::CA_SECRET).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "certificate authority cannot be looked for");
                continue;
            }
        };
        let Some(found) = found else {
            let again = secret(&authority.certificates, &authority.client_keys.0);
            match api.create(&PostParams::default(), &again).await {
                Ok(_) => tracing::warn!(
                    secret = names::CA_SECRET,
                    "certificate authority was deleted, and is there again"
                ),
                Err(error) => {
                    tracing::error!(secret = names::CA_SECRET, %error, "certificate authority was deleted, and cannot be made again")
                }
            }
            continue;
        };
        match parse(&found) {
            Ok(found) if found.is_same(&authority) => {}
            Ok(_) => {
                tracing::error!(
                    secret = names::CA_SECRET,
                    "another certificate authority is there: the operator starts anew with it"
                );
                return;
            }
            Err(error) => {
                tracing::error!(%error, "certificate authority cannot be used at the next start")
            }
        }
    }
}

async fn attempt(api: &Api<Secret>) -> Result<Authority, AuthorityError> {
    let failed = |action| {
        move |source| AuthorityError::Secret {
            name: names::CA_SECRET,
            action,
            source: Box::new(source),
        }
    };
    if let Some(secret) = api
        .get_opt(names::CA_SECRET)
        .await
        .map_err(failed("read"))?
    {
        return parse(&secret);
    }
    match api.create(&PostParams::default(), &generate()?).await {
        Ok(secret) => {
            tracing::info!(secret = names::CA_SECRET, "certificate authority created");
            parse(&secret).map(|authority| Authority {
                is_new: true,
                ..authority
            })
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            parse(&api.get(names::CA_SECRET).await.map_err(failed("read"))?)
        }
        Err(error) => Err(failed("created")(error)),
    }
}

fn generate() -> Result<Secret, AuthorityError> {
    let authority =
        CertificateAuthority::generate(jiff::Timestamp::now()).map_err(AuthorityError::Generate)?;
    let root: [u8; ROOT_BYTES] = rand::random();
    Ok(secret(&authority, &root))
}

fn secret(authority: &CertificateAuthority, root: &[u8; ROOT_BYTES]) -> Secret {
    let data = [
        (CERTIFICATE, authority.certificate_pem().as_bytes().to_vec()),
        (KEY, authority.key_pem().into_bytes()),
        (CLIENT_KEY_ROOT, root.to_vec()),
    ];
    let labels = [
        (names::LABEL_NAME, "weir"),
        (names::LABEL_COMPONENT, "operator"),
        (names::LABEL_MANAGED_BY, names::MANAGED_BY_OPERATOR),
    ];
    Secret {
        metadata: ObjectMeta {
            name: Some(names::CA_SECRET.to_owned()),
            labels: Some(
                labels
                    .into_iter()
                    .map(|(k, v)| (k.to_owned(), v.to_owned()))
                    .collect(),
            ),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(
            data.into_iter()
                .map(|(key, bytes)| (key.to_owned(), ByteString(bytes)))
                .collect(),
        ),
        ..Secret::default()
    }
}

fn parse(secret: &Secret) -> Result<Authority, AuthorityError> {
    let name = names::CA_SECRET;
    let bytes = |key| {
        secret
            .data
            .as_ref()
            .and_then(|data| data.get(key))
            .map(|bytes| bytes.0.as_slice())
            .ok_or(AuthorityError::Data { name, key })
    };
    let text =
        |key| std::str::from_utf8(bytes(key)?).map_err(|_| AuthorityError::Data { name, key });
    let certificates = CertificateAuthority::from_pem(text(CERTIFICATE)?, text(KEY)?)
        .map_err(|source| AuthorityError::Unusable { name, source })?;
    let root = <[u8; ROOT_BYTES]>::try_from(bytes(CLIENT_KEY_ROOT)?).map_err(|_| {
        AuthorityError::Data {
            name,
            key: CLIENT_KEY_ROOT,
        }
    })?;
    Ok(Authority {
        certificates: Arc::new(certificates),
        client_keys: ClientKeyRoot::new(root),
        is_new: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_key_depends_on_root_uid_and_counter_alone() {
        let root = ClientKeyRoot::new([7; 32]);
        let key = root.derive("uid-1", 0);
        assert_eq!(key.text, root.derive("uid-1", 0).text);
        assert!(key.text.starts_with("weir-"));
        assert_eq!(key.text.len(), "weir-".len() + 43);
        assert_eq!(key.sha256, hex::encode(Sha256::digest(&key.text)));
        for other in [
            root.derive("uid-1", 1),
            root.derive("uid-2", 0),
            ClientKeyRoot::new([8; 32]).derive("uid-1", 0),
        ] {
            assert_ne!(key.text, other.text);
        }
    }

    #[test]
    fn what_is_generated_can_be_read_and_a_broken_secret_is_told_apart() {
        let secret = generate().unwrap();
        assert!(parse(&secret).is_ok());
        let mut without_root = secret.clone();
        without_root.data.as_mut().unwrap().remove(CLIENT_KEY_ROOT);
        assert!(matches!(
            parse(&without_root),
            Err(AuthorityError::Data {
                key: CLIENT_KEY_ROOT,
                ..
            })
        ));
        let mut foreign = secret;
        let other = generate().unwrap();
        foreign
            .data
            .as_mut()
            .unwrap()
            .insert(KEY.into(), other.data.unwrap()[KEY].clone());
        let error = parse(&foreign).unwrap_err();
        assert!(matches!(error, AuthorityError::Unusable { .. }));
        assert!(!error.is_transient());
    }
}

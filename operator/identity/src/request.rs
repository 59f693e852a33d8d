//! Obtaining a certificate from the cluster: create a `CertificateSigningRequest`, poll it until it is signed.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use tokio::time::{Instant, sleep, timeout};

use crate::review::USAGES;
use crate::{Leaf, LeafError, SIGNER_NAME};

const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_POLL: Duration = Duration::from_millis(250);
const LONGEST_POLL: Duration = Duration::from_secs(5);

/// How to ask.
#[derive(Clone, Debug)]
pub struct RequestOptions {
    /// Start of the object's name, such as `weir-node-agent-`.
    pub name_prefix: String,
    /// Life that is asked for; Kubernetes takes 600 s and more, the signer gives 24 h at most.
    pub expiration: Duration,
    /// How long one request is polled before it is given up.
    pub give_up_after: Duration,
}

impl RequestOptions {
    /// For a component: a day's certificate, an hour of patience.
    pub fn new(name_prefix: impl Into<String>) -> Self {
        Self {
            name_prefix: name_prefix.into(),
            expiration: crate::MAX_LEAF_LIFETIME,
            give_up_after: Duration::from_secs(3600),
        }
    }
}

/// Why no certificate was obtained.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The key or the request could not be made.
    #[error("certificate request cannot be made")]
    Prepare(#[source] rcgen::Error),
    /// The object could not be created.
    #[error("certificate request cannot be created")]
    Create(#[source] Box<kube::Error>),
    /// The API server did not answer the creation in time.
    #[error("creating the certificate request timed out")]
    CreateTimeout,
    /// The object went away before it was signed.
    #[error("certificate request {0} is gone")]
    Gone(String),
    /// The signer refused.
    #[error("certificate request was refused: {reason}: {message}")]
    Refused {
        /// The condition's reason.
        reason: String,
        /// The condition's message.
        message: String,
    },
    /// Nobody signed it.
    #[error("certificate request {0} was not signed in time")]
    Unsigned(String),
    /// What was signed cannot be used.
    #[error("signed certificate is not usable")]
    Leaf(#[source] LeafError),
}

/// Makes a new key, asks for a certificate with the caller's own ServiceAccount and waits for it.
///
/// Needs `create` and `get` on `certificatesigningrequests`. The authority in the answer is pinned with the leaf.
pub async fn request(client: &Client, options: &RequestOptions) -> Result<Leaf, RequestError> {
    let key = KeyPair::generate().map_err(RequestError::Prepare)?;
    let object = signing_request(&key, options)?;
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let created = timeout(CALL_TIMEOUT, api.create(&PostParams::default(), &object))
        .await
        .map_err(|_| RequestError::CreateTimeout)?
        .map_err(|source| RequestError::Create(Box::new(source)))?;
    let name = created.metadata.name.unwrap_or_default();
    let chain = poll(&api, &name, options.give_up_after).await?;
    Leaf::from_pem(&chain, key.serialize_pem().as_bytes(), Timestamp::now())
        .map_err(RequestError::Leaf)
}

fn signing_request(
    key: &KeyPair,
    options: &RequestOptions,
) -> Result<CertificateSigningRequest, RequestError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let pem = params
        .serialize_request(key)
        .and_then(|request| request.pem())
        .map_err(RequestError::Prepare)?;
    Ok(CertificateSigningRequest {
        metadata: ObjectMeta {
            generate_name: Some(options.name_prefix.clone()),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            signer_name: SIGNER_NAME.to_owned(),
            request: ByteString(pem.into_bytes()),
            usages: Some(USAGES.map(str::to_owned).to_vec()),
            expiration_seconds: i32::try_from(options.expiration.as_secs()).ok(),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    })
}

/// Reads the object until it has an answer. An API server that is away only delays the next read.
async fn poll(
    api: &Api<CertificateSigningRequest>,
    name: &str,
    give_up_after: Duration,
) -> Result<Vec<u8>, RequestError> {
    let deadline = Instant::now() + give_up_after;
    let mut pause = FIRST_POLL;
    while Instant::now() < deadline {
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_POLL);
        match timeout(CALL_TIMEOUT, api.get(name)).await {
            Ok(Ok(object)) => {
                if let Some(chain) = answer(object)? {
                    return Ok(chain);
                }
            }
            Ok(Err(kube::Error::Api(status))) if status.is_not_found() => {
                return Err(RequestError::Gone(name.to_owned()));
            }
            Ok(Err(error)) => tracing::debug!(%name, %error, "certificate request not readable"),
            Err(_) => tracing::debug!(%name, "reading the certificate request timed out"),
        }
    }
    Err(RequestError::Unsigned(name.to_owned()))
}

fn answer(object: CertificateSigningRequest) -> Result<Option<Vec<u8>>, RequestError> {
    let status = object.status.unwrap_or_default();
    let refused = status
        .conditions
        .into_iter()
        .flatten()
        .find(|c| matches!(c.type_.as_str(), "Denied" | "Failed") && c.status == "True");
    if let Some(condition) = refused {
        return Err(RequestError::Refused {
            reason: condition.reason.unwrap_or_default(),
            message: condition.message.unwrap_or_default(),
        });
    }
    Ok(status.certificate.map(|bytes| bytes.0))
}

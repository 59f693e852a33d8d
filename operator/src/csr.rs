//! Signs the certificate requests of agents and gateways, or denies them with the reason.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use weir_identity::{
    Approved, CertificateAuthority, IssueError, Reviewer, ServiceAccounts, SigningRefusal,
    is_settled, review,
};

use crate::cli::Settings;
use crate::context::Context;
use crate::queue::{self, Key, Requeue};
use crate::stores::{Kind, Stores, Trigger};

/// Why a request has no answer yet.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// An approval or denial could not be written.
    #[error("answer to certificate request {name} cannot be written")]
    Answer {
        /// Name of the request.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// Our own authority failed.
    #[error("certificate for request {name} cannot be signed")]
    Issue {
        /// Name of the request.
        name: String,
        /// Why.
        #[source]
        source: IssueError,
    },
}

/// What to answer.
enum Verdict {
    Sign {
        approved: Box<Approved>,
        chain: String,
    },
    Deny {
        reason: &'static str,
        message: String,
    },
}

/// Answers requests until `stop`.
pub async fn run(context: Context, authority: Arc<CertificateAuthority>, stop: CancellationToken) {
    let stores = context.stores.clone();
    let all = move || -> Vec<Key> {
        let requests = stores.signing_requests.state();
        requests
            .iter()
            .map(|request| Key::of(request.as_ref()))
            .collect()
    };
    let changes = context.stores.changes([Kind::SigningRequest]);
    let triggers = stream::iter(all()).chain(changes.flat_map(move |trigger| {
        stream::iter(match trigger {
            Trigger::Changed(change) => vec![Key::cluster(change.name)],
            Trigger::Listed(_) | Trigger::Missed => all(),
        })
    }));
    let options = context.queue("certificates");
    let signer = Arc::new(Signer {
        reviewer: reviewer(&context.settings),
        api: Api::all(context.client.clone()),
        context,
        authority,
    });
    let reconcile = move |key: Key| {
        let signer = Arc::clone(&signer);
        async move { signer.reconcile(&key.name).await }
    };
    queue::run(options, triggers, reconcile, stop).await;
}

fn reviewer(settings: &Settings) -> Reviewer {
    Reviewer {
        namespace: settings.namespace.clone(),
        service_accounts: ServiceAccounts {
            agent: settings.agent_service_account.clone(),
            gateway_local: settings.gateway_local_service_account.clone(),
            gateway_cloud: settings.gateway_cloud_service_account.clone(),
        },
    }
}

struct Signer {
    context: Context,
    reviewer: Reviewer,
    authority: Arc<CertificateAuthority>,
    api: Api<CertificateSigningRequest>,
}

impl Signer {
    async fn reconcile(&self, name: &str) -> Result<Requeue, SignError> {
        let Some(request) = Stores::get(&self.context.stores.signing_requests, None, name) else {
            return Ok(Requeue::OnChange);
        };
        if is_settled(&request) {
            return Ok(Requeue::OnChange);
        }
        let Some(verdict) = self.judge(&request)? else {
            return Ok(Requeue::OnChange);
        };
        let result = match &verdict {
            Verdict::Sign { approved, chain } => self.sign(&request, approved, chain).await,
            Verdict::Deny { reason, message } => self.deny(&request, reason, message).await,
        };
        match result {
            Ok(()) => Ok(Requeue::OnChange),
            // Someone wrote it meanwhile, or it is gone: the watch tells.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {
                Ok(Requeue::OnChange)
            }
            Err(source) => {
                self.count("failed");
                Err(SignError::Answer {
                    name: name.to_owned(),
                    source: Box::new(source),
                })
            }
        }
    }

    /// `None` for a request to another signer.
    fn judge(&self, request: &CertificateSigningRequest) -> Result<Option<Verdict>, SignError> {
        let approved = match review(request, &self.reviewer) {
            Ok(approved) => approved,
            Err(SigningRefusal::OtherSigner(_)) => return Ok(None),
            Err(refusal) => {
                return Ok(Some(Verdict::Deny {
                    reason: refusal.reason(),
                    message: refusal.to_string(),
                }));
            }
        };
        let issued = self.authority.issue(
            &approved.csr_pem,
            &approved.identity,
            Some(&approved.dns_san),
            Timestamp::now(),
            approved.ttl,
        );
        match issued {
            Ok(chain) => Ok(Some(Verdict::Sign {
                approved: Box::new(approved),
                chain,
            })),
            Err(
                error @ (IssueError::Request(_)
                | IssueError::RequestTooLarge(_)
                | IssueError::UnsupportedKey
                | IssueError::Name(_)),
            ) => Ok(Some(Verdict::Deny {
                reason: "MalformedRequest",
                message: error.to_string(),
            })),
            Err(source) => {
                self.count("failed");
                Err(SignError::Issue {
                    name: request.name_any(),
                    source,
                })
            }
        }
    }

    /// Approves, unless that was done, and then gives the certificate.
    async fn sign(
        &self,
        request: &CertificateSigningRequest,
        approved: &Approved,
        chain: &str,
    ) -> Result<(), kube::Error> {
        let name = request.name_any();
        let identity = approved.identity.to_string();
        let is_approved = conditions(request).any(|c| c.type_ == "Approved");
        let current = if is_approved {
            request.clone()
        } else {
            let message = format!("pod {} is {identity}", approved.pod_name);
            self.answer(request, "Approved", "IdentityConfirmed", &message)
                .await?
        };
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": current.resource_version()},
            "status": {"certificate": STANDARD.encode(chain)},
        }));
        self.api
            .patch_status(&name, &PatchParams::default(), &patch)
            .await?;
        self.count("signed");
        tracing::info!(request = %name, %identity, node = %approved.node, "certificate signed");
        Ok(())
    }

    async fn deny(
        &self,
        request: &CertificateSigningRequest,
        reason: &str,
        message: &str,
    ) -> Result<(), kube::Error> {
        self.answer(request, "Denied", reason, message).await?;
        self.count("denied");
        self.context
            .events
            .warning(&request.object_ref(&()), "CertificateDenied", message);
        tracing::warn!(request = %request.name_any(), reason, message, "certificate denied");
        Ok(())
    }

    /// Adds a condition through the approval subresource; a request that changed meanwhile is a conflict.
    async fn answer(
        &self,
        request: &CertificateSigningRequest,
        type_: &str,
        reason: &str,
        message: &str,
    ) -> Result<CertificateSigningRequest, kube::Error> {
        let now = Time(Timestamp::now());
        let mut all: Vec<_> = conditions(request).cloned().collect();
        all.push(CertificateSigningRequestCondition {
            type_: type_.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_update_time: Some(now.clone()),
            last_transition_time: Some(now),
        });
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": request.resource_version()},
            "status": {"conditions": all},
        }));
        self.api
            .patch_approval(&request.name_any(), &PatchParams::default(), &patch)
            .await
    }

    fn count(&self, result: &str) {
        let metrics = &self.context.metrics;
        metrics.certificates.with_label_values(&[result]).inc();
    }
}

fn conditions(
    request: &CertificateSigningRequest,
) -> impl Iterator<Item = &CertificateSigningRequestCondition> {
    let status = request.status.as_ref();
    status
        .and_then(|s| s.conditions.as_ref())
        .into_iter()
        .flatten()
}

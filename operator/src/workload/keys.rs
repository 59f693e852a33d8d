//! Makes the Secret with the client key, and deletes those of keys whose time is over. Secrets are not read: that one is
//! there is known from having made it.

use std::time::Duration;

use jiff::Timestamp;
use weir_crds::workload_status::{ClientKey, Endpoint};

use super::apply::{self, ChildProblem};
use super::{Pass, client_key};
use crate::cli::Plane;

/// What came of it.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Where clients send requests.
    pub endpoint: Endpoint,
    /// The key that is valid; `None` before its Secret was made.
    pub key: Option<ClientKey>,
    /// Why a Secret could not be made or deleted.
    pub problem: Option<ChildProblem>,
}

impl Pass<'_> {
    /// A key becomes valid with its Secret: while that cannot be made, the one before it is.
    pub(super) async fn keys(&self) -> Keys {
        let context = &self.reconciler.context;
        let (workload, now) = (&self.facts.workload, self.facts.now);
        let plane = Plane::from(workload.spec.data_policy.egress);
        let endpoint = client_key::endpoint(workload, &context.settings.plane_url(plane));
        let (wanted, secret) = client_key::wanted(workload, &context.client_keys, &endpoint);
        let status = workload.status.as_ref();
        let known = status.and_then(|status| status.client_key.as_ref());
        let is_made = known.is_some_and(|known| known.secret_name == wanted.secret_name);
        let keys = |key, problem| Keys {
            endpoint: endpoint.clone(),
            key,
            problem,
        };
        if !is_made && !known.is_none_or(client_key::may_replace) {
            return keys(known.cloned(), None);
        }
        let (memory, uid) = (&self.reconciler.memory, self.facts.uid());
        let is_due = memory.secret_is_due(uid, &wanted.secret_name, is_made);
        if !is_made || is_due {
            let made = apply::ensure_secret(&context.client, &secret, is_made).await;
            if let Err(error) = made {
                return keys(known.cloned(), Some(error.into()));
            }
            memory.secret_written(uid, &wanted.secret_name);
        }
        let overlap = client_key::overlap(workload, context.settings.key_overlap);
        let until = now.checked_add(overlap).unwrap_or(Timestamp::MAX);
        let mut key = client_key::replaced(known, &wanted, until);
        let mut problem = None;
        // Not before every gateway has the key that took its place.
        if is_made && self.facts.traffic.key_acknowledged {
            for secret in client_key::expired(&key, now) {
                match apply::delete_secret(&context.client, self.facts.namespace(), &secret).await {
                    Ok(()) => key.former.retain(|former| former.secret_name != secret),
                    Err(error) => problem = Some(error.into()),
                }
            }
        }
        keys(Some(key), problem)
    }

    /// In how long the time of a key before the present one is over.
    pub(super) fn keys_due(&self, keys: &Keys) -> Option<Duration> {
        let now = self.facts.now;
        let expiry = client_key::next_expiry(keys.key.as_ref()?, now)?;
        Duration::try_from(expiry.duration_since(now)).ok()
    }
}

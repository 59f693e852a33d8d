//! Providers as they are known: declaration, key, client, health.

use super::cause::Cause;
use super::client::{ClientError, ExternalClient, ExternalTimeouts, external_client};
use crate::external::api_key::ApiKey;
use crate::external::format::{self, Format};
use crate::external::health::ProviderHealth;
use crate::policy::DataDemands;
use http::Uri;
use http::header::HeaderMap;
use http::uri::Authority;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use weir_crds::provider::ProviderFormat;
use weir_terms::{Breach, Demands, Terms};

/// A provider as its object declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderInput {
    /// Name of the object.
    pub name: Arc<str>,
    /// Base URL.
    pub endpoint: String,
    /// The format of its API.
    pub format: ProviderFormat,
    /// Where the key is; without one none is sent.
    pub secret: Option<SecretRef>,
    /// Authorities to trust instead of the public ones.
    pub ca_bundle: Option<String>,
    /// Whether private addresses are allowed.
    pub allow_private: bool,
    /// Names of the models that it serves.
    pub models: BTreeSet<Arc<str>>,
    /// UID of the object.
    pub uid: String,
    /// Generation of its spec.
    pub generation: i64,
    /// What it promises, and to whom.
    pub terms: ProviderTerms,
}

/// What a provider promises, and to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderTerms {
    /// Where it processes data, if it says.
    pub jurisdiction: Option<String>,
    /// Whether it keeps nothing of what it is sent.
    pub zero_retention: bool,
    /// Namespaces whose workloads may use it; empty means all.
    pub allowed_namespaces: Vec<String>,
}

impl ProviderTerms {
    fn breach(&self, namespace: &str, data: &DataDemands) -> Option<Breach> {
        let terms = Terms {
            jurisdiction: self.jurisdiction.as_deref(),
            zero_retention: Some(self.zero_retention),
            admits_namespace: weir_terms::admits(&self.allowed_namespaces, namespace),
        };
        let demands = Demands {
            allowed_jurisdictions: &data.allowed_jurisdictions,
            require_zero_retention: data.require_zero_retention,
        };
        let breaches = weir_terms::breaches(demands, terms);
        breaches.first().copied()
    }
}

/// A key in a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRef {
    /// Name of the Secret.
    pub name: String,
    /// Key in its data.
    pub key: String,
}

/// A provider that requests can be sent to.
pub struct ProviderHandle {
    /// Name of the object.
    pub name: Arc<str>,
    /// Host and port.
    pub(crate) authority: Authority,
    /// Path of the base URL, without a slash at its end.
    pub(crate) base_path: String,
    /// What its format means.
    pub(crate) format: &'static dyn Format,
    /// The key, where one is declared.
    pub key: Option<ApiKey>,
    /// The client.
    pub(crate) client: ExternalClient,
    /// What is observed.
    pub health: Arc<ProviderHealth>,
}

impl ProviderHandle {
    /// The URL of a path below its base URL; `None` when that makes none.
    pub(crate) fn uri(&self, path: &str) -> Option<Uri> {
        Uri::builder()
            .scheme("https")
            .authority(self.authority.clone())
            .path_and_query(format!("{}{path}", self.base_path))
            .build()
            .ok()
    }

    /// Puts the key on a request, where one is declared.
    pub(crate) fn authorize(&self, headers: &mut HeaderMap) {
        if let Some(key) = &self.key {
            self.format.authorize(key, headers);
        }
    }

    /// Notes why it does not answer, and tells it when that is news.
    pub fn record_cause(&self, cause: &Cause) {
        if self.health.record_cause(cause) {
            tracing::warn!(provider = %self.name, %cause, "provider does not answer");
        }
    }
}

impl std::fmt::Debug for ProviderHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ProviderHandle")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// One provider for the report: whether it can be used, and what is observed of it.
#[derive(Clone, Debug)]
pub struct ProviderRow {
    /// Name of the object.
    pub name: Arc<str>,
    /// Why nothing can be sent to it; the handle otherwise.
    pub handle: Result<Arc<ProviderHandle>, Unusable>,
    /// What is observed.
    pub health: Arc<ProviderHealth>,
}

/// Why nothing can be sent to a provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The object does not decode.
    #[error("the object cannot be decoded")]
    Undecodable,
    /// The URL is not what it should be.
    #[error("the endpoint is not an https URL")]
    Endpoint,
    /// The Secret is not there.
    #[error("secret {0} is not in the namespace for provider keys")]
    SecretMissing(String),
    /// The Secret has no such key, or one that cannot stand in a header.
    #[error("secret {secret} has no usable key {key}")]
    KeyMissing {
        /// Name of the Secret.
        secret: String,
        /// The key.
        key: String,
    },
    /// TLS.
    #[error("{0}")]
    Client(ClientError),
}

type ClientKey = (Option<String>, bool);

/// All providers, and the values of the Secrets in their namespace.
#[derive(Debug)]
pub struct Providers {
    declared: BTreeMap<Arc<str>, Option<ProviderInput>>,
    /// The newest generations of those of which an older one came back: their terms hold too.
    floors: BTreeMap<Arc<str>, ProviderInput>,
    secrets: BTreeMap<String, BTreeMap<String, Option<ApiKey>>>,
    handles: HashMap<Arc<str>, (ProviderInput, Arc<ProviderHandle>)>,
    clients: HashMap<ClientKey, ExternalClient>,
    health: HashMap<Arc<str>, Arc<ProviderHealth>>,
    timeouts: ExternalTimeouts,
}

impl Providers {
    /// Nothing known yet.
    pub fn new(timeouts: ExternalTimeouts) -> Self {
        Self {
            declared: BTreeMap::new(),
            floors: BTreeMap::new(),
            secrets: BTreeMap::new(),
            handles: HashMap::new(),
            clients: HashMap::new(),
            health: HashMap::new(),
            timeouts,
        }
    }

    /// Replaces all providers; `None` is an object that does not decode.
    pub fn set_providers(&mut self, declared: BTreeMap<Arc<str>, Option<ProviderInput>>) {
        self.handles.retain(|name, _| declared.contains_key(name));
        self.health.retain(|name, _| declared.contains_key(name));
        let bundles: Vec<ClientKey> = declared
            .values()
            .flatten()
            .map(|input| (input.ca_bundle.clone(), input.allow_private))
            .collect();
        self.clients.retain(|key, _| bundles.contains(key));
        let before = std::mem::replace(&mut self.declared, declared);
        self.keep_floors(before);
    }

    /// A generation that comes back after a newer one of the same object does not loosen its terms.
    fn keep_floors(&mut self, before: BTreeMap<Arc<str>, Option<ProviderInput>>) {
        for (name, newest) in before {
            if let Some(newest) = newest {
                self.floors.entry(name).or_insert(newest);
            }
        }
        let declared = &self.declared;
        self.floors.retain(|name, newest| match declared.get(name) {
            None => false,
            Some(None) => true,
            Some(Some(now)) => now.uid == newest.uid && now.generation < newest.generation,
        });
    }

    /// What of the terms of a provider a workload of that namespace and with these demands may not accept.
    pub(crate) fn breach(
        &self,
        provider: &str,
        namespace: &str,
        data: &DataDemands,
    ) -> Option<Breach> {
        let declared = self.declared.get(provider).and_then(Option::as_ref);
        let all = declared.into_iter().chain(self.floors.get(provider));
        all.filter_map(|each| each.terms.breach(namespace, data))
            .next()
    }

    /// Replaces the values of all Secrets.
    pub fn set_secrets(&mut self, secrets: BTreeMap<String, BTreeMap<String, Option<ApiKey>>>) {
        self.secrets = secrets;
    }

    /// A provider that requests can be sent to.
    pub fn resolve(&mut self, name: &str) -> Option<Arc<ProviderHandle>> {
        self.try_resolve(name).ok()
    }

    /// Whether a provider declares that it serves a model.
    pub(crate) fn offers(&self, provider: &str, model: &str) -> bool {
        let declared = self.declared.get(provider).and_then(Option::as_ref);
        declared.is_some_and(|declared| declared.models.contains(model))
    }

    /// All providers, for the report.
    pub fn rows(&mut self) -> Vec<ProviderRow> {
        let names: Vec<Arc<str>> = self.declared.keys().cloned().collect();
        names
            .into_iter()
            .map(|name| ProviderRow {
                // Before its health, which is of the endpoint that this finds.
                handle: self.try_resolve(&name),
                health: self.health_of(&name),
                name,
            })
            .collect()
    }

    fn health_of(&mut self, name: &Arc<str>) -> Arc<ProviderHealth> {
        Arc::clone(self.health.entry(Arc::clone(name)).or_default())
    }

    fn try_resolve(&mut self, name: &str) -> Result<Arc<ProviderHandle>, Unusable> {
        let (name, input) = self
            .declared
            .get_key_value(name)
            .ok_or(Unusable::Undecodable)?;
        let (name, input) = (
            Arc::clone(name),
            input.clone().ok_or(Unusable::Undecodable)?,
        );
        let key = input
            .secret
            .as_ref()
            .map(|secret| self.key(secret))
            .transpose()?;
        if let Some((held, handle)) = self.handles.get(&name)
            && *held == input
            && handle.key == key
        {
            return Ok(Arc::clone(handle));
        }
        // What answered or failed was another endpoint.
        let elsewhere = |(held, _): &(ProviderInput, _)| held.endpoint != input.endpoint;
        if self.handles.get(&name).is_some_and(elsewhere) {
            self.health.remove(&name);
        }
        let (authority, base_path) = base(&input.endpoint).ok_or(Unusable::Endpoint)?;
        let client = self.client(&input)?;
        let health = self.health_of(&name);
        let handle = Arc::new(ProviderHandle {
            name: Arc::clone(&name),
            authority,
            base_path,
            format: format::of(input.format),
            key,
            client,
            health,
        });
        self.handles.insert(name, (input, Arc::clone(&handle)));
        Ok(handle)
    }

    fn key(&self, secret: &SecretRef) -> Result<ApiKey, Unusable> {
        let values = self
            .secrets
            .get(&secret.name)
            .ok_or_else(|| Unusable::SecretMissing(secret.name.clone()))?;
        values
            .get(&secret.key)
            .cloned()
            .flatten()
            .ok_or_else(|| Unusable::KeyMissing {
                secret: secret.name.clone(),
                key: secret.key.clone(),
            })
    }

    fn client(&mut self, input: &ProviderInput) -> Result<ExternalClient, Unusable> {
        let key = (input.ca_bundle.clone(), input.allow_private);
        if let Some(client) = self.clients.get(&key) {
            return Ok(client.clone());
        }
        let client = external_client(
            input.ca_bundle.as_deref(),
            input.allow_private,
            self.timeouts,
        )
        .map_err(Unusable::Client)?;
        self.clients.insert(key, client.clone());
        Ok(client)
    }
}

fn base(endpoint: &str) -> Option<(Authority, String)> {
    let uri: Uri = endpoint.parse().ok()?;
    let plain = uri.scheme_str() == Some("https") && uri.query().is_none();
    let authority = uri
        .authority()
        .filter(|authority| plain && !authority.as_str().contains('@'))?;
    Some((
        authority.clone(),
        uri.path().trim_end_matches('/').to_owned(),
    ))
}

#[cfg(test)]
mod tests;

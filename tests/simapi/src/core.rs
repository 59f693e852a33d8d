//! The server without its transport: one request in, one answer out.

use crate::kinds::{self, Kind};
use crate::request::RequestInfo;
use crate::status::ApiError;
use crate::store::{Key, Store};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Status and body of an answer.
pub type Answer = Result<(u16, Value), ApiError>;

/// Looks at an object before it is stored: the request, the new object (null for deletes), the old one (null for creates).
pub type AdmissionHook =
    Arc<dyn Fn(&RequestInfo, &Value, &Value) -> Result<(), ApiError> + Send + Sync>;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// Who an actor is, as the server records it in CertificateSigningRequests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Identity {
    /// Such as `system:serviceaccount:weir-system:weir-node-agent`.
    pub username: String,
    /// Groups of the user.
    pub groups: Vec<String>,
    /// Claims such as `authentication.kubernetes.io/node-name`.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The state of the server.
pub struct Core {
    /// Kinds that are served.
    pub kinds: Vec<Arc<Kind>>,
    /// What is stored.
    pub store: Store,
    /// Tells the time.
    pub clock: Clock,
    /// Looks at objects before they are stored.
    pub admission: Option<AdmissionHook>,
    /// Who the actors are.
    pub identities: BTreeMap<String, Identity>,
    /// Whether dependents go with their owners at once.
    pub collects_garbage: bool,
    next_uid: u64,
    next_address: u64,
}

impl Core {
    /// A server of the built-in kinds and those of the definitions, with the usual namespaces.
    pub fn new(crds: &[CustomResourceDefinition], clock: Clock) -> Self {
        let kinds = kinds::built_in()
            .into_iter()
            .chain(crds.iter().flat_map(kinds::custom));
        let mut core = Self {
            kinds: kinds.map(Arc::new).collect(),
            store: Store::default(),
            clock,
            admission: None,
            identities: BTreeMap::new(),
            collects_garbage: false,
            next_uid: 0,
            next_address: 10,
        };
        for namespace in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            core.add_namespace(namespace);
        }
        core
    }

    /// Adds a namespace unless it is there.
    pub fn add_namespace(&mut self, name: &str) {
        let body = json!({"metadata": {"name": name}});
        let request = RequestInfo {
            verb: "create".to_owned(),
            version: "v1".to_owned(),
            resource: "namespaces".to_owned(),
            body,
            ..RequestInfo::default()
        };
        // A namespace that exists is what was asked for.
        drop(self.handle(&request));
    }

    /// Serves any verb but watch.
    pub fn handle(&mut self, request: &RequestInfo) -> Answer {
        let kind = self.kind(request)?;
        if !request.subresource.is_empty() && !serves(&kind, &request.subresource) {
            return Err(ApiError::no_such_path());
        }
        let answer = match request.verb.as_str() {
            "get" => self.get(&kind, request),
            "list" => self.list(&kind, request),
            "create" => self.create(&kind, request),
            "update" => self.update(&kind, request),
            "patch" => self.patch(&kind, request),
            "apply" => self.apply(&kind, request),
            "delete" => self.delete(&kind, request),
            "deletecollection" => self.delete_collection(&kind, request),
            _ => Err(ApiError::new(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            )),
        };
        if self.collects_garbage && request.is_mutating() && answer.is_ok() {
            self.collect_garbage();
        }
        answer
    }

    /// The kind that a request names.
    pub fn kind(&self, request: &RequestInfo) -> Result<Arc<Kind>, ApiError> {
        let is_it = |kind: &&Arc<Kind>| {
            kind.group == request.group
                && kind.version == request.version
                && kind.plural == request.resource
        };
        self.kinds
            .iter()
            .find(is_it)
            .cloned()
            .ok_or_else(ApiError::no_such_path)
    }

    /// The kind of an object, by its `apiVersion` and `kind`.
    pub fn kind_of(&self, object: &Value) -> Option<Arc<Kind>> {
        let is_it = |kind: &&Arc<Kind>| {
            object["kind"] == kind.kind.as_str()
                && object["apiVersion"] == kind.api_version().as_str()
        };
        self.kinds.iter().find(is_it).cloned()
    }

    /// Where the object that a request names is kept.
    pub fn key(&self, kind: &Kind, request: &RequestInfo) -> Key {
        Key {
            resource: kind.qualified(),
            namespace: request.namespace.clone(),
            name: request.name.clone(),
        }
    }

    /// The object that a request names.
    pub fn live(&self, kind: &Kind, request: &RequestInfo) -> Result<Arc<Value>, ApiError> {
        let found = self.store.get(&self.key(kind, request)).cloned();
        found.ok_or_else(|| ApiError::not_found(kind, &request.name))
    }

    fn get(&mut self, kind: &Kind, request: &RequestInfo) -> Answer {
        Ok((200, (*self.live(kind, request)?).clone()))
    }

    /// Now, as objects record it.
    pub fn time(&self) -> String {
        (self.clock)().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// A new UID: they count up, so that runs repeat exactly.
    pub fn new_uid(&mut self) -> String {
        self.next_uid += 1;
        // Spread over the first digits, which names of children are made of.
        let spread = self.next_uid.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!("{:08x}-0000-4000-8000-{:012x}", spread >> 32, self.next_uid)
    }

    /// The next address of the Service range.
    pub fn next_address(&mut self) -> u64 {
        self.next_address += 1;
        self.next_address
    }

    /// Asks the admission hook.
    pub fn admit(&self, request: &RequestInfo, new: &Value, old: &Value) -> Result<(), ApiError> {
        match &self.admission {
            Some(hook) => hook(request, new, old),
            None => Ok(()),
        }
    }
}

fn serves(kind: &Kind, subresource: &str) -> bool {
    match subresource {
        "status" => kind.status,
        "approval" => kind.kind == "CertificateSigningRequest",
        _ => false,
    }
}

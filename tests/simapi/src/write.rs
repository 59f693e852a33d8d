//! Creates, replaces, patches and applies.

use crate::core::{Answer, Core};
use crate::defaults;
use crate::kinds::Kind;
use crate::managed::{Managed, Writer, ownable};
use crate::preconditions;
use crate::request::RequestInfo;
use crate::rules;
use crate::status::ApiError;
use crate::store::Key;
use serde_json::{Value, json};
use std::sync::Arc;
use weir_schema::Cause;

impl Core {
    pub(crate) fn create(&mut self, kind: &Kind, request: &RequestInfo) -> Answer {
        let mut object = self.decode_body(kind, request)?;
        if object["metadata"]["resourceVersion"]
            .as_str()
            .is_some_and(|version| !version.is_empty())
        {
            return Err(ApiError::new(
                500,
                "",
                "resourceVersion should not be set on objects to be created",
            ));
        }
        self.name_it(kind, &mut object);
        let owned = ownable("", kind.status);
        let (time, api_version, zero) = (self.time(), kind.api_version(), kind.zero());
        let writer = Writer {
            node: &kind.node,
            zero: &zero,
            manager: field_manager(request),
            api_version: &api_version,
            subresource: "",
            owns: &owned,
            time: &time,
        };
        strip_managed(&mut object);
        let managed = Managed::default().updated(&writer, &zero, &object);
        self.insert(kind, request, object, &managed)
    }

    fn name_it(&mut self, kind: &Kind, object: &mut Value) {
        let metadata = &mut object["metadata"];
        if metadata["name"].as_str().unwrap_or_default().is_empty()
            && let Some(prefix) = metadata["generateName"]
                .as_str()
                .filter(|prefix| !prefix.is_empty())
        {
            let taken = self.store.of(&kind.qualified(), "").len() as u64;
            let suffix =
                (self.store.revision() ^ taken.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            metadata["name"] = json!(format!("{prefix}{:05x}", suffix >> 44));
        }
    }

    /// Stores a new object.
    fn insert(
        &mut self,
        kind: &Kind,
        request: &RequestInfo,
        mut object: Value,
        managed: &Managed,
    ) -> Answer {
        let name = object["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if kind.namespaced && self.store.get(&namespace_key(&request.namespace)).is_none() {
            let namespaces = self
                .kinds
                .iter()
                .find(|kind| kind.kind == "Namespace")
                .cloned();
            return Err(namespaces.map_or_else(ApiError::no_such_path, |kind| {
                ApiError::not_found(&kind, &request.namespace)
            }));
        }
        let metadata = &mut object["metadata"];
        for field in [
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "resourceVersion",
            "selfLink",
            "generation",
        ] {
            metadata
                .as_object_mut()
                .and_then(|metadata| metadata.remove(field));
        }
        if kind.namespaced {
            metadata["namespace"] = json!(request.namespace);
        }
        metadata["uid"] = json!(self.new_uid());
        metadata["creationTimestamp"] = json!(self.time());
        if kind.generation {
            metadata["generation"] = json!(1);
        }
        self.prepare_new(kind, request, &mut object);
        managed.put(&mut object);
        let mut causes = rules::name(kind, &object);
        causes.extend(validate(kind, &object, None));
        if !causes.is_empty() {
            return Err(ApiError::invalid(kind, &name, &causes));
        }
        self.admit(request, &object, &Value::Null)?;
        let key = Key {
            resource: kind.qualified(),
            namespace: if kind.namespaced {
                request.namespace.clone()
            } else {
                String::new()
            },
            name: name.clone(),
        };
        if let Some(live) = self.store.get(&key) {
            let mut error = ApiError::already_exists(kind, &name);
            if live["metadata"]["deletionTimestamp"].is_string() {
                error.message = format!("object is being deleted: {}", error.message);
            }
            return Err(error);
        }
        if request.is_dry_run() {
            return Ok((201, object));
        }
        Ok((201, (*self.store.put(key, object)).clone()))
    }

    /// What the kind's own code does to a new object.
    fn prepare_new(&mut self, kind: &Kind, request: &RequestInfo, object: &mut Value) {
        // A kubelet registers its node with a status.
        if kind.status && kind.kind != "Node" {
            object
                .as_object_mut()
                .and_then(|object| object.remove("status"));
        }
        match kind.kind.as_str() {
            "Service" => {
                let address = self.next_address();
                defaults::allocate_address(object, address);
            }
            "Namespace" => {
                object["spec"] = json!({"finalizers": ["kubernetes"]});
                let name = object["metadata"]["name"].clone();
                object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            }
            "CertificateSigningRequest" => {
                let identity = self
                    .identities
                    .get(&request.actor)
                    .cloned()
                    .unwrap_or_default();
                object["spec"]["username"] = json!(identity.username);
                object["spec"]["groups"] = json!(identity.groups);
                object["spec"]["extra"] = json!(identity.extra);
            }
            _ => {}
        }
        if !kind.is_custom() {
            defaults::decode(&kind.kind, object);
        }
        if kind.kind == "Pod" {
            object["status"] =
                json!({"phase": "Pending", "qosClass": rules::qos_class(&object["spec"])});
        }
    }

    pub(crate) fn update(&mut self, kind: &Kind, request: &RequestInfo) -> Answer {
        let object = self.decode_body(kind, request)?;
        let key = self.key(kind, request);
        let Some(live) = self.store.get(&key).cloned() else {
            if kind.upsert && request.subresource.is_empty() {
                if let Some(uid) = object["metadata"]["uid"].as_str() {
                    return Err(preconditions::missed(kind, request, uid, &Value::Null));
                }
                return self.create(kind, request);
            }
            return Err(ApiError::not_found(kind, &request.name));
        };
        preconditions::check_uid(kind, request, &live, &object)?;
        let version = object["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default();
        if version.is_empty() && !kind.unconditional {
            let cause = Cause::new(
                "FieldValueInvalid",
                "metadata.resourceVersion",
                "Invalid value: 0: must be specified for an update",
            );
            // The server names the resource where the kind belongs.
            let mut error = ApiError::invalid(kind, &request.name, &[cause]);
            error.details["kind"] = json!(kind.plural);
            return Err(error);
        }
        self.replace(kind, request, &live, object)
    }

    pub(crate) fn patch(&mut self, kind: &Kind, request: &RequestInfo) -> Answer {
        let live = self.live(kind, request)?;
        let mut object = (*live).clone();
        if request.content_type.starts_with("application/merge-patch") {
            json_patch::merge(&mut object, &request.body);
        } else if request.content_type.starts_with("application/json-patch") {
            let operations: Vec<json_patch::PatchOperation> =
                serde_json::from_value(request.body.clone())
                    .map_err(|error| ApiError::bad_request(error.to_string()))?;
            json_patch::patch(&mut object, &operations).map_err(|_| {
                let why = "the server rejected our request due to an error in our request";
                ApiError {
                    details: Box::new(json!({})),
                    ..ApiError::new(422, "Invalid", why)
                }
            })?;
        } else {
            let why = "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
            return Err(ApiError::new(415, "UnsupportedMediaType", why));
        }
        decode(kind, &mut object);
        self.replace(kind, request, &live, object)
    }

    /// Stores a new state of an object that exists, as far as the request may change it.
    fn replace(
        &mut self,
        kind: &Kind,
        request: &RequestInfo,
        live: &Arc<Value>,
        mut object: Value,
    ) -> Answer {
        preconditions::check(kind, request, live, &object)?;
        let sent = match (
            &object["metadata"]["managedFields"],
            request.subresource.as_str(),
        ) {
            (Value::Array(entries), "") if entries.is_empty() => Managed::default(),
            (Value::Array(_), "") => Managed::of(&object),
            _ => Managed::of(live),
        };
        strip_managed(&mut object);
        let mut bare = (**live).clone();
        strip_managed(&mut bare);
        let owned = ownable(&request.subresource, kind.status);
        let (time, api_version, zero) = (self.time(), kind.api_version(), kind.zero());
        let writer = Writer {
            node: &kind.node,
            zero: &zero,
            manager: field_manager(request),
            api_version: &api_version,
            subresource: &request.subresource,
            owns: &owned,
            time: &time,
        };
        let managed = sent.updated(&writer, &bare, &object);
        self.commit(kind, request, live, object, &managed)
    }

    pub(crate) fn apply(&mut self, kind: &Kind, request: &RequestInfo) -> Answer {
        let mut config = request.body.clone();
        rules::check_apply(kind, request, &mut config)?;
        let key = self.key(kind, request);
        let live = self.store.get(&key).cloned();
        if live.is_some() {
            // Held to uid and resourceVersion once it is merged: conflicts of fields come first.
        } else if !request.subresource.is_empty() {
            return Err(ApiError::not_found(kind, &request.name));
        } else if let Some(uid) = config["metadata"]["uid"].as_str() {
            let why = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            return Err(ApiError::conflict(kind, &request.name, &why));
        }
        let base = live.as_deref().cloned().unwrap_or_else(|| kind.zero());
        let managed = Managed::of(&base);
        let mut bare = base;
        strip_managed(&mut bare);
        let owned = ownable(&request.subresource, kind.status);
        let (time, api_version, zero) = (self.time(), kind.api_version(), kind.zero());
        let writer = Writer {
            node: &kind.node,
            zero: &zero,
            manager: field_manager(request),
            api_version: &api_version,
            subresource: &request.subresource,
            owns: &owned,
            time: &time,
        };
        let force = request.flag("force");
        let (object, managed) = managed
            .applied(&writer, &bare, &config, force)
            .map_err(ApiError::field_conflicts)?;
        let mut object = object.unwrap_or(bare);
        decode(kind, &mut object);
        match live {
            Some(live) => {
                preconditions::check(kind, request, &live, &config)?;
                self.commit(kind, request, &live, object, &managed)
            }
            None => self.insert(kind, request, object, &managed),
        }
    }

    /// Keeps what the request may not change, counts the generation, validates, and stores unless nothing changed.
    fn commit(
        &mut self,
        kind: &Kind,
        request: &RequestInfo,
        live: &Arc<Value>,
        object: Value,
        managed: &Managed,
    ) -> Answer {
        let mut new = rules::admissible(kind, &request.subresource, live, object);
        managed.put(&mut new);
        if request.subresource.is_empty()
            && kind.generation
            && rules::bumps_generation(kind, live, &new)
        {
            let generation = live["metadata"]["generation"].as_i64().unwrap_or_default();
            new["metadata"]["generation"] = json!(generation + 1);
        }
        let mut causes = rules::immutable(kind, live, &new);
        causes.extend(validate(kind, &new, Some(live)));
        if !causes.is_empty() {
            return Err(ApiError::invalid(kind, &request.name, &causes));
        }
        self.admit(request, &new, live)?;
        if rules::equal_but_for_times(&new, live) {
            return Ok((200, (**live).clone()));
        }
        if request.is_dry_run() {
            return Ok((200, new));
        }
        let key = self.key(kind, request);
        let deleting = new["metadata"]["deletionTimestamp"].is_string();
        let held = new["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|finalizers| !finalizers.is_empty());
        let graceful = new["metadata"]["deletionGracePeriodSeconds"]
            .as_i64()
            .unwrap_or_default()
            > 0;
        if deleting && !held && !graceful {
            self.store.remove(&key);
            return Ok((200, new));
        }
        Ok((200, (*self.store.put(key, new)).clone()))
    }

    fn decode_body(&self, kind: &Kind, request: &RequestInfo) -> Result<Value, ApiError> {
        let mut object = request.body.clone();
        if !object.is_object() {
            return Err(ApiError::bad_request(
                "the body of the request is not an object",
            ));
        }
        rules::check_identity(kind, request, &mut object)?;
        decode(kind, &mut object);
        Ok(object)
    }
}

fn namespace_key(name: &str) -> Key {
    Key {
        resource: "namespaces".to_owned(),
        namespace: String::new(),
        name: name.to_owned(),
    }
}

fn decode(kind: &Kind, object: &mut Value) {
    defaults::metadata(&mut object["metadata"]);
    if kind.is_custom() {
        kind.schema.decode(object);
    } else {
        if let (false, Some(object)) = (kind.status, object.as_object_mut()) {
            object.remove("status");
        }
        defaults::decode(&kind.kind, object);
    }
}

fn validate(kind: &Kind, object: &Value, old: Option<&Value>) -> Vec<Cause> {
    if kind.is_custom() {
        kind.schema.refused(object, old)
    } else {
        rules::built_in(kind, object)
    }
}

fn strip_managed(object: &mut Value) {
    object["metadata"]
        .as_object_mut()
        .and_then(|metadata| metadata.remove("managedFields"));
}

/// The field manager that a request names, else its actor.
fn field_manager(request: &RequestInfo) -> &str {
    match request.parameter("fieldManager") {
        "" => &request.actor,
        manager => manager,
    }
}

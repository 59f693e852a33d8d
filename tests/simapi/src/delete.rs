//! Deletion: preconditions, finalizers, grace; and the garbage collector.

use crate::core::{Answer, Core};
use crate::kinds::Kind;
use crate::request::RequestInfo;
use crate::selector::Selector;
use crate::status::ApiError;
use crate::store::Key;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// Kinds whose deletion answers with the object rather than a status.
const ANSWERS_OBJECT: [&str; 5] = [
    "Pod",
    "Service",
    "ServiceAccount",
    "PersistentVolume",
    "PersistentVolumeClaim",
];

impl Core {
    pub(crate) fn delete(&mut self, kind: &Kind, request: &RequestInfo) -> Answer {
        let live = self.live(kind, request)?;
        for (field, what) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
            let wanted = request.body["preconditions"][field].as_str();
            if let Some(wanted) = wanted.filter(|wanted| live["metadata"][field] != *wanted) {
                return Err(missed(
                    kind,
                    &request.name,
                    what,
                    wanted,
                    &live["metadata"][field],
                ));
            }
        }
        self.admit(request, &Value::Null, &live)?;
        if request.is_dry_run() || request.body["dryRun"][0] == "All" {
            return Ok((200, (*live).clone()));
        }
        self.remove(kind, &self.key(kind, request), &live, request)
    }

    fn remove(
        &mut self,
        kind: &Kind,
        key: &Key,
        live: &Arc<Value>,
        request: &RequestInfo,
    ) -> Answer {
        let option = |name: &str| match &request.body[name] {
            Value::Null => request.parameter(name).to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let mut object = (**live).clone();
        let propagation = option("propagationPolicy");
        // Without a word on propagation, an earlier one stands.
        if !propagation.is_empty() {
            set_finalizer(&mut object, FOREGROUND, propagation == "Foreground");
            set_finalizer(&mut object, ORPHAN, propagation == "Orphan");
        }
        let held = object["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|finalizers| !finalizers.is_empty());
        let grace = self.grace(kind, &object, &option("gracePeriodSeconds"));
        let already = live["metadata"]["deletionTimestamp"].is_string();
        if !held && (grace == 0 || (already && option("gracePeriodSeconds") == "0")) {
            let removed = self.store.remove(key);
            debug_assert!(removed.is_some(), "a live object is in the store");
            return Ok((200, deleted(kind, live, self.store.revision())));
        }
        if !already {
            let when = (self.clock)() + Duration::from_secs(grace);
            object["metadata"]["deletionTimestamp"] =
                json!(when.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
            object["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
            if let Some(generation) = object["metadata"]["generation"].as_i64() {
                object["metadata"]["generation"] = json!(generation + 1);
            }
        }
        if object == **live {
            return Ok((200, object));
        }
        Ok((200, (*self.store.put(key.clone(), object)).clone()))
    }

    /// Seconds that a pod on a node has to stop; nothing else has any.
    fn grace(&self, kind: &Kind, object: &Value, asked: &str) -> u64 {
        let runs = kind.kind == "Pod"
            && object["spec"]["nodeName"].is_string()
            && !matches!(
                object["status"]["phase"].as_str(),
                Some("Succeeded" | "Failed")
            );
        if !runs {
            return 0;
        }
        let own = object["spec"]["terminationGracePeriodSeconds"]
            .as_u64()
            .unwrap_or(30);
        asked.parse().unwrap_or(own)
    }

    pub(crate) fn delete_collection(&mut self, kind: &Kind, request: &RequestInfo) -> Answer {
        let selector = Selector::read(kind, request)?;
        let objects = self.store.of(&kind.qualified(), &request.namespace);
        let mut items = Vec::new();
        for object in objects.iter().filter(|object| selector.matches(object)) {
            let (_, answer) = self.remove(kind, &key_of(kind, object), object, request)?;
            items.push(if answer["kind"] == "Status" {
                (**object).clone()
            } else {
                answer
            });
        }
        let metadata = json!({"resourceVersion": self.store.revision().to_string()});
        let list = json!({"kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(), "metadata": metadata, "items": items});
        Ok((200, list))
    }

    /// One pass of the garbage collector: dependents of owners that are gone go too, until nothing changes.
    pub fn collect_garbage(&mut self) {
        while self.collect_some() {}
    }

    fn collect_some(&mut self) -> bool {
        let objects: Vec<_> = self
            .store
            .objects()
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        let uids: BTreeSet<_> = objects
            .iter()
            .filter_map(|(_, object)| object["metadata"]["uid"].as_str())
            .collect();
        let foreground: BTreeSet<_> = with_finalizer(&objects, FOREGROUND);
        let orphaning: BTreeSet<_> = with_finalizer(&objects, ORPHAN);
        let before = self.store.revision();
        for (key, object) in &objects {
            let owners: Vec<&str> = owners(object).collect();
            if owners.iter().any(|owner| orphaning.contains(owner)) {
                self.disown(key, object, &orphaning);
                continue;
            }
            let gone = !owners.is_empty() && owners.iter().all(|owner| !uids.contains(owner));
            let follows = owners.iter().any(|owner| foreground.contains(owner));
            if gone || follows {
                self.remove_dependent(key, object);
            }
        }
        for (key, object) in &objects {
            let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
            let has_dependents = self
                .store
                .objects()
                .any(|(_, other)| owners(other).any(|owner| owner == uid));
            for (finalizer, set) in [(FOREGROUND, &foreground), (ORPHAN, &orphaning)] {
                if set.contains(uid) && !has_dependents {
                    self.release(key, finalizer);
                }
            }
        }
        self.store.revision() != before
    }

    fn remove_dependent(&mut self, key: &Key, object: &Arc<Value>) {
        let Some(kind) = self.kind_of(object) else {
            return;
        };
        let request = RequestInfo {
            verb: "delete".to_owned(),
            ..RequestInfo::default()
        };
        // An object that waits for its own finalizers or its grace is left alone.
        if object["metadata"]["deletionTimestamp"].is_null() {
            drop(self.remove(&kind, key, object, &request));
        }
    }

    fn disown(&mut self, key: &Key, object: &Value, orphaning: &BTreeSet<&str>) {
        let mut object = object.clone();
        if let Some(owners) = object["metadata"]["ownerReferences"].as_array_mut() {
            owners.retain(|owner| !orphaning.contains(owner["uid"].as_str().unwrap_or_default()));
        }
        self.store.put(key.clone(), object);
    }

    fn release(&mut self, key: &Key, finalizer: &str) {
        let Some(live) = self.store.get(key).cloned() else {
            return;
        };
        let mut object = (*live).clone();
        set_finalizer(&mut object, finalizer, false);
        if object["metadata"]["finalizers"].is_null() {
            self.store.remove(key);
        } else {
            self.store.put(key.clone(), object);
        }
    }
}

fn owners(object: &Value) -> impl Iterator<Item = &str> {
    let references = object["metadata"]["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten();
    references.filter_map(|owner| owner["uid"].as_str())
}

fn with_finalizer<'a>(objects: &'a [(Key, Arc<Value>)], finalizer: &str) -> BTreeSet<&'a str> {
    let has = |object: &Value| {
        object["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one == finalizer))
    };
    let deleting = |object: &Value| object["metadata"]["deletionTimestamp"].is_string();
    let matching = objects
        .iter()
        .filter(|(_, object)| has(object) && deleting(object));
    matching
        .filter_map(|(_, object)| object["metadata"]["uid"].as_str())
        .collect()
}

fn set_finalizer(object: &mut Value, finalizer: &str, wanted: bool) {
    let metadata = &mut object["metadata"];
    let mut all = metadata["finalizers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    all.retain(|one| one != finalizer);
    if wanted {
        all.push(json!(finalizer));
    }
    if all.is_empty() {
        metadata
            .as_object_mut()
            .and_then(|metadata| metadata.remove("finalizers"));
    } else {
        metadata["finalizers"] = Value::Array(all);
    }
}

fn key_of(kind: &Kind, object: &Value) -> Key {
    let text = |name: &str| {
        object["metadata"][name]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    Key {
        resource: kind.qualified(),
        namespace: text("namespace"),
        name: text("name"),
    }
}

fn deleted(kind: &Kind, object: &Value, revision: u64) -> Value {
    if ANSWERS_OBJECT.contains(&kind.kind.as_str()) {
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        return object;
    }
    let mut details = json!({"name": object["metadata"]["name"], "kind": kind.plural, "uid": object["metadata"]["uid"]});
    if !kind.group.is_empty() {
        details["group"] = json!(kind.group);
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// 409 for a delete that meant another object or another state.
fn missed(kind: &Kind, name: &str, what: &str, wanted: &str, is: &Value) -> ApiError {
    let qualified = match kind.group.as_str() {
        "" => kind.kind.clone(),
        group => format!("{}.{group}", kind.kind),
    };
    let is = is.as_str().unwrap_or_default();
    let how = if what == "UID" {
        "deleted and then recreated"
    } else {
        "modified"
    };
    let mut error = ApiError::conflict(kind, name, "");
    error.details["kind"] = json!(kind.kind);
    error.message = format!(
        "Operation cannot be fulfilled on {qualified} {name:?}: the {what} in the precondition ({wanted}) does not match the {what} in record ({is}). The object might have been {how}"
    );
    error
}

impl ApiError {
    /// The refusal of an admission hook, as a ValidatingAdmissionPolicy answers.
    pub fn denied(kind: &str, name: &str, why: &str) -> Self {
        Self::new(
            422,
            "Invalid",
            format!("{kind} {name:?} is forbidden: {why}"),
        )
    }
}

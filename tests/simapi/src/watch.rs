//! Watches: what a stream starts with, what follows, bookmarks, 410, and the ways in which tests disturb them.

use crate::core::Core;
use crate::kinds::Kind;
use crate::read::metadata_only;
use crate::request::RequestInfo;
use crate::selector::Selector;
use crate::status::ApiError;
use crate::store::Change;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;

/// What open streams wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signal {
    /// Latest revision of the store.
    pub revision: u64,
    /// Counts the times that all streams were told 410.
    pub expirations: u64,
    /// Counts the times that all streams were cut.
    pub cuts: u64,
    /// Whether nothing is delivered for now.
    pub frozen: bool,
}

/// One open stream.
#[derive(Debug)]
pub struct Cursor {
    kind: Arc<Kind>,
    namespace: String,
    selector: Selector,
    metadata: bool,
    revision: u64,
    pending: VecDeque<Value>,
}

impl Cursor {
    /// Opens a stream.
    pub fn open(core: &Core, request: &RequestInfo) -> Result<Self, ApiError> {
        let kind = core.kind(request)?;
        let selector = Selector::read(&kind, request)?;
        let mut cursor = Self {
            namespace: request.namespace.clone(),
            metadata: request.wants_metadata(),
            revision: core.store.revision(),
            pending: VecDeque::new(),
            selector,
            kind,
        };
        let version = request.parameter("resourceVersion");
        let streams_list = request.flag("sendInitialEvents");
        if streams_list || version.is_empty() || version == "0" {
            cursor.start_with_all(core, streams_list);
            return Ok(cursor);
        }
        cursor.revision = version.parse().map_err(|_| {
            ApiError::bad_request(format!("Invalid value: {version:?}: resourceVersion"))
        })?;
        Ok(cursor)
    }

    fn start_with_all(&mut self, core: &Core, streams_list: bool) {
        for object in core.store.of(&self.kind.qualified(), &self.namespace) {
            if self.selector.matches(&object) {
                self.push("ADDED", (*object).clone());
            }
        }
        if streams_list {
            let annotations = json!({"k8s.io/initial-events-end": "true"});
            self.push_bookmark(Some(annotations));
        }
    }

    /// The next event; `Err` when the stream's place in history is forgotten, which ends it.
    pub fn next(&mut self, core: &Core) -> Result<Option<Value>, Value> {
        if let Some(event) = self.pending.pop_front() {
            return Ok(Some(event));
        }
        if self.revision < core.store.compacted() {
            return Err(expired());
        }
        for change in core.store.since(self.revision) {
            self.take(change);
        }
        self.revision = self.revision.max(core.store.revision());
        Ok(self.pending.pop_front())
    }

    fn take(&mut self, change: &Change) {
        let key = &change.key;
        if key.resource != self.kind.qualified()
            || !(self.namespace.is_empty() || self.namespace == key.namespace)
        {
            return;
        }
        let matching = |object: &Option<Arc<Value>>| {
            object
                .clone()
                .filter(|object| self.selector.matches(object))
        };
        let event = match (matching(&change.old), matching(&change.new)) {
            (None, None) => return,
            (None, Some(new)) => ("ADDED", (*new).clone()),
            (Some(_), Some(new)) => ("MODIFIED", (*new).clone()),
            (Some(old), None) => {
                let mut old = (*old).clone();
                old["metadata"]["resourceVersion"] = json!(change.revision.to_string());
                ("DELETED", old)
            }
        };
        self.push(event.0, event.1);
    }

    fn push(&mut self, event: &str, object: Value) {
        let object = if self.metadata {
            metadata_only(object)
        } else {
            object
        };
        self.pending
            .push_back(json!({"type": event, "object": object}));
    }

    /// Tells the client how far it is.
    pub fn bookmark(&mut self) -> Option<Value> {
        self.push_bookmark(None);
        self.pending.pop_back()
    }

    fn push_bookmark(&mut self, annotations: Option<Value>) {
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if let Some(annotations) = annotations {
            metadata["annotations"] = annotations;
        }
        let kind = if self.metadata {
            "PartialObjectMetadata"
        } else {
            &self.kind.kind
        };
        let api_version = if self.metadata {
            "meta.k8s.io/v1".to_owned()
        } else {
            self.kind.api_version()
        };
        let mut object = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
        if !self.metadata {
            // Typed clients need the fields that the kind requires.
            for (name, value) in self.kind.zero().as_object().into_iter().flatten() {
                if name != "metadata" && object.get(name).is_none() {
                    object[name] = value.clone();
                }
            }
        }
        self.pending
            .push_back(json!({"type": "BOOKMARK", "object": object}));
    }
}

/// The event that ends a stream whose resourceVersion is too old.
pub fn expired() -> Value {
    json!({"type": "ERROR", "object": ApiError::expired().body()})
}

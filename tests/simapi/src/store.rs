//! The store: objects by key, a counter of revisions, and the log of what changed.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where an object is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// `plural.group`.
    pub resource: String,
    /// Namespace, or empty.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// One change of one object.
#[derive(Clone, Debug)]
pub struct Change {
    /// Revision that the change made.
    pub revision: u64,
    /// Which object.
    pub key: Key,
    /// The object before; `None` when it was created.
    pub old: Option<Arc<Value>>,
    /// The object after; `None` when it was deleted.
    pub new: Option<Arc<Value>>,
}

/// Objects and their history.
#[derive(Debug)]
pub struct Store {
    revision: u64,
    compacted: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    log: Vec<Change>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            revision: 1,
            compacted: 0,
            objects: BTreeMap::new(),
            log: Vec::new(),
        }
    }
}

impl Store {
    /// The latest revision.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The revision before which history is forgotten.
    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    /// Forgets the history up to now: older resourceVersions are answered with 410.
    pub fn compact(&mut self) {
        self.compacted = self.revision;
        self.log.clear();
    }

    /// An object.
    pub fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    /// All objects in the order of their keys.
    pub fn objects(&self) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        self.objects.iter()
    }

    /// Objects of one kind, in one namespace unless it is empty, in the order of their keys.
    pub fn of(&self, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        let matches = |key: &Key| {
            key.resource == resource && (namespace.is_empty() || key.namespace == namespace)
        };
        self.objects
            .iter()
            .filter(|(key, _)| matches(key))
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// The objects of one kind as they were at a revision; `None` when that is forgotten.
    pub fn at(&self, revision: u64, resource: &str, namespace: &str) -> Option<Vec<Arc<Value>>> {
        if revision < self.compacted {
            return None;
        }
        let mut then: BTreeMap<Key, Arc<Value>> = self
            .objects
            .iter()
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        for change in self
            .log
            .iter()
            .rev()
            .take_while(|change| change.revision > revision)
        {
            match &change.old {
                Some(old) => then.insert(change.key.clone(), old.clone()),
                None => then.remove(&change.key),
            };
        }
        let matches = |key: &Key| {
            key.resource == resource && (namespace.is_empty() || key.namespace == namespace)
        };
        Some(
            then.into_iter()
                .filter(|(key, _)| matches(key))
                .map(|(_, object)| object)
                .collect(),
        )
    }

    /// Changes after a revision.
    pub fn since(&self, revision: u64) -> &[Change] {
        let start = self
            .log
            .partition_point(|change| change.revision <= revision);
        &self.log[start..]
    }

    /// Stores an object and gives it the next resourceVersion.
    pub fn put(&mut self, key: Key, mut object: Value) -> Arc<Value> {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let new = Arc::new(object);
        let old = self.objects.insert(key.clone(), new.clone());
        self.log.push(Change {
            revision: self.revision,
            key,
            old,
            new: Some(new.clone()),
        });
        new
    }

    /// Removes an object; the answer carries the revision of its removal.
    pub fn remove(&mut self, key: &Key) -> Option<Arc<Value>> {
        let old = self.objects.remove(key)?;
        self.revision += 1;
        self.log.push(Change {
            revision: self.revision,
            key: key.clone(),
            old: Some(old.clone()),
            new: None,
        });
        Some(old)
    }
}

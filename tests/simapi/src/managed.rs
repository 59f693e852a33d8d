//! `metadata.managedFields`: who owns which field, kept through updates and applies.

use crate::fields::{FieldSet, Path, Step, display, path};
use crate::schema::Node;
use crate::typed;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Who wrote: appliers have one entry whatever version they apply.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Manager {
    name: String,
    operation: String,
    subresource: String,
    api_version: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    api_version: String,
    time: Option<String>,
    set: FieldSet,
}

/// The owners of an object's fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Managed(BTreeMap<Manager, Entry>);

/// The write that changes ownership.
pub struct Writer<'a> {
    /// Merge rules of the kind.
    pub node: &'a Node,
    /// An object of the kind in which nothing is set.
    pub zero: &'a Value,
    /// Field manager of the request.
    pub manager: &'a str,
    /// `apiVersion` of the object.
    pub api_version: &'a str,
    /// Subresource that is written, or empty.
    pub subresource: &'a str,
    /// Whether the write can own the path: the status is reset in writes of the object, the rest in writes of the status.
    pub owns: &'a dyn Fn(&Path) -> bool,
    /// Now, as the object records it.
    pub time: &'a str,
}

/// Fields that the apply would change and others own.
#[derive(Clone, Debug)]
pub struct Conflicts {
    /// One line for people.
    pub message: String,
    /// One cause for each field.
    pub causes: Vec<Value>,
}

const STRIPPED: &[&str] = &[
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
];

fn is_bookkeeping(path: &Path) -> bool {
    let name = |step: &Step| match step {
        Step::Field(name) => name.clone(),
        _ => String::new(),
    };
    match path.as_slice() {
        [only] => ["apiVersion", "kind", "metadata"].contains(&name(only).as_str()),
        [first, second] => name(first) == "metadata" && STRIPPED.contains(&name(second).as_str()),
        _ => false,
    }
}

impl Managed {
    /// Reads the owners from an object.
    pub fn of(object: &Value) -> Self {
        let entries = object["metadata"]["managedFields"]
            .as_array()
            .into_iter()
            .flatten();
        Self(entries.filter_map(decode).collect())
    }

    /// Writes the owners into an object.
    pub fn put(&self, object: &mut Value) {
        let Some(metadata) = object["metadata"].as_object_mut() else {
            return;
        };
        metadata.remove("managedFields");
        if self.0.is_empty() {
            return;
        }
        let mut entries: Vec<_> = self.0.iter().collect();
        entries.sort_by(|(a, x), (b, y)| {
            let key = |m: &Manager, e: &Entry| {
                let time = e.time.clone().unwrap_or_default();
                (
                    m.operation.clone(),
                    time,
                    m.name.clone(),
                    e.api_version.clone(),
                    m.subresource.clone(),
                )
            };
            key(a, x).cmp(&key(b, y))
        });
        let entries = entries
            .into_iter()
            .map(|(manager, entry)| encode(manager, entry))
            .collect();
        metadata.insert("managedFields".to_owned(), Value::Array(entries));
    }

    /// Records a create, replace or patch that turned `live` into `new`.
    #[must_use]
    pub fn updated(mut self, writer: &Writer<'_>, live: &Value, new: &Value) -> Self {
        if self.0.is_empty() && live["metadata"]["uid"].is_string() {
            // Nobody owns anything: the server starts tracking again with the next apply.
            return self;
        }
        let change = typed::compare(writer.node, live, new);
        let [added, modified, removed] =
            [&change.added, &change.modified, &change.removed].map(|set| set.filter(writer.owns));
        let touched = added.union(&modified);
        for entry in self.0.values_mut() {
            entry.set = entry.set.difference(&touched).difference(&removed);
        }
        self.0.retain(|_, entry| !entry.set.is_empty());
        let taken = touched.filter(|path| !is_bookkeeping(path));
        if taken.is_empty() {
            return self;
        }
        let entry = self
            .0
            .entry(writer.key("Update"))
            .or_insert_with(|| writer.entry(FieldSet::default()));
        entry.set = entry.set.union(&taken);
        entry.time = Some(writer.time.to_owned());
        self
    }

    /// Applies a configuration: the merged object, or `None` when it equals the live one, and the new owners.
    ///
    /// # Errors
    /// The fields that others own, unless `force`.
    pub fn applied(
        mut self,
        writer: &Writer<'_>,
        live: &Value,
        config: &Value,
        force: bool,
    ) -> Result<(Option<Value>, Self), Conflicts> {
        if self.0.is_empty() && live["metadata"]["uid"].is_string() {
            let before = Writer {
                manager: "before-first-apply",
                ..*writer
            };
            self = self.updated(&before, writer.zero, live);
        }
        let node = writer.node;
        let key = writer.key("Apply");
        let merged = typed::merge(node, Some(live), Some(config)).unwrap_or_default();
        let set = typed::field_set(node, config).filter(writer.owns);
        let last = self.0.insert(key.clone(), writer.entry(set));
        if let Some(last) = &last {
            let entry = self.0.get_mut(&key);
            entry
                .into_iter()
                .for_each(|entry| entry.time.clone_from(&last.time));
        }
        let new = match last {
            Some(last) => self.pruned(node, &merged, &last.set),
            None => merged,
        };
        let change = typed::compare(node, live, &new);
        let touched = change.added.union(&change.modified).filter(writer.owns);
        let removed = change.removed.filter(writer.owns);
        let conflicts = self.conflicts(&key, &touched);
        if !force && !conflicts.is_empty() {
            return Err(describe(&conflicts));
        }
        for (manager, entry) in &mut self.0 {
            if *manager != key {
                entry.set = entry.set.difference(&touched).difference(&removed);
            }
        }
        if let Some(entry) = self.0.get_mut(&key) {
            entry.set = entry.set.filter(|path| !is_bookkeeping(path));
            if new != *live {
                entry.time = Some(writer.time.to_owned());
            }
        }
        self.0.retain(|_, entry| !entry.set.is_empty());
        Ok(((new != *live).then_some(new), self))
    }

    fn conflicts(&self, applier: &Manager, touched: &FieldSet) -> Vec<(Manager, Entry, FieldSet)> {
        let others = self.0.iter().filter(|(manager, _)| *manager != applier);
        let with_shared = others.map(|(manager, entry)| {
            (
                manager.clone(),
                entry.clone(),
                entry.set.intersection(touched),
            )
        });
        with_shared
            .filter(|(_, _, shared)| !shared.is_empty())
            .collect()
    }

    /// Drops what the applier stated last time and neither it nor anyone else states now.
    fn pruned(&self, node: &Node, merged: &Value, last: &FieldSet) -> Value {
        let named = |set: &FieldSet| typed::with_named_fields(node, set);
        let last = named(last);
        let without_last = typed::remove(node, merged, &last).unwrap_or_default();
        let owned = self
            .0
            .values()
            .fold(FieldSet::default(), |all, entry| all.union(&entry.set));
        let merged_set = named(&typed::field_set(node, merged));
        let kept = named(&typed::field_set(node, &without_last)).union(&named(&owned));
        let with_owned =
            typed::remove(node, merged, &merged_set.difference(&kept)).unwrap_or_default();
        let kept = named(&typed::field_set(node, &with_owned));
        let dropped = merged_set.difference(&kept).intersection(&last);
        typed::remove(node, merged, &dropped).unwrap_or_default()
    }
}

impl Writer<'_> {
    fn key(&self, operation: &str) -> Manager {
        Manager {
            name: if self.manager.is_empty() {
                "unknown"
            } else {
                self.manager
            }
            .to_owned(),
            operation: operation.to_owned(),
            subresource: self.subresource.to_owned(),
            api_version: if operation == "Apply" {
                ""
            } else {
                self.api_version
            }
            .to_owned(),
        }
    }

    fn entry(&self, set: FieldSet) -> Entry {
        Entry {
            api_version: self.api_version.to_owned(),
            time: None,
            set,
        }
    }
}

fn describe(conflicts: &[(Manager, Entry, FieldSet)]) -> Conflicts {
    let name = |manager: &Manager, entry: &Entry| {
        let mut text = format!("{:?}", manager.name);
        if !manager.subresource.is_empty() {
            text += &format!(" with subresource {:?}", manager.subresource);
        }
        if manager.operation == "Update" {
            text += &format!(" using {}", entry.api_version);
        }
        text
    };
    let mut causes = Vec::new();
    let mut lines = Vec::new();
    for (manager, entry, set) in conflicts {
        let name = name(manager, entry);
        lines.push(format!("conflicts with {name}:"));
        for path in set.by_level() {
            let field = display(path);
            lines.push(format!("- {field}"));
            causes.push(json!({"reason": "FieldManagerConflict", "message": format!("conflict with {name}"), "field": field}));
        }
    }
    let message = match causes.as_slice() {
        [one] => format!(
            "Apply failed with 1 conflict: {}: {}",
            one["message"].as_str().unwrap_or_default(),
            one["field"].as_str().unwrap_or_default()
        ),
        all => format!(
            "Apply failed with {} conflicts: {}",
            all.len(),
            lines.join("\n")
        ),
    };
    Conflicts { message, causes }
}

fn decode(entry: &Value) -> Option<(Manager, Entry)> {
    let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let operation = text("operation");
    let manager = Manager {
        name: text("manager"),
        subresource: text("subresource"),
        api_version: if operation == "Apply" {
            String::new()
        } else {
            text("apiVersion")
        },
        operation,
    };
    let entry = Entry {
        api_version: text("apiVersion"),
        time: entry["time"].as_str().map(str::to_owned),
        set: FieldSet::from_json(&entry["fieldsV1"])?,
    };
    Some((manager, entry))
}

fn encode(manager: &Manager, entry: &Entry) -> Value {
    let mut out = Map::new();
    out.insert("manager".to_owned(), json!(manager.name));
    out.insert("operation".to_owned(), json!(manager.operation));
    out.insert("apiVersion".to_owned(), json!(entry.api_version));
    if let Some(time) = &entry.time {
        out.insert("time".to_owned(), json!(time));
    }
    out.insert("fieldsType".to_owned(), json!("FieldsV1"));
    out.insert("fieldsV1".to_owned(), entry.set.to_json());
    if !manager.subresource.is_empty() {
        out.insert("subresource".to_owned(), json!(manager.subresource));
    }
    Value::Object(out)
}

/// Which paths a write of the subresource can own.
pub fn ownable(subresource: &str, has_status: bool) -> impl Fn(&Path) -> bool + use<> {
    let status = path(&["status"]);
    let writes_status = !subresource.is_empty();
    move |path: &Path| !has_status || path.starts_with(&status) == writes_status
}

//! Sets of field paths, and their wire form `FieldsV1`.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::ops::Bound;

/// One step of a path into an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A field of a struct or an entry of a map.
    Field(String),
    /// An item of a list with keys: the keys and their values as JSON text, in the order of their names.
    Key(BTreeMap<String, String>),
    /// An item of a set, as JSON text.
    Item(String),
}

impl Step {
    /// A field or map entry.
    pub fn field(name: &str) -> Self {
        Self::Field(name.to_owned())
    }

    fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Item(value) => format!("v:{value}"),
            Self::Key(keys) => {
                let mut object = Map::new();
                for (key, value) in keys {
                    object.insert(
                        key.clone(),
                        serde_json::from_str(value).unwrap_or(Value::Null),
                    );
                }
                format!("k:{}", Value::Object(object))
            }
        }
    }

    fn decode(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" => Some(Self::field(rest)),
            "v" => Some(Self::Item(rest.to_owned())),
            "k" => {
                let Ok(Value::Object(object)) = serde_json::from_str(rest) else {
                    return None;
                };
                Some(Self::Key(
                    object
                        .into_iter()
                        .map(|(key, value)| (key, value.to_string()))
                        .collect(),
                ))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Item(value) => write!(f, "[={value}]"),
            Self::Key(keys) => {
                let mut text = String::new();
                for (key, value) in keys {
                    if !text.is_empty() {
                        text.push(',');
                    }
                    write!(text, "{key}={value}")?;
                }
                write!(f, "[{text}]")
            }
        }
    }
}

/// Steps from the object's root to a field.
pub type Path = Vec<Step>;

/// The path as error messages write it, such as `.spec.replicas`.
pub fn display(path: &[Step]) -> String {
    path.iter().map(ToString::to_string).collect()
}

/// A path of fields alone.
pub fn path(names: &[&str]) -> Path {
    names.iter().map(|name| Step::field(name)).collect()
}

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(BTreeSet<Path>);

impl FieldSet {
    /// Adds a path.
    pub fn insert(&mut self, path: Path) {
        self.0.insert(path);
    }

    /// Whether the path itself is a member.
    pub fn contains(&self, path: &[Step]) -> bool {
        self.0.contains(path)
    }

    /// Whether a member lies strictly below the path.
    pub fn reaches_below(&self, path: &[Step]) -> bool {
        self.0
            .range::<[Step], _>((Bound::Excluded(path), Bound::Unbounded))
            .next()
            .is_some_and(|next| next.starts_with(path))
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The members in order.
    pub fn iter(&self) -> impl Iterator<Item = &Path> {
        self.0.iter()
    }

    /// The members level by level: those of an object before those within its fields.
    pub fn by_level(&self) -> Vec<&Path> {
        let mut members: Vec<_> = self.0.iter().collect();
        members.sort_by(|a, b| {
            let shared = a.iter().zip(b.iter()).take_while(|(a, b)| a == b).count();
            let ends = |path: &Path| path.len() <= shared + 1;
            ends(b).cmp(&ends(a)).then_with(|| a.cmp(b))
        });
        members
    }

    /// Members of either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self(self.0.union(&other.0).cloned().collect())
    }

    /// Members of both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).cloned().collect())
    }

    /// Members of this set that the other lacks.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).cloned().collect())
    }

    /// Members for which the test holds.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(&Path) -> bool) -> Self {
        Self(self.0.iter().filter(|path| keep(path)).cloned().collect())
    }

    /// The wire form.
    pub fn to_json(&self) -> Value {
        let mut root = Tree::default();
        for path in &self.0 {
            let mut node = &mut root;
            for step in path {
                node = node.children.entry(step.encode()).or_default();
            }
            node.member = true;
        }
        root.to_json()
    }

    /// Reads the wire form; `None` when it is not one.
    pub fn from_json(value: &Value) -> Option<Self> {
        let mut set = Self::default();
        set.read(value.as_object()?, &mut Vec::new())?;
        Some(set)
    }

    fn read(&mut self, object: &Map<String, Value>, prefix: &mut Path) -> Option<()> {
        for (name, value) in object {
            if name == "." {
                self.0.insert(prefix.clone());
                continue;
            }
            prefix.push(Step::decode(name)?);
            match value.as_object()? {
                children if children.is_empty() => self.insert(prefix.clone()),
                children => self.read(children, prefix)?,
            }
            prefix.pop();
        }
        Some(())
    }
}

impl FromIterator<Path> for FieldSet {
    fn from_iter<T: IntoIterator<Item = Path>>(paths: T) -> Self {
        Self(paths.into_iter().collect())
    }
}

#[derive(Default)]
struct Tree {
    member: bool,
    children: BTreeMap<String, Tree>,
}

impl Tree {
    fn to_json(&self) -> Value {
        let mut object = Map::new();
        if self.member && !self.children.is_empty() {
            object.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (name, child) in &self.children {
            object.insert(name.clone(), child.to_json());
        }
        Value::Object(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_wire_form_reads_back_as_it_was_written() {
        let wire = json!({"f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"engine\"}": {".": {}, "f:image": {}}}, "f:finalizers": {"v:\"a\"": {}}}});
        let set = FieldSet::from_json(&wire).unwrap();
        assert_eq!(set.to_json(), wire);
        assert!(set.contains(&path(&["metadata", "labels"])));
        assert!(set.reaches_below(&path(&["spec"])));
        assert!(!set.reaches_below(&path(&["spec", "replicas"])));
    }
}

//! Values under merge rules: their field sets, comparison, merging, removal. After structured-merge-diff v6.

use crate::fields::{FieldSet, Path, Step};
use crate::schema::{Node, Relation};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What a change did, by path.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Fields that only the new value has.
    pub added: FieldSet,
    /// Fields that both have, with other values.
    pub modified: FieldSet,
    /// Fields that only the old value has.
    pub removed: FieldSet,
}

enum Shape {
    Leaf,
    Object,
    List,
}

/// How a value is descended into. Null takes the form of what it is compared with.
fn shape(node: &Node, value: Option<&Value>) -> Option<Shape> {
    match value {
        None | Some(Value::Null) => None,
        Some(Value::Object(_)) if node.relation != Relation::Atomic => Some(Shape::Object),
        Some(Value::Array(_)) if matches!(node.relation, Relation::Keyed(_) | Relation::Set) => {
            Some(Shape::List)
        }
        Some(_) => Some(Shape::Leaf),
    }
}

fn is_blank(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(object)) => object.is_empty(),
        Some(Value::Array(array)) => array.is_empty(),
        Some(_) => false,
    }
}

/// The step that names an item of a keyed list or set.
fn item_step(node: &Node, item: &Value) -> Step {
    match &node.relation {
        Relation::Keyed(keys) => {
            let of = |key: &str, default: &Option<Value>| {
                item.get(key)
                    .or(default.as_ref())
                    .cloned()
                    .unwrap_or(Value::Null)
            };
            Step::Key(
                keys.iter()
                    .map(|(key, default)| (key.clone(), of(key, default).to_string()))
                    .collect(),
            )
        }
        _ => Step::Item(item.to_string()),
    }
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn entries(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

/// The fields that the value states.
pub fn field_set(node: &Node, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    collect(node, value, &mut Vec::new(), &mut set);
    set
}

fn collect(node: &Node, value: &Value, path: &mut Path, set: &mut FieldSet) {
    match shape(node, Some(value)) {
        Some(Shape::Object) => {
            for (name, child) in entries(Some(value)).into_iter().flatten() {
                path.push(Step::field(name));
                collect(node.field(name), child, path, set);
                let empty = child.is_null() || child.as_object().is_some_and(Map::is_empty);
                if empty || !node.is_struct() {
                    set.insert(path.clone());
                }
                path.pop();
            }
        }
        Some(Shape::List) => {
            for item in items(Some(value)) {
                path.push(item_step(node, item));
                collect(node.item(), item, path, set);
                set.insert(path.clone());
                path.pop();
            }
        }
        Some(Shape::Leaf) if !path.is_empty() => set.insert(path.clone()),
        _ => {}
    }
}

/// What turns the old value into the new one.
pub fn compare(node: &Node, old: &Value, new: &Value) -> Comparison {
    let mut comparison = Comparison::default();
    walk(node, Some(old), Some(new), &mut Vec::new(), &mut comparison);
    comparison
}

fn walk(
    node: &Node,
    old: Option<&Value>,
    new: Option<&Value>,
    path: &mut Path,
    out: &mut Comparison,
) {
    let shape = shape(node, new).or_else(|| shape(node, old));
    let leaf = matches!(shape, None | Some(Shape::Leaf)) || (is_blank(old) && is_blank(new));
    if leaf {
        match (old, new) {
            (None, _) => out.added.insert(path.clone()),
            (_, None) => out.removed.insert(path.clone()),
            (Some(old), Some(new)) if old != new => out.modified.insert(path.clone()),
            _ => {}
        }
        return;
    }
    match shape {
        Some(Shape::Object) => walk_object(node, entries(old), entries(new), path, out),
        _ => walk_list(node, items(old), items(new), path, out),
    }
    if old.is_none() {
        out.added.insert(path.clone());
    } else if new.is_none() {
        out.removed.insert(path.clone());
    }
}

fn walk_object(
    node: &Node,
    old: Option<&Map<String, Value>>,
    new: Option<&Map<String, Value>>,
    path: &mut Path,
    out: &mut Comparison,
) {
    let mut descend = |name: &str, old: Option<&Value>, new: Option<&Value>| {
        path.push(Step::field(name));
        walk(node.field(name), old, new, path, out);
        path.pop();
    };
    for (name, value) in old.into_iter().flatten() {
        descend(name, Some(value), new.and_then(|new| new.get(name)));
    }
    for (name, value) in new.into_iter().flatten() {
        if !old.is_some_and(|old| old.contains_key(name)) {
            descend(name, None, Some(value));
        }
    }
}

fn walk_list(node: &Node, old: &[Value], new: &[Value], path: &mut Path, out: &mut Comparison) {
    let index = |list: &[Value]| -> BTreeMap<Step, Value> {
        list.iter()
            .map(|item| (item_step(node, item), item.clone()))
            .collect()
    };
    let (old, new) = (index(old), index(new));
    for step in old
        .keys()
        .chain(new.keys().filter(|step| !old.contains_key(step)))
    {
        path.push(step.clone());
        walk(node.item(), old.get(step), new.get(step), path, out);
        path.pop();
    }
}

/// The live value with the applied one laid over it.
pub fn merge(node: &Node, live: Option<&Value>, applied: Option<&Value>) -> Option<Value> {
    let shape = shape(node, applied).or_else(|| shape(node, live));
    if matches!(shape, None | Some(Shape::Leaf)) || (is_blank(live) && is_blank(applied)) {
        return applied.or(live).cloned();
    }
    match shape {
        Some(Shape::Object) => merge_objects(node, entries(live), entries(applied)),
        _ => merge_lists(node, items(live), items(applied)),
    }
}

fn merge_objects(
    node: &Node,
    live: Option<&Map<String, Value>>,
    applied: Option<&Map<String, Value>>,
) -> Option<Value> {
    let mut out = Map::new();
    let names = live
        .into_iter()
        .flatten()
        .chain(applied.into_iter().flatten())
        .map(|(name, _)| name);
    for name in names {
        if out.contains_key(name) {
            continue;
        }
        let merged = merge(
            node.field(name),
            live.and_then(|live| live.get(name)),
            applied.and_then(|applied| applied.get(name)),
        );
        if let Some(merged) = merged {
            out.insert(name.clone(), merged);
        }
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

/// Items of the live list keep their places; the applied order holds for the items that are in both.
fn merge_lists(node: &Node, live: &[Value], applied: &[Value]) -> Option<Value> {
    let index =
        |list: &[Value]| -> Vec<Step> { list.iter().map(|item| item_step(node, item)).collect() };
    let (left, right) = (index(live), index(applied));
    let find = |steps: &[Step], list: &[Value], step: &Step| {
        steps
            .iter()
            .position(|other| other == step)
            .map(|at| list[at].clone())
    };
    let mut shared = right.iter().filter(|step| left.contains(step));
    let mut next_shared = shared.next();
    let mut merged: Vec<&Step> = Vec::new();
    let mut out = Vec::new();
    let mut take = |step: &Step, live: Option<&Value>, applied: Option<&Value>| {
        debug_assert!(
            live.is_some() || applied.is_some(),
            "{step} is in neither list"
        );
        out.extend(merge(node.item(), live, applied));
    };
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if l < left.len() && r < right.len() {
            if left[l] == right[r] {
                merged.push(&right[r]);
                take(&left[l], Some(&live[l]), Some(&applied[r]));
                (l, r) = (l + 1, r + 1);
                next_shared = shared.next();
                continue;
            }
            if right.contains(&left[l]) && next_shared.is_some_and(|next| *next != left[l]) {
                l += 1;
                continue;
            }
        }
        if l < left.len() {
            if !right.contains(&left[l]) {
                take(&left[l], Some(&live[l]), None);
                l += 1;
                continue;
            }
            if merged.contains(&&left[l]) {
                l += 1;
            }
        }
        if r < right.len() {
            merged.push(&right[r]);
            take(
                &right[r],
                find(&left, live, &right[r]).as_ref(),
                Some(&applied[r]),
            );
            if next_shared == Some(&right[r]) {
                next_shared = shared.next();
            }
            r += 1;
        }
    }
    (!out.is_empty()).then_some(Value::Array(out))
}

/// The value without the fields of the set; `None` when nothing is left of it.
pub fn remove(node: &Node, value: &Value, set: &FieldSet) -> Option<Value> {
    remove_below(node, value, set, &mut Vec::new())
}

fn remove_below(node: &Node, value: &Value, set: &FieldSet, path: &mut Path) -> Option<Value> {
    match value {
        Value::Object(object) => {
            if node.relation == Relation::Atomic || object.is_empty() {
                return None;
            }
            let mut out = Map::new();
            for (name, child) in object {
                path.push(Step::field(name));
                if set.reaches_below(path) && !set.contains(path) {
                    let left = remove_below(node.field(name), child, set, path);
                    out.insert(name.clone(), left.unwrap_or(Value::Null));
                } else if !set.contains(path) {
                    out.insert(name.clone(), child.clone());
                }
                path.pop();
            }
            (!out.is_empty()).then_some(Value::Object(out))
        }
        Value::Array(array) => {
            if !matches!(node.relation, Relation::Keyed(_) | Relation::Set) {
                return None;
            }
            let mut out = Vec::new();
            for item in array {
                path.push(item_step(node, item));
                if set.reaches_below(path) && !set.contains(path) {
                    out.extend(remove_below(node.item(), item, set, path));
                } else if !set.contains(path) {
                    out.push(item.clone());
                }
                path.pop();
            }
            (!out.is_empty()).then_some(Value::Array(out))
        }
        scalar => Some(scalar.clone()),
    }
}

/// The set with every declared field on the way to a member.
pub fn with_named_fields(node: &Node, set: &FieldSet) -> FieldSet {
    let mut out = set.clone();
    for path in set.iter() {
        let mut node = node;
        for (depth, step) in path.iter().enumerate().take(path.len() - 1) {
            match step {
                Step::Field(name) => {
                    if node.is_struct() {
                        out.insert(path[..=depth].to_vec());
                    }
                    node = node.field(name);
                }
                Step::Key(_) | Step::Item(_) => node = node.item(),
            }
        }
    }
    out
}

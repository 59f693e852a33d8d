//! Decoding: what a server drops of an object, and what it adds.

use serde_json::{Map, Value};

/// The object as the server decodes it: unknown fields dropped, defaults set.
pub(crate) fn decode(schema: &Value, object: &mut Value) {
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    fields.retain(|name, _| is_of_every_kind(name) || properties.contains_key(name));
    for (name, schema) in properties {
        if is_of_every_kind(name) {
            continue;
        }
        if let (false, Some(default)) = (fields.contains_key(name), schema.get("default")) {
            fields.insert(name.clone(), default.clone());
        }
        if let Some(value) = fields.get_mut(name) {
            prune(schema, value);
            default(schema, value);
        }
    }
}

fn prune(schema: &Value, value: &mut Value) {
    let keeps_unknown = schema["x-kubernetes-preserve-unknown-fields"] == true;
    match value {
        Value::Object(object) => {
            let properties = schema["properties"].as_object();
            let additional = schema
                .get("additionalProperties")
                .filter(|schema| schema.is_object());
            let free = keeps_unknown
                || schema
                    .get("additionalProperties")
                    .is_some_and(|schema| *schema != false);
            object.retain(|name, _| {
                free || properties.is_some_and(|properties| properties.contains_key(name))
            });
            for (name, child) in object.iter_mut() {
                if let Some(schema) = properties
                    .and_then(|properties| properties.get(name))
                    .or(additional)
                {
                    prune(schema, child);
                }
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| prune(&schema["items"], item)),
        _ => {}
    }
}

fn default(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(object) => {
            let empty = Map::new();
            let properties = schema["properties"].as_object().unwrap_or(&empty);
            for (name, schema) in properties {
                let nullable = schema["nullable"] == true;
                let absent = match object.get(name) {
                    None => true,
                    Some(value) => value.is_null() && !nullable,
                };
                if let (true, Some(value)) = (absent, schema.get("default")) {
                    object.insert(name.clone(), value.clone());
                }
            }
            let additional = schema
                .get("additionalProperties")
                .filter(|schema| schema.is_object());
            for (name, child) in object.iter_mut() {
                if let Some(schema) = properties.get(name).or(additional) {
                    default(schema, child);
                }
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| default(&schema["items"], item)),
        _ => {}
    }
}

fn is_of_every_kind(field: &str) -> bool {
    matches!(field, "apiVersion" | "kind" | "metadata")
}

/// Paths of fields that are not declared, in their order.
pub(crate) fn undeclared(schema: &Value, object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let fields = object.as_object().into_iter().flatten();
    for (name, value) in fields.filter(|(name, _)| !is_of_every_kind(name)) {
        match schema["properties"].get(name) {
            Some(schema) => look(schema, value, name, &mut found),
            None => found.push(name.clone()),
        }
    }
    found
}

fn look(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let free = schema["x-kubernetes-preserve-unknown-fields"] == true;
    let additional = schema
        .get("additionalProperties")
        .filter(|schema| **schema != false);
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                match schema["properties"].get(name).or(additional) {
                    Some(schema) => look(schema, value, &path, found),
                    None if free => {}
                    None => found.push(path),
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                look(&schema["items"], item, &format!("{path}[{at}]"), found);
            }
        }
        _ => {}
    }
}

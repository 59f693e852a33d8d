//! Why an applied configuration of a custom kind cannot be merged at all; the server answers that with 500.

use crate::kinds::Kind;
use serde_json::Value;
use weir_schema::{repeated, type_of};

/// The first field that the schema lacks, value of another type, or item that is there twice.
pub fn obstacle(kind: &Kind, config: &Value) -> Option<String> {
    let own = |name: &str| !matches!(name, "apiVersion" | "kind" | "metadata");
    let mut fields = config.as_object()?.iter().filter(|(name, _)| own(name));
    fields.find_map(|(name, value)| misfit_field(kind.schema.value(), name, value, ""))
}

fn misfit_field(schema: &Value, name: &str, value: &Value, path: &str) -> Option<String> {
    let path = format!("{path}.{name}");
    let additional = schema
        .get("additionalProperties")
        .filter(|schema| schema.is_object());
    match schema["properties"].get(name).or(additional) {
        Some(schema) => misfit(schema, value, &path),
        None if schema["x-kubernetes-preserve-unknown-fields"] == true => None,
        None => Some(format!("{path}: field not declared in schema")),
    }
}

fn misfit(schema: &Value, value: &Value, path: &str) -> Option<String> {
    let is = type_of(value);
    let wanted = schema["type"].as_str();
    let numeric = |name: &str| matches!(name, "integer" | "number");
    let is_wanted = |wanted: &str| wanted == is || (numeric(wanted) && numeric(is));
    let free = value.is_null() || schema["x-kubernetes-int-or-string"] == true;
    if !free && !wanted.is_none_or(is_wanted) {
        return Some(format!(
            "{path}: expected {}, got {is}",
            wanted.unwrap_or_default()
        ));
    }
    match value {
        Value::Object(object) => object
            .iter()
            .find_map(|(name, child)| misfit_field(schema, name, child, path)),
        Value::Array(items) => {
            let mut each = items.iter().enumerate();
            let misfit = each
                .find_map(|(at, item)| misfit(&schema["items"], item, &format!("{path}[{at}]")));
            misfit.or_else(|| {
                repeated(schema, items)
                    .first()
                    .map(|at| format!("{path}: duplicate entries: item {at}"))
            })
        }
        _ => None,
    }
}

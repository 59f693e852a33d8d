//! Validation by the schema alone: types, bounds, patterns, required fields, repeated items.

use serde_json::{Map, Value};

use crate::Cause;

/// What the schema refuses of an object; its metadata is the server's own affair.
pub(crate) fn causes(schema: &Value, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for name in schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if object.get(name).is_none() {
            causes.push(Cause::new("FieldValueRequired", name, "Required value"));
        }
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        if let (false, Some(value)) = (name == "metadata", object.get(name)) {
            check(schema, value, name, &mut causes);
        }
    }
    causes
}

/// Whether rules are not asked after this error.
pub(crate) fn blocks_rules(cause: &Cause) -> bool {
    BLOCKING.contains(&cause.reason.as_str())
}

/// Errors after which the rules are not asked.
const BLOCKING: [&str; 5] = [
    "FieldValueNotSupported",
    "FieldValueRequired",
    "FieldValueTooLong",
    "FieldValueTooMany",
    "FieldValueTypeInvalid",
];

/// JSON type as schemas name it.
pub fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn check(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let is = type_of(value);
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    let int_or_string =
        schema["x-kubernetes-int-or-string"] == true && matches!(is, "integer" | "string");
    let wanted = schema["type"].as_str();
    let fits = wanted.is_none_or(|wanted| wanted == is || (wanted == "number" && is == "integer"));
    if !fits && !int_or_string {
        let message = format!(
            "Invalid value: {is:?}: {path} in body must be of type {}: {is:?}",
            wanted.unwrap_or_default()
        );
        causes.push(Cause::new("FieldValueTypeInvalid", path, message));
        return;
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        causes.push(Cause::new(
            "FieldValueNotSupported",
            path,
            format!("Unsupported value: {value}"),
        ));
    }
    match value {
        Value::Number(_) => check_number(schema, value, path, causes),
        Value::String(text) => check_text(schema, text, path, causes),
        Value::Array(items) => check_items(schema, items, path, causes),
        Value::Object(object) => check_object(schema, object, path, causes),
        _ => {}
    }
}

fn invalid(path: &str, why: String) -> Cause {
    Cause::new(
        "FieldValueInvalid",
        path,
        format!("Invalid value: {path} in body {why}"),
    )
}

fn check_number(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let number = value.as_f64().unwrap_or_default();
    if let Some(least) = schema["minimum"].as_f64().filter(|least| number < *least) {
        causes.push(invalid(
            path,
            format!("should be greater than or equal to {least}"),
        ));
    }
    if let Some(most) = schema["maximum"].as_f64().filter(|most| number > *most) {
        causes.push(invalid(
            path,
            format!("should be less than or equal to {most}"),
        ));
    }
    if schema["format"] == "int32" && i32::try_from(value.as_i64().unwrap_or_default()).is_err() {
        causes.push(invalid(path, "must be of type int32".to_owned()));
    }
}

fn check_text(schema: &Value, text: &str, path: &str, causes: &mut Vec<Cause>) {
    let length = text.chars().count() as u64;
    if schema["minLength"]
        .as_u64()
        .is_some_and(|least| length < least)
    {
        causes.push(invalid(
            path,
            format!("should be at least {} chars long", schema["minLength"]),
        ));
    }
    if schema["maxLength"]
        .as_u64()
        .is_some_and(|most| length > most)
    {
        let message = format!(
            "Too long: may not be more than {} bytes",
            schema["maxLength"]
        );
        causes.push(Cause::new("FieldValueTooLong", path, message));
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && !regex::Regex::new(pattern).is_ok_and(|regex| regex.is_match(text))
    {
        causes.push(invalid(path, format!("should match '{pattern}'")));
    }
    if schema["format"] == "date-time" && text.parse::<jiff::Timestamp>().is_err() {
        causes.push(invalid(
            path,
            format!("must be of type date-time: {text:?}"),
        ));
    }
}

fn check_items(schema: &Value, items: &[Value], path: &str, causes: &mut Vec<Cause>) {
    let count = items.len() as u64;
    if schema["minItems"]
        .as_u64()
        .is_some_and(|least| count < least)
    {
        causes.push(invalid(
            path,
            format!("should have at least {} items", schema["minItems"]),
        ));
    }
    if schema["maxItems"].as_u64().is_some_and(|most| count > most) {
        let message = format!(
            "Too many: {count}: must have at most {} items",
            schema["maxItems"]
        );
        causes.push(Cause::new("FieldValueTooMany", path, message));
    }
    for (at, item) in items.iter().enumerate() {
        check(&schema["items"], item, &format!("{path}[{at}]"), causes);
    }
    for at in repeated(schema, items) {
        let field = format!("{path}[{at}]");
        causes.push(Cause::new("FieldValueDuplicate", &field, "Duplicate value"));
    }
}

fn check_object(schema: &Value, object: &Map<String, Value>, path: &str, causes: &mut Vec<Cause>) {
    for name in schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if !object.contains_key(name) {
            causes.push(Cause::new(
                "FieldValueRequired",
                &format!("{path}.{name}"),
                "Required value",
            ));
        }
    }
    let count = object.len() as u64;
    if schema["maxProperties"]
        .as_u64()
        .is_some_and(|most| count > most)
    {
        let message = format!(
            "Too many: {count}: must have at most {} items",
            schema["maxProperties"]
        );
        causes.push(Cause::new("FieldValueTooMany", path, message));
    }
    let additional = schema
        .get("additionalProperties")
        .filter(|schema| schema.is_object());
    for (name, child) in object {
        if let Some(schema) = schema["properties"].get(name) {
            check(schema, child, &format!("{path}.{name}"), causes);
        } else if let Some(schema) = additional {
            check(schema, child, &format!("{path}.{name}"), causes);
        }
    }
}

/// Items of a keyed list or set that repeat an earlier one.
pub fn repeated(schema: &Value, items: &[Value]) -> Vec<usize> {
    let keys = schema["x-kubernetes-list-map-keys"].as_array();
    let identity = |item: &Value| -> Vec<Value> {
        match keys {
            Some(keys) => keys
                .iter()
                .filter_map(Value::as_str)
                .map(|key| item[key].clone())
                .collect(),
            None => vec![item.clone()],
        }
    };
    if !matches!(
        schema["x-kubernetes-list-type"].as_str(),
        Some("map" | "set")
    ) {
        return Vec::new();
    }
    let repeats = |at: &usize| {
        items[..*at]
            .iter()
            .any(|other| identity(other) == identity(&items[*at]))
    };
    (1..items.len()).filter(repeats).collect()
}

//! Whether what exists already has everything that is wished for. Pure.

use serde_json::Value;

use weir_crds::resource;

/// Whether every field of `wanted` stands in `actual` with the same value. What the API server or a webhook added does not
/// count, fields and items of lists of objects alike: writing anew would not take them away. What we wished for before and
/// no longer do shows in the digest that is among the annotations. Amounts are compared as amounts, for the API server
/// spells them its own way.
pub fn covers(actual: &Value, wanted: &Value) -> bool {
    field_covers("", actual, wanted)
}

fn field_covers(name: &str, actual: &Value, wanted: &Value) -> bool {
    match (actual, wanted) {
        (Value::Object(actual), Value::Object(wanted)) => wanted.iter().all(|(key, wanted)| {
            let name = if is_amounts(name) { "amount" } else { key };
            match actual.get(key) {
                Some(actual) => field_covers(name, actual, wanted),
                None => is_empty(wanted),
            }
        }),
        (Value::Array(actual), Value::Array(wanted)) if name == "ownerReferences" => wanted
            .iter()
            .all(|wanted| actual.iter().any(|actual| field_covers("", actual, wanted))),
        (Value::Array(actual), Value::Array(wanted)) if wanted.iter().any(Value::is_object) => {
            // In their order: that of environment variables and init containers has a meaning.
            let mut actual = actual.iter();
            let mut is_there =
                |wanted| actual.any(|actual: &Value| field_covers("", actual, wanted));
            wanted.iter().all(&mut is_there)
        }
        (Value::Array(actual), Value::Array(wanted)) => {
            actual.len() == wanted.len()
                && actual
                    .iter()
                    .zip(wanted)
                    .all(|(actual, wanted)| field_covers("", actual, wanted))
        }
        (Value::String(actual), Value::String(wanted))
            if name == "amount" || name == "sizeLimit" =>
        {
            actual == wanted
                || resource::nanos(actual)
                    .is_some_and(|amount| Some(amount) == resource::nanos(wanted))
        }
        (actual, wanted) => actual == wanted,
    }
}

fn is_amounts(name: &str) -> bool {
    matches!(name, "requests" | "limits")
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case(json!({"a": 1, "added": 2}), json!({"a": 1}), true)]
    #[case(json!({"a": 1}), json!({"a": 2}), false)]
    #[case(json!({}), json!({"a": 1}), false)]
    #[case(json!({}), json!({"a": {}}), true)]
    #[case(json!({"l": [{"n": 1, "d": 0}]}), json!({"l": [{"n": 1}]}), true)]
    #[case(json!({"l": [1, 2]}), json!({"l": [1]}), false)]
    #[case(json!({"l": [{"n": 0}, {"n": 1}, {"n": 9}, {"n": 2}]}), json!({"l": [{"n": 1}, {"n": 2}]}), true)]
    #[case(json!({"l": [{"n": 2}, {"n": 1}]}), json!({"l": [{"n": 1}, {"n": 2}]}), false)]
    #[case(json!({"l": [{"n": 1, "v": 3}]}), json!({"l": [{"n": 1, "v": 2}]}), false)]
    #[case(json!({"l": [{"n": 1}]}), json!({"l": [{"n": 1}, {"n": 1}]}), false)]
    #[case(json!({"limits": {"cpu": "1"}}), json!({"limits": {"cpu": "1000m"}}), true)]
    #[case(json!({"limits": {"cpu": "1"}}), json!({"limits": {"cpu": "1001m"}}), false)]
    #[case(json!({"image": "1"}), json!({"image": "1000m"}), false)]
    #[case(json!({"ownerReferences": [{"uid": "b"}, {"uid": "a"}]}), json!({"ownerReferences": [{"uid": "a"}]}), true)]
    fn only_what_is_wished_for_is_compared(
        #[case] actual: Value,
        #[case] wanted: Value,
        #[case] covered: bool,
    ) {
        assert_eq!(covers(&actual, &wanted), covered);
    }
}

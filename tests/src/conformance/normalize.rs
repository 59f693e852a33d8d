//! Takes out of answers what no two servers share: UIDs, resource versions, times, addresses.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Names UIDs and resource versions in the order in which a server gave them out.
#[derive(Default)]
pub struct Normalizer {
    names: BTreeMap<(&'static str, String), usize>,
}

impl Normalizer {
    /// The answer in a form in which two servers' answers are equal if they mean the same.
    pub fn normalize(&mut self, answer: Value) -> Value {
        let mut answer = answer;
        if answer["kind"] == "Status" {
            return self.status(answer);
        }
        if answer["kind"]
            .as_str()
            .is_some_and(|kind| kind.ends_with("List"))
            && answer["items"].is_null()
        {
            answer["metadata"]["resourceVersion"] = json!("list");
            return answer;
        }
        if let Some(items) = answer.get_mut("items").and_then(Value::as_array_mut) {
            items.iter_mut().for_each(|item| self.object(item));
            // Other writes move the revision of the whole server, and tokens are opaque.
            let metadata = &mut answer["metadata"];
            metadata["resourceVersion"] = json!("list");
            if metadata
                .get("continue")
                .unwrap_or(&Value::Null)
                .as_str()
                .is_some_and(|token| !token.is_empty())
            {
                metadata["continue"] = json!("token");
            }
            return answer;
        }
        if let Some(events) = answer.get_mut("events").and_then(Value::as_array_mut) {
            events.retain(|event| event["type"] != "BOOKMARK");
            events
                .iter_mut()
                .for_each(|event| self.object(&mut event["object"]));
            return answer;
        }
        self.object(&mut answer);
        answer
    }

    fn name(&mut self, of: &'static str, value: &str) -> Value {
        let next = self.names.keys().filter(|(kind, _)| *kind == of).count();
        let number = *self.names.entry((of, value.to_owned())).or_insert(next);
        json!(format!("{of}-{number}"))
    }

    fn object(&mut self, object: &mut Value) {
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
            return;
        };
        for (field, of) in [("uid", "uid"), ("resourceVersion", "rv")] {
            if let Some(text) = metadata
                .get(field)
                .and_then(Value::as_str)
                .map(str::to_owned)
            {
                metadata.insert(field.to_owned(), self.name(of, &text));
            }
        }
        for field in ["creationTimestamp", "deletionTimestamp"] {
            if metadata.get(field).is_some_and(Value::is_string) {
                metadata.insert(field.to_owned(), json!("time"));
            }
        }
        for owner in metadata
            .get_mut("ownerReferences")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            let uid = owner["uid"].as_str().unwrap_or_default().to_owned();
            owner["uid"] = self.name("uid", &uid);
        }
        if let Some(entries) = metadata
            .get_mut("managedFields")
            .and_then(Value::as_array_mut)
        {
            for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
                if entry.contains_key("time") {
                    entry.insert("time".to_owned(), json!("time"));
                }
            }
            // They are ordered by seconds, in which two servers differ.
            entries.sort_by_key(|entry| {
                ["operation", "manager", "subresource", "apiVersion"]
                    .map(|field| entry[field].to_string())
            });
        }
        if object["spec"]["clusterIP"].is_string() {
            address(&mut object["spec"]);
        }
    }

    /// Codes, reasons and fields must agree; of messages, those that say no more than these.
    fn status(&mut self, mut status: Value) -> Value {
        if matches!(status["code"].as_u64(), Some(400 | 422 | 500)) {
            status
                .as_object_mut()
                .and_then(|status| status.remove("message"));
        }
        if let Some((before, after)) = status["message"].as_str().and_then(|message| {
            let (before, rest) = message.split_once("StorageError: ")?;
            Some((before, rest.split_once("AdditionalErrorMsg: ")?.1))
        }) {
            status["message"] = json!(format!("{before}{after}").trim_end());
        }
        if let Some(message) = status["message"].as_str() {
            let words = message
                .split(' ')
                .map(|word| self.word(word))
                .collect::<Vec<_>>();
            status["message"] = json!(words.join(" ").trim_end());
        }
        if let Some(uid) = status["details"]["uid"].as_str().map(str::to_owned) {
            status["details"]["uid"] = self.name("uid", &uid);
        }
        for cause in status
            .pointer_mut("/details/causes")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            let conflict = cause["reason"] == "FieldManagerConflict";
            if let (false, Some(cause)) = (conflict, cause.as_object_mut()) {
                cause.remove("message");
            } else if let Some(message) = cause["message"].as_str() {
                cause["message"] = json!(without_time(message));
            }
        }
        let causes = status.pointer_mut("/details/causes");
        if let Some(causes) = causes.and_then(Value::as_array_mut) {
            causes.sort_by_key(ToString::to_string);
            causes.dedup();
        }
        status
    }

    fn word(&mut self, word: &str) -> String {
        let bare = word.trim_matches(['(', ')', ',', '.']);
        let is_uid = bare.len() == 36 && bare.bytes().filter(|byte| *byte == b'-').count() == 4;
        if is_uid {
            return self.name("uid", bare).to_string();
        }
        if bare.len() > 1 && bare.bytes().all(|byte| byte.is_ascii_digit()) && bare.len() < 9 {
            return "number".to_owned();
        }
        without_time(word)
    }
}

/// Conflict messages name the second of the other manager's update.
fn without_time(text: &str) -> String {
    match text.split_once(" at 2") {
        Some((before, _)) => before.to_owned(),
        None => text.to_owned(),
    }
}

fn address(spec: &mut Value) {
    let Some(spec) = spec.as_object_mut() else {
        return;
    };
    let given: Map<_, _> = spec.clone();
    if given
        .get("clusterIP")
        .is_some_and(|address| address != "None")
    {
        spec.insert("clusterIP".to_owned(), json!("address"));
        spec.insert("clusterIPs".to_owned(), json!(["address"]));
    }
}

//! Error answers, as the API server words them.

use crate::kinds::Kind;
use crate::managed::Conflicts;
use serde_json::{Value, json};
use weir_schema::Cause;

/// An answer of kind `Status` that reports a failure.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{reason} ({code}): {message}")]
pub struct ApiError {
    /// HTTP status.
    pub code: u16,
    /// Machine-readable reason, such as `Conflict`.
    pub reason: String,
    /// One line for people.
    pub message: String,
    /// `details` of the answer, or null.
    pub details: Box<Value>,
}

impl ApiError {
    /// An answer without details.
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.to_owned(),
            message: message.into(),
            details: Box::new(Value::Null),
        }
    }

    fn about(kind: &Kind, name: &str, code: u16, reason: &str, message: String) -> Self {
        Self {
            details: with_group(json!({"name": name, "kind": kind.plural}), &kind.group).into(),
            ..Self::new(code, reason, message)
        }
    }

    /// 404.
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        Self::about(
            kind,
            name,
            404,
            "NotFound",
            format!("{} {name:?} not found", kind.qualified()),
        )
    }

    /// 404 for a path that names no kind.
    pub fn no_such_path() -> Self {
        Self {
            details: Box::new(json!({})),
            ..Self::new(
                404,
                "NotFound",
                "the server could not find the requested resource",
            )
        }
    }

    /// 409 for a name that is taken.
    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        Self::about(
            kind,
            name,
            409,
            "AlreadyExists",
            format!("{} {name:?} already exists", kind.qualified()),
        )
    }

    /// 409 for a resourceVersion that is no longer the object's.
    pub fn stale(kind: &Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    /// 409 with a reason in words.
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: {why}",
            kind.qualified()
        );
        Self::about(kind, name, 409, "Conflict", message)
    }

    /// 409 for fields that others own.
    pub fn field_conflicts(conflicts: Conflicts) -> Self {
        Self {
            details: Box::new(json!({"causes": conflicts.causes})),
            ..Self::new(409, "Conflict", conflicts.message)
        }
    }

    /// 410 for a resourceVersion that was compacted away.
    pub fn expired() -> Self {
        let message = "The provided resource version is too old: list again without one";
        Self::new(410, "Expired", message)
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 422 with one cause for each invalid field.
    pub fn invalid(kind: &Kind, name: &str, causes: &[Cause]) -> Self {
        let lines: Vec<_> = causes
            .iter()
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect();
        let list = match lines.as_slice() {
            [one] => one.clone(),
            all => format!("[{}]", all.join(", ")),
        };
        let causes: Vec<_> = causes
            .iter()
            .map(|cause| json!({"reason": cause.reason, "message": cause.message, "field": cause.field}))
            .collect();
        let qualified = match kind.group.as_str() {
            "" => kind.kind.clone(),
            group => format!("{}.{group}", kind.kind),
        };
        let details = json!({"name": name, "kind": kind.kind, "causes": causes});
        Self {
            details: with_group(details, &kind.group).into(),
            ..Self::new(
                422,
                "Invalid",
                format!("{qualified} {name:?} is invalid: {list}"),
            )
        }
    }

    /// The answer's body.
    pub fn body(&self) -> Value {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        if self.reason.is_empty() {
            body.as_object_mut().and_then(|body| body.remove("reason"));
        }
        if !self.details.is_null() {
            body["details"] = (*self.details).clone();
        }
        body
    }
}

fn with_group(mut details: Value, group: &str) -> Value {
    if !group.is_empty() {
        details["group"] = json!(group);
    }
    details
}

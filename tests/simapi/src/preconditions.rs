//! Which object a write means, and which state of it.

use crate::kinds::Kind;
use crate::request::RequestInfo;
use crate::status::ApiError;
use serde_json::Value;

/// Holds the uid and resourceVersion that a body states to the live object's.
pub fn check(
    kind: &Kind,
    request: &RequestInfo,
    live: &Value,
    object: &Value,
) -> Result<(), ApiError> {
    check_uid(kind, request, live, object)?;
    let version = stated(object, "resourceVersion");
    if version.is_some_and(|version| live["metadata"]["resourceVersion"] != version) {
        return Err(ApiError::stale(kind, &request.name));
    }
    Ok(())
}

/// Holds the uid that a body states to the live object's.
pub fn check_uid(
    kind: &Kind,
    request: &RequestInfo,
    live: &Value,
    object: &Value,
) -> Result<(), ApiError> {
    match stated(object, "uid").filter(|uid| live["metadata"]["uid"] != *uid) {
        Some(uid) => Err(missed(kind, request, uid, &live["metadata"]["uid"])),
        None => Ok(()),
    }
}

fn stated<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    let text = object["metadata"][field].as_str();
    text.filter(|text| !text.is_empty())
}

/// 409 for an object that is not the one that was meant.
pub fn missed(kind: &Kind, request: &RequestInfo, wanted: &str, is: &Value) -> ApiError {
    let is = is.as_str().unwrap_or_default();
    let why =
        format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {is}");
    ApiError::conflict(kind, &request.name, &why)
}

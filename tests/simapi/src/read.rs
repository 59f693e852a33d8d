//! Lists, page by page, and their metadata-only form.

use crate::core::{Answer, Core};
use crate::kinds::Kind;
use crate::request::RequestInfo;
use crate::selector::Selector;
use crate::status::ApiError;
use serde_json::{Map, Value, json};
use std::sync::Arc;

impl Core {
    pub(crate) fn list(&mut self, kind: &Kind, request: &RequestInfo) -> Answer {
        let selector = Selector::read(kind, request)?;
        let page = Page::read(request)?;
        let exact = (request.parameter("resourceVersionMatch") == "Exact")
            .then(|| request.parameter("resourceVersion").parse().ok());
        let asked = page.as_ref().map(|page| page.revision).or(exact.flatten());
        let revision = asked.unwrap_or_else(|| self.store.revision());
        let objects = self
            .store
            .at(revision, &kind.qualified(), &request.namespace)
            .ok_or_else(ApiError::expired)?;
        let after = page.map(|page| page.after);
        let is_next =
            |object: &Arc<Value>| after.as_ref().is_none_or(|after| place(object) > *after);
        let mut items: Vec<_> = objects
            .into_iter()
            .filter(|object| selector.matches(object) && is_next(object))
            .collect();
        let limit = request.parameter("limit").parse().unwrap_or(0);
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if kind.is_custom() {
            metadata["continue"] = json!("");
        }
        if limit > 0 && items.len() > limit {
            let selective = !request.parameter("labelSelector").is_empty()
                || !request.parameter("fieldSelector").is_empty();
            if !selective {
                metadata["remainingItemCount"] = json!(items.len() - limit);
            }
            items.truncate(limit);
            let last = items.last().map(|object| place(object)).unwrap_or_default();
            metadata["continue"] = json!(format!("{revision}/{last}"));
        }
        let items: Vec<_> = items.iter().map(|object| as_item(kind, object)).collect();
        let list = json!({"kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(), "metadata": metadata, "items": items});
        Ok((200, list))
    }
}

/// Items of built-in lists do not repeat their kind.
fn as_item(kind: &Kind, object: &Value) -> Value {
    let mut item = object.clone();
    if let (false, Some(fields)) = (kind.is_custom(), item.as_object_mut()) {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    item
}

fn place(object: &Value) -> String {
    let metadata = &object["metadata"];
    let text = |name: &str| metadata[name].as_str().unwrap_or_default();
    // Sorts as keys of the store do: a slash would come after the dash that names may hold.
    format!("{}\u{1}{}", text("namespace"), text("name"))
}

struct Page {
    revision: u64,
    after: String,
}

impl Page {
    fn read(request: &RequestInfo) -> Result<Option<Self>, ApiError> {
        let token = request.parameter("continue");
        if token.is_empty() {
            return Ok(None);
        }
        let parts = token
            .split_once('/')
            .and_then(|(revision, after)| Some((revision.parse().ok()?, after.to_owned())));
        match parts {
            Some((revision, after)) => Ok(Some(Self { revision, after })),
            None => Err(ApiError::bad_request("continue key is not valid")),
        }
    }
}

/// An object or list with nothing but its metadata.
pub fn metadata_only(answer: Value) -> Value {
    let partial = |object: &Value, kind: &str| {
        let mut out = Map::new();
        out.insert("kind".to_owned(), json!(kind));
        out.insert("apiVersion".to_owned(), json!("meta.k8s.io/v1"));
        out.insert("metadata".to_owned(), object["metadata"].clone());
        Value::Object(out)
    };
    if answer["kind"] == "Status" {
        return answer;
    }
    let Some(items) = answer["items"].as_array() else {
        return partial(&answer, "PartialObjectMetadata");
    };
    let mut list = partial(&answer, "PartialObjectMetadataList");
    // The server answers an empty list of metadata so.
    list["items"] = Value::Null;
    if list["metadata"]["continue"] == "" {
        list["metadata"]
            .as_object_mut()
            .and_then(|metadata| metadata.remove("continue"));
    }
    if items.is_empty() {
        return list;
    }
    list["items"] = items
        .iter()
        .map(|item| partial(item, "PartialObjectMetadata"))
        .collect();
    list
}

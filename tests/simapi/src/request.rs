//! What a request asks for, read from its method, path, query and headers.

use http::Method;
use serde_json::Value;
use std::collections::BTreeMap;

/// What is done to what.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestInfo {
    /// Number of the request in the server's life, from 0.
    pub index: usize,
    /// Who asks: the name given to `SimApi::client`.
    pub actor: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `apply`, `delete` or `deletecollection`.
    pub verb: String,
    /// API group, empty for the core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Name of the kind in paths, such as `deployments`.
    pub resource: String,
    /// Namespace, or empty.
    pub namespace: String,
    /// Name, or empty.
    pub name: String,
    /// Such as `status`, or empty.
    pub subresource: String,
    /// Parameters of the query.
    pub query: BTreeMap<String, String>,
    /// `Content-Type`.
    pub content_type: String,
    /// `Accept`.
    pub accept: String,
    /// Body as JSON, or null.
    pub body: Value,
}

impl RequestInfo {
    /// Reads everything but the body.
    pub fn read(method: &Method, uri: &http::Uri, headers: &http::HeaderMap) -> Option<Self> {
        let header = |name| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned()
        };
        let query = uri.query().unwrap_or_default();
        let mut info = Self {
            query: url::form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
            content_type: header(http::header::CONTENT_TYPE),
            accept: header(http::header::ACCEPT),
            ..Self::default()
        };
        let mut parts: Vec<_> = uri
            .path()
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        match parts.first() {
            Some(&"api") => {
                parts.remove(0);
            }
            Some(&"apis") => {
                parts.remove(0);
                info.group = parts.first()?.to_string();
                parts.remove(0);
            }
            _ => return None,
        }
        info.version = parts.first()?.to_string();
        let parts = info.scope(&parts[1..])?;
        info.resource = parts.first()?.to_string();
        info.name = parts.get(1).unwrap_or(&"").to_string();
        info.subresource = parts.get(2).unwrap_or(&"").to_string();
        info.verb = info.verb_of(method)?.to_owned();
        Some(info)
    }

    /// Takes the namespace off the path; namespaces themselves stay.
    fn scope<'a, 'b>(&mut self, parts: &'a [&'b str]) -> Option<&'a [&'b str]> {
        let is_own_subresource = matches!(parts.get(2), Some(&"status" | &"finalize"));
        if parts.first() == Some(&"namespaces") && parts.len() > 2 && !is_own_subresource {
            self.namespace = parts.get(1)?.to_string();
            return Some(&parts[2..]);
        }
        Some(parts)
    }

    fn verb_of(&self, method: &Method) -> Option<&'static str> {
        let watch = self.flag("watch");
        Some(match (method.as_str(), self.name.is_empty()) {
            ("GET", _) if watch => "watch",
            ("GET", true) => "list",
            ("GET", false) => "get",
            ("POST", _) => "create",
            ("PUT", false) => "update",
            ("PATCH", false) if self.content_type.starts_with("application/apply-patch") => "apply",
            ("PATCH", false) => "patch",
            ("DELETE", true) => "deletecollection",
            ("DELETE", false) => "delete",
            _ => return None,
        })
    }

    /// A parameter's value, or empty.
    pub fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    /// Whether a parameter is set to true.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.parameter(name), "true" | "1")
    }

    /// Whether only metadata is wanted.
    pub fn wants_metadata(&self) -> bool {
        self.accept.contains("as=PartialObjectMetadata")
    }

    /// Whether the request changes the store when it succeeds.
    pub fn is_mutating(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch") && !self.is_dry_run()
    }

    /// Whether nothing is to be kept of the request.
    pub fn is_dry_run(&self) -> bool {
        self.parameter("dryRun") == "All"
    }

    /// `verb group/resource namespace/name/subresource`, for messages and stable keys of faults.
    pub fn describe(&self) -> String {
        let Self {
            verb,
            group,
            resource,
            namespace,
            name,
            subresource,
            ..
        } = self;
        format!("{verb} {group}/{resource} {namespace}/{name}/{subresource}")
            .trim_end_matches(['/', ' '])
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: Method, uri: &str) -> String {
        let uri = uri.parse().unwrap();
        RequestInfo::read(&method, &uri, &http::HeaderMap::new())
            .unwrap()
            .describe()
    }

    #[test]
    fn paths_name_verb_kind_and_object() {
        assert_eq!(
            read(Method::GET, "/api/v1/namespaces/a/pods/p"),
            "get /pods a/p"
        );
        assert_eq!(
            read(Method::GET, "/api/v1/namespaces/a"),
            "get /namespaces /a"
        );
        assert_eq!(read(Method::GET, "/api/v1/pods?watch=true"), "watch /pods");
        assert_eq!(
            read(
                Method::PUT,
                "/apis/apps/v1/namespaces/a/deployments/d/status"
            ),
            "update apps/deployments a/d/status"
        );
    }
}

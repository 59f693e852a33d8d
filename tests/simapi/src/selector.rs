//! Label and field selectors.

use crate::kinds::Kind;
use crate::request::RequestInfo;
use crate::status::ApiError;
use serde_json::Value;

#[derive(Clone, Debug)]
enum Test {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

/// Which objects a list or a watch is about.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    labels: Vec<Test>,
    fields: Vec<Test>,
}

impl Selector {
    /// Reads `labelSelector`, `fieldSelector` and the name in the path.
    pub fn read(kind: &Kind, request: &RequestInfo) -> Result<Self, ApiError> {
        let mut fields = parse(request.parameter("fieldSelector"))?;
        for test in &fields {
            check_field(kind, test)?;
        }
        if !request.name.is_empty() {
            fields.push(Test::In(
                "metadata.name".to_owned(),
                vec![request.name.clone()],
            ));
        }
        let labels = parse(request.parameter("labelSelector"))?;
        Ok(Self { labels, fields })
    }

    /// Whether the object is meant.
    pub fn matches(&self, object: &Value) -> bool {
        let label = |name: &str| {
            object["metadata"]["labels"][name]
                .as_str()
                .map(str::to_owned)
        };
        let field = |path: &str| Some(field_of(object, path));
        self.labels.iter().all(|test| test.holds(label))
            && self.fields.iter().all(|test| test.holds(field))
    }
}

impl Test {
    fn holds(&self, value: impl Fn(&str) -> Option<String>) -> bool {
        match self {
            Self::In(name, values) => value(name).is_some_and(|value| values.contains(&value)),
            Self::NotIn(name, values) => value(name).is_none_or(|value| !values.contains(&value)),
            Self::Exists(name) => value(name).is_some(),
            Self::Absent(name) => value(name).is_none(),
        }
    }
}

fn field_of(object: &Value, path: &str) -> String {
    let found = path.split('.').fold(object, |value, name| &value[name]);
    match found {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Custom kinds can be selected by name and namespace only.
fn check_field(kind: &Kind, test: &Test) -> Result<(), ApiError> {
    let (Test::In(path, _) | Test::NotIn(path, _) | Test::Exists(path) | Test::Absent(path)) = test;
    let known: &[&str] = match kind.kind.as_str() {
        "Pod" => &[
            "spec.nodeName",
            "spec.serviceAccountName",
            "status.phase",
            "status.podIP",
        ],
        "Secret" => &["type"],
        "Node" => &["spec.unschedulable"],
        "Namespace" => &["status.phase"],
        "Event" => &[
            "regarding.name",
            "regarding.namespace",
            "involvedObject.name",
            "involvedObject.namespace",
            "reason",
            "type",
        ],
        "CertificateSigningRequest" => &["spec.signerName"],
        _ => &[],
    };
    if path == "metadata.name" || path == "metadata.namespace" || known.contains(&path.as_str()) {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "field label not supported: {path}"
    )))
}

/// Splits at commas that are not in parentheses.
fn terms(text: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut depth = 0;
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                terms.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = terms.last_mut() {
            last.push(c);
        }
    }
    let trimmed = terms.into_iter().map(|term| term.trim().to_owned());
    trimmed.filter(|term| !term.is_empty()).collect()
}

fn parse(text: &str) -> Result<Vec<Test>, ApiError> {
    terms(text).iter().map(|term| parse_term(term)).collect()
}

fn parse_term(term: &str) -> Result<Test, ApiError> {
    let one = |value: &str| vec![value.trim().trim_start_matches('=').to_owned()];
    if let Some((name, value)) = term.split_once("!=") {
        return Ok(Test::NotIn(name.trim().to_owned(), one(value)));
    }
    if let Some((name, value)) = term.split_once('=') {
        return Ok(Test::In(name.trim().to_owned(), one(value)));
    }
    if let Some(name) = term.strip_prefix('!') {
        return Ok(Test::Absent(name.trim().to_owned()));
    }
    let Some((head, values)) = term.strip_suffix(')').and_then(|term| term.split_once('(')) else {
        return Ok(Test::Exists(term.to_owned()));
    };
    let values = values
        .split(',')
        .map(|value| value.trim().to_owned())
        .collect();
    match head.split_whitespace().collect::<Vec<_>>().as_slice() {
        [name, "in"] => Ok(Test::In((*name).to_owned(), values)),
        [name, "notin"] => Ok(Test::NotIn((*name).to_owned(), values)),
        _ => Err(ApiError::bad_request(format!(
            "unable to parse requirement: {term:?}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case("app=a", true)]
    #[case("app!=a", false)]
    #[case("other!=a", true)]
    #[case("app in (a,b),tier", true)]
    #[case("app notin (a)", false)]
    #[case("!app", false)]
    #[case("tier=", true)]
    fn labels_select(#[case] text: &str, #[case] holds: bool) {
        let selector = Selector {
            labels: parse(text).unwrap(),
            fields: Vec::new(),
        };
        assert_eq!(
            selector.matches(&json!({"metadata": {"labels": {"app": "a", "tier": ""}}})),
            holds
        );
    }
}

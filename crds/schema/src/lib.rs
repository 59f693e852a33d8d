//! What an API server makes of a custom object, and what it refuses: structural schema and CEL rules, without the server.
#![forbid(unsafe_code)]

mod check;
mod decode;

use std::fmt;
use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use serde_json::Value;

pub use check::{repeated, type_of};

/// One invalid field.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// Such as `FieldValueInvalid`.
    pub reason: String,
    /// One line for people.
    pub message: String,
    /// Path such as `spec.replicas`.
    pub field: String,
}

impl Cause {
    /// A cause from its parts.
    pub fn new(reason: &str, field: &str, message: impl Into<String>) -> Self {
        Self {
            reason: reason.to_owned(),
            message: message.into(),
            field: field.to_owned(),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" | "<nil>" => f.write_str(&self.message),
            field => write!(f, "{field}: {}", self.message),
        }
    }
}

/// The schema of one kind at one version, its rules compiled.
#[derive(Clone, Default)]
pub struct Schema {
    value: Value,
    rules: Option<Arc<CompiledSchema>>,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema")
    }
}

impl Schema {
    /// From the JSON of an `openAPIV3Schema`.
    pub fn new(value: Value) -> Self {
        let has_rules = value.to_string().contains("\"x-kubernetes-validations\"");
        Self {
            rules: has_rules.then(|| Arc::new(compile_schema(&value))),
            value,
        }
    }

    /// Of one version of a definition; `None` where it has no such version, or no schema there.
    pub fn of(definition: &CustomResourceDefinition, version: &str) -> Option<Self> {
        let mut versions = definition.spec.versions.iter();
        let version = versions.find(|known| known.name == version)?;
        let schema = version.schema.as_ref()?.open_api_v3_schema.as_ref()?;
        serde_json::to_value(schema).ok().map(Self::new)
    }

    /// The JSON that it was made from; null for the default.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The object as a server decodes it: unknown fields dropped, defaults set.
    pub fn decode(&self, object: &mut Value) {
        decode::decode(&self.value, object);
    }

    /// Fields of the object, but for its metadata, that the schema does not have.
    pub fn undeclared(&self, object: &Value) -> Vec<String> {
        decode::undeclared(&self.value, object)
    }

    /// What the schema and its rules refuse; rules are not asked of what has no sound form.
    pub fn refused(&self, object: &Value, old: Option<&Value>) -> Vec<Cause> {
        let mut causes = check::causes(&self.value, object);
        let Some(rules) = &self.rules else {
            return causes;
        };
        if causes.iter().any(check::blocks_rules) {
            let why = "Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            causes.push(Cause::new("FieldValueInvalid", "<nil>", why));
            return causes;
        }
        let Err(errors) = Validator::new().validate_compiled(rules, object, old) else {
            return causes;
        };
        let broken = errors.into_vec().into_iter().map(|error| {
            let field = if error.field_path.is_empty() {
                "<nil>"
            } else {
                &error.field_path
            };
            let reason = error.reason.as_deref().unwrap_or("FieldValueInvalid");
            Cause::new(reason, field, format!("Invalid value: {}", error.message))
        });
        causes.extend(broken);
        causes
    }
}

//! The schema of a status: types and upper bounds, and nothing that could refuse what is there.
//!
//! Whatever a status may hold is decided by what writes it. A pattern that a later version tightens, or that a value
//! from outside does not meet, would refuse the whole status: nothing more of the object would be told.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

use crate::text;

/// Takes patterns, rules of texts, least lengths and defaults out of the status, and bounds every string of it.
pub(crate) fn without_rules(definition: &mut CustomResourceDefinition) {
    let versions = definition.spec.versions.iter_mut();
    let schemas =
        versions.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut());
    for schema in schemas {
        if let Some(status) = schema
            .properties
            .as_mut()
            .and_then(|properties| properties.get_mut("status"))
        {
            relax(status);
        }
    }
}

fn relax(schema: &mut JSONSchemaProps) {
    schema.pattern = None;
    schema.min_length = None;
    schema.default = None;
    let is_text = schema.type_.as_deref() == Some("string");
    if is_text {
        // As a pattern is one; what holds between fields stays.
        schema.x_kubernetes_validations = None;
    }
    if is_text && schema.format.is_none() && schema.enum_.is_none() {
        schema.max_length.get_or_insert(text::MOST as i64);
        // Where a spec says in words what a pattern would say in signs.
        schema.x_kubernetes_validations = None;
    }
    schema
        .properties
        .iter_mut()
        .flatten()
        .for_each(|(_, of)| relax(of));
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => relax(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(relax),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        relax(values);
    }
}

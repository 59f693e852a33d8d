//! Labels of a workload's children.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use weir_crds::names;

/// The labels by which the children of a target are found; they never change.
pub fn selector(uid: &str, target: &str) -> BTreeMap<String, String> {
    [
        (names::LABEL_WORKLOAD_UID, uid.to_owned()),
        (names::LABEL_TARGET, target.to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Every label of the children of a target.
pub fn all(workload: &str, uid: &str, target: &str) -> BTreeMap<String, String> {
    let mut labels = of_workload(workload, uid);
    labels.extend(selector(uid, target));
    let component = names::COMPONENT_ENGINE.to_owned();
    labels.insert(names::LABEL_COMPONENT.to_owned(), component);
    labels
}

/// The labels of what belongs to a workload and to no target of it.
pub fn of_workload(workload: &str, uid: &str) -> BTreeMap<String, String> {
    [
        (names::LABEL_NAME, "weir".to_owned()),
        (
            names::LABEL_MANAGED_BY,
            names::MANAGED_BY_OPERATOR.to_owned(),
        ),
        (names::LABEL_WORKLOAD, names::label_value(workload)),
        (names::LABEL_WORKLOAD_UID, uid.to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// The target that a child belongs to.
pub fn target_of(meta: &ObjectMeta) -> Option<&str> {
    let labels = meta.labels.as_ref()?;
    labels.get(names::LABEL_TARGET).map(String::as_str)
}

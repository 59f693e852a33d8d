//! Labels of a workload's children.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use weir_crds::names;

/// The labels by which the children of a target are found; they never change.
pub fn selector(uid: &str, target: &str) -> BTreeMap<String, String> {
    [
        (names::LABEL_WORKLOAD_UID, uid.to_owned()),
        (names::LABEL_TARGET, names::target_label(target)),
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

/// The annotation with the whole name of a substitute, on its Deployment and Service; other targets need none.
pub fn annotations(target: &str) -> Option<BTreeMap<String, String>> {
    let whole = || (names::LABEL_TARGET.to_owned(), target.to_owned());
    (names::target_label(target) != target).then(|| [whole()].into())
}

/// Whether a child, of whatever kind, belongs to a target.
pub fn is_of(meta: &ObjectMeta, target: &str) -> bool {
    label(meta).is_some_and(|label| *label == names::target_label(target))
}

/// The target that a Deployment or a Service belongs to.
pub fn target_of(meta: &ObjectMeta) -> Option<&str> {
    let annotations = meta.annotations.as_ref();
    let whole = annotations.and_then(|annotations| annotations.get(names::LABEL_TARGET));
    // The label is what selects pods, so it is believed.
    let whole = whole.filter(|whole| is_of(meta, whole));
    whole.or_else(|| label(meta)).map(String::as_str)
}

fn label(meta: &ObjectMeta) -> Option<&String> {
    meta.labels.as_ref()?.get(names::LABEL_TARGET)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_of_a_substitute_are_known_by_their_label_and_name_it_in_full() {
        let meta = |target: &str| ObjectMeta {
            labels: Some(selector("u", target)),
            annotations: annotations(target),
            ..ObjectMeta::default()
        };
        let (here, other) = ("here", "here@org/Small:1");
        for target in [here, other] {
            assert_eq!(target_of(&meta(target)), Some(target));
        }
        assert!(is_of(&meta(here), here) && is_of(&meta(other), other));
        assert!(!is_of(&meta(here), other) && !is_of(&meta(other), here));
        assert_eq!(meta(here).annotations, None);
        let forged = ObjectMeta {
            annotations: annotations(other),
            ..meta(here)
        };
        assert_eq!(target_of(&forged), Some(here));
    }
}

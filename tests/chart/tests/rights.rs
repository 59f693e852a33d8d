//! The chart grants what its components used in a run of the end-to-end scenarios, and no more.

mod rendered;

use std::collections::BTreeSet;

use weir_chart::rights::{Asked, Right, granted, unused};

/// As the scenarios leave it.
const USED: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/rights-used.json");
/// The API server asks the authorizer itself about these, when a request is approved and signed: they are used with the
/// verb that follows.
const WITHIN: [(&str, &str); 2] = [
    ("approve", "certificatesigningrequests/approval"),
    ("sign", "certificatesigningrequests/status"),
];

fn used() -> BTreeSet<Asked> {
    let text = std::fs::read(USED);
    let text = text.expect("a run of the end-to-end scenarios left its rights: make test-e2e");
    let mut used: BTreeSet<Asked> = serde_json::from_slice(&text).expect("its rights");
    let mut within = Vec::new();
    for asked in &used {
        let Asked::Allowed(right) = asked else {
            continue;
        };
        for (verb, _) in WITHIN.iter().filter(|(_, of)| *of == right.resource) {
            within.push(Asked::Allowed(Right {
                resource: "signers".to_owned(),
                verb: (*verb).to_owned(),
                name: Some("inference.weir.dev/component".to_owned()),
                ..right.clone()
            }));
        }
    }
    used.extend(within);
    used
}

#[test]
fn every_right_that_the_chart_grants_is_used() {
    let manifests = rendered::chart(&serde_json::json!({}));
    let granted = granted(&manifests).expect("roles");
    assert!(granted.len() > 50, "{granted:#?}");
    let unused = unused(&granted, &used());
    assert!(unused.is_empty(), "{unused:#?}");
}

#[test]
fn no_component_asks_for_what_it_may_not_do() {
    let used = used();
    let refused = used.iter().filter(|it| matches!(it, Asked::Forbidden(_)));
    let refused: Vec<_> = refused.collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

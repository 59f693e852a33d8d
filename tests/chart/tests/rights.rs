//! The chart grants what its components used in a run of the end-to-end scenarios, and what is listed here with its reason.

mod rendered;

use std::collections::BTreeSet;

use weir_chart::rights::{Asked, Refused, Right, granted, never_granted, unused};

/// As the scenarios leave it.
const USED: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/rights-used.json");

/// The API server asks the authorizer itself about these within another request: when one is approved or signed, and when an
/// apply makes what was not there.
const WITHIN: [(&str, &str, &str); 6] = [
    ("approve", "signers", "certificatesigningrequests/approval"),
    ("sign", "signers", "certificatesigningrequests/status"),
    ("create", "deployments", "deployments"),
    ("create", "services", "services"),
    ("create", "networkpolicies", "networkpolicies"),
    ("create", "inferencedemands", "inferencedemands"),
];

/// What no scenario comes to, and tests on the simulated API server do: by verb and resource.
const ELSEWHERE: [(&str, &str, &str); 10] = [
    ("list", "events", "why a pod hangs on its volumes"),
    (
        "delete",
        "secrets",
        "a key after the overlap of its rotation",
    ),
    (
        "delete",
        "deployments",
        "children of a target that was removed",
    ),
    (
        "delete",
        "services",
        "children of a target that was removed",
    ),
    (
        "delete",
        "networkpolicies",
        "children of a target that was removed",
    ),
    ("create", "inferencedemands", "the record of an hour"),
    ("patch", "inferencedemands", "the record of an hour"),
    ("patch", "inferencedemands/status", "the record of an hour"),
    (
        "delete",
        "inferencedemands",
        "a name that something else has",
    ),
    ("update", "secrets", "the key of engines after a day"),
];

fn asked() -> BTreeSet<Asked> {
    let text = std::fs::read(USED);
    let text = text.expect("a run of the end-to-end scenarios left its rights: make test-e2e");
    let mut asked: BTreeSet<Asked> = serde_json::from_slice(&text).expect("its rights");
    let mut within = Vec::new();
    for right in asked
        .iter()
        .filter_map(allowed)
        .filter(|it| it.verb == "patch")
    {
        for (verb, resource, _) in WITHIN.iter().filter(|(.., of)| *of == right.resource) {
            let signer = *resource == "signers";
            within.push(Asked::Allowed(Right {
                resource: (*resource).to_owned(),
                verb: (*verb).to_owned(),
                name: signer.then(|| "inference.weir.dev/component".to_owned()),
                ..right.clone()
            }));
        }
    }
    asked.extend(within);
    asked
}

fn allowed(asked: &Asked) -> Option<&Right> {
    match asked {
        Asked::Allowed(right) => Some(right),
        Asked::Forbidden(_) => None,
    }
}

fn of_the_chart() -> BTreeSet<Right> {
    let manifests = rendered::chart(&serde_json::json!({}));
    let granted = granted(&manifests).expect("roles");
    assert!(granted.len() > 50, "{granted:#?}");
    granted
}

#[test]
fn every_right_that_the_chart_grants_is_used() {
    let mut unused = unused(&of_the_chart(), &asked());
    unused.retain(|right| {
        let it = (right.verb.as_str(), right.resource.as_str());
        let mut elsewhere = ELSEWHERE.iter();
        !elsewhere.any(|(verb, resource, _)| (*verb, *resource) == it)
    });
    assert_eq!(unused, Vec::<Right>::new());
}

#[test]
fn no_component_asks_for_what_it_may_not_do() {
    let never = never_granted(&of_the_chart(), &asked());
    assert_eq!(never, Vec::<Refused>::new());
}

//! From objects to tables: floors, tombstones, planes, and residency whatever happens.

use proptest::prelude::*;
use rstest::rstest;
use std::collections::{BTreeMap, BTreeSet};
use weir_gateway::policy::{DataDemands, Egress, TrafficPolicy};
use weir_gateway::routing::{
    DecidedFor, Index, Keys, PlacementInput, RouteTable, SliceInput, TargetInput, TargetKey,
    TargetKind, Undecodable, WeightInput, WorkloadInput,
};
#[cfg(feature = "cloud")]
use weir_gateway::routing::{RouteTarget, Target};
use weir_gateway::upstream::Location;

const OURS: Egress = if cfg!(feature = "cloud") {
    Egress::Allowed
} else {
    Egress::Forbidden
};
const THEIRS: Egress = if cfg!(feature = "cloud") {
    Egress::Forbidden
} else {
    Egress::Allowed
};

#[cfg(not(feature = "cloud"))]
fn index() -> Index {
    Index::new()
}

#[cfg(feature = "cloud")]
fn index() -> Index {
    use weir_gateway::external::{ExternalTimeouts, ProviderInput, ProviderTerms, Providers};
    let mut providers = Providers::new(ExternalTimeouts {
        connect: std::time::Duration::from_secs(1),
    });
    let input = ProviderInput {
        name: "p".into(),
        endpoint: "https://api.example.com/v1".into(),
        format: weir_crds::provider::ProviderFormat::OpenAIChat,
        secret: None,
        ca_bundle: None,
        allow_private: false,
        models: ["a", "b/c:free"].map(Into::into).into(),
        uid: "p-1".into(),
        generation: 1,
        terms: ProviderTerms::default(),
    };
    providers.set_providers([("p".into(), Some(input))].into());
    Index::new(providers)
}

fn target(name: &str, kind: TargetKind) -> TargetInput {
    TargetInput {
        name: name.into(),
        kind,
    }
}

fn external(model: &str) -> TargetKind {
    TargetKind::External {
        provider: "p".into(),
        model: model.into(),
    }
}

fn weight(target: &str, weight: u32) -> WeightInput {
    WeightInput {
        target: target.into(),
        weight,
        asleep: false,
        decided_for: None,
    }
}

fn workload(uid: &str, generation: i64, version: u64, egress: Egress) -> WorkloadInput {
    WorkloadInput {
        uid: uid.into(),
        namespace: "ns".into(),
        name: "chat".into(),
        generation,
        resource_version: Some(version),
        created: 0,
        egress,
        data: DataDemands::default(),
        model: format!("model-{generation}-{version}"),
        keys: Keys::only([uid.len() as u8; 32]),
        targets: vec![
            target("local", TargetKind::Local),
            target("cloud", external("a")),
        ],
        placement: Some(PlacementInput {
            decision_id: "d-1".into(),
            step: 1,
            generation,
            weights: vec![weight("local", 100), weight("cloud", 0)],
        }),
        traffic: TrafficPolicy::default(),
    }
}

fn names(table: &RouteTable, uid: &str) -> Option<Vec<String>> {
    Some(
        table
            .by_uid(uid)?
            .targets
            .iter()
            .map(|target| target.name.to_string())
            .collect(),
    )
}

#[test]
fn a_workload_of_the_other_plane_is_not_here() {
    let mut index = index();
    assert!(index.apply(Ok(workload("u", 1, 1, THEIRS))));
    let table = index.build();
    assert!(table.by_uid("u").is_none() && table.by_key(&[1; 32]).is_none());
}

/// Engines of the first target.
pub fn engines(table: &RouteTable, uid: &str) -> Vec<String> {
    let target = &table.by_uid(uid).expect("a route").targets[0].target;
    let engines = target.engines().expect("a local target").all().iter();
    engines
        .map(|engine| engine.authority().to_string())
        .collect()
}

/// A slice with one engine.
pub fn slice(namespace: &str, uid: &str, label: &str, last: u8) -> SliceInput {
    SliceInput {
        key: TargetKey {
            namespace: namespace.into(),
            uid: uid.into(),
            label: label.into(),
        },
        ready: vec![([10, 0, 0, last], 8000).into()],
        ending: Vec::new(),
    }
}

#[test]
fn a_local_target_is_its_engines_and_those_of_no_other_namespace_or_workload() {
    let mut index = index();
    let id = |name: &str| ("ns".into(), name.into());
    index.apply(Ok(workload("u", 1, 1, OURS)));
    let table = index.build();
    assert!(engines(&table, "u").is_empty());
    assert!(table.by_uid("u").expect("a route").reachable.is_empty());
    let endpoints = &mut index.endpoints;
    endpoints.set(id("forged"), Some(slice("other", "u", "local", 1)));
    endpoints.set(id("another"), Some(slice("ns", "v", "local", 2)));
    endpoints.set(id("elsewhere"), Some(slice("ns", "u", "there", 3)));
    assert!(engines(&index.build(), "u").is_empty());
    index
        .endpoints
        .set(id("own"), Some(slice("ns", "u", "local", 4)));
    let table = index.build();
    assert_eq!(engines(&table, "u"), ["10.0.0.4:8000"]);
    let reachable = &table.by_uid("u").expect("a route").reachable;
    assert_eq!(**reachable, ["local".into(), "there".into()]);
}

#[test]
fn an_older_state_of_an_object_never_returns() {
    let mut index = index();
    assert!(index.apply(Ok(workload("u", 2, 10, OURS))));
    assert!(
        !index.apply(Ok(workload("u", 1, 11, OURS))),
        "an older generation"
    );
    assert!(
        !index.apply(Ok(workload("u", 2, 9, OURS))),
        "an older version"
    );
    assert_eq!(
        index.build().by_uid("u").expect("a route").model,
        "model-2-10"
    );
    assert!(index.apply(Ok(workload("u", 2, 12, OURS))));
    assert_eq!(
        index.build().by_uid("u").expect("a route").model,
        "model-2-12"
    );
}

#[test]
fn a_deleted_uid_is_gone_for_good_and_its_key_with_it() {
    let mut index = index();
    index.apply(Ok(workload("u", 1, 1, OURS)));
    assert!(index.build().by_key(&[1; 32]).is_some());
    assert!(index.delete("u"));
    assert!(
        !index.apply(Ok(workload("u", 5, 99, OURS))),
        "a late event brings nothing back"
    );
    assert!(index.build().by_key(&[1; 32]).is_none());
    index.apply(Ok(workload("v2", 1, 1, OURS)));
    assert!(index.retain(&BTreeSet::new()));
    assert!(!index.apply(Ok(workload("v2", 1, 2, OURS))));
}

#[test]
fn an_object_that_does_not_decode_has_no_route_until_it_does() {
    let mut index = index();
    index.apply(Ok(workload("u", 1, 1, OURS)));
    assert!(index.apply(Err(Undecodable {
        uid: "u".into(),
        generation: 2,
        resource_version: Some(2)
    })));
    assert!(index.build().by_uid("u").is_none());
    assert!(index.apply(Ok(workload("u", 3, 3, OURS))));
    assert!(index.build().by_uid("u").is_some());
}

#[test]
fn an_object_whose_egress_changes_has_no_route() {
    let mut index = index();
    index.apply(Ok(workload("u", 1, 1, THEIRS)));
    for version in 2..5 {
        index.apply(Ok(workload("u", version, version as u64, OURS)));
        assert!(index.build().by_uid("u").is_none());
    }
}

#[rstest]
#[case::unknown_name(vec![weight("gone", 100)], vec![])]
#[case::absent(vec![weight("local", 1)], vec!["local"])]
#[case::none(vec![], vec![])]
fn only_targets_with_a_weight_and_a_spec_are_used(
    #[case] weights: Vec<WeightInput>,
    #[case] expected: Vec<&str>,
) {
    let mut index = index();
    let mut input = workload("u", 1, 1, OURS);
    input.placement.as_mut().expect("a placement").weights = weights;
    index.apply(Ok(input));
    assert_eq!(names(&index.build(), "u").expect("a route"), expected);
}

#[test]
fn counters_outlive_tables() {
    let mut index = index();
    index.apply(Ok(workload("u", 1, 1, OURS)));
    let before = index.build();
    index.apply(Ok(workload("u", 2, 2, OURS)));
    let after = index.build();
    let state =
        |table: &RouteTable| std::sync::Arc::clone(&table.by_uid("u").expect("a route").state);
    assert!(std::sync::Arc::ptr_eq(&state(&before), &state(&after)));
}

#[cfg(feature = "cloud")]
#[test]
fn a_name_that_was_given_to_another_model_waits_for_the_next_decision() {
    let mut index = index();
    index.apply(Ok(workload("u", 1, 1, OURS)));
    let mut changed = workload("u", 2, 2, OURS);
    changed.targets[1] = target("cloud", external("b"));
    changed.placement.as_mut().expect("a placement").generation = 1;
    index.apply(Ok(changed.clone()));
    assert_eq!(names(&index.build(), "u").expect("a route"), ["local"]);
    changed.resource_version = Some(3);
    changed.placement.as_mut().expect("a placement").generation = 2;
    index.apply(Ok(changed));
    assert_eq!(
        names(&index.build(), "u").expect("a route"),
        ["local", "cloud"]
    );
}

#[derive(Clone, Debug)]
enum Event {
    Apply(Box<WorkloadInput>),
    Broken(u8),
    Delete(u8),
    Keep(Vec<u8>),
    List(Vec<WorkloadInput>),
}

fn egress() -> impl Strategy<Value = Egress> {
    prop_oneof![Just(Egress::Forbidden), Just(Egress::Allowed)]
}

fn input() -> impl Strategy<Value = WorkloadInput> {
    let kind = prop_oneof![
        Just(TargetKind::Local),
        Just(external("a")),
        Just(external("b"))
    ];
    let targets = prop::collection::vec(("[abc]", kind), 0..4);
    let decided_for = prop::option::of("[ab]");
    let weights = ("[abcd](@[ab])?", 0u32..3, any::<bool>(), decided_for);
    let weights = prop::collection::vec(weights, 0..4);
    (
        0u8..3,
        0i64..4,
        0u64..6,
        egress(),
        targets,
        weights,
        0i64..4,
    )
        .prop_map(
            |(uid, generation, version, egress, targets, weights, decided)| {
                let mut input = workload(&format!("u{uid}"), generation, version, egress);
                input.keys = Keys::only([uid; 32]);
                input.targets = targets
                    .iter()
                    .map(|(name, kind)| target(name, kind.clone()))
                    .collect();
                input.placement = Some(PlacementInput {
                    decision_id: "d".into(),
                    step: 1,
                    generation: decided,
                    weights: weights
                        .iter()
                        .map(|(name, weight, asleep, decided_for)| WeightInput {
                            target: name.as_str().into(),
                            weight: *weight,
                            asleep: *asleep,
                            decided_for: decided_for.as_deref().map(|model| DecidedFor {
                                provider: "p".into(),
                                model: model.into(),
                            }),
                        })
                        .collect(),
                });
                input
            },
        )
}

fn any_event() -> impl Strategy<Value = Event> {
    let apply = input().prop_map(|input| Event::Apply(Box::new(input)));
    prop_oneof![
        6 => apply,
        1 => (0u8..3).prop_map(Event::Broken),
        1 => (0u8..3).prop_map(Event::Delete),
        1 => prop::collection::vec(0u8..3, 0..3).prop_map(Event::Keep),
        2 => prop::collection::vec(input(), 0..3).prop_map(Event::List),
    ]
}

/// Whether a target at a provider is the one that its weight was decided for.
#[cfg(feature = "cloud")]
fn was_decided_for(input: &WorkloadInput, target: &RouteTarget) -> bool {
    let Target::External(permit) = &target.target else {
        return true;
    };
    let placement = input.placement.as_ref().expect("a placement");
    let mut weights = placement.weights.iter();
    weights.any(|weight| match &weight.decided_for {
        _ if weight.target != target.name => false,
        Some(of) => *of.provider == *permit.provider().name && *of.model == *permit.model(),
        None => placement.generation == input.generation,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn a_workload_that_was_ever_forbidden_never_has_an_external_target(
        events in prop::collection::vec(any_event(), 1..30),
    ) {
        let mut index = index();
        let mut forbidden = BTreeSet::new();
        let mut deleted = BTreeSet::new();
        let mut inputs: BTreeMap<_, WorkloadInput> = BTreeMap::new();
        for event in events {
            match event {
                Event::Apply(input) => {
                    if index.apply(Ok(*input.clone())) {
                        if input.egress == Egress::Forbidden {
                            forbidden.insert(input.uid.clone());
                        }
                        inputs.insert(input.uid.clone(), *input);
                    }
                }
                Event::Broken(uid) => {
                    index.apply(Err(Undecodable { uid: format!("u{uid}").into(), generation: 9, resource_version: None }));
                }
                Event::Delete(uid) => {
                    index.delete(&format!("u{uid}"));
                    deleted.insert(format!("u{uid}"));
                }
                Event::Keep(kept) => {
                    let kept: BTreeSet<_> = kept.iter().map(|uid| format!("u{uid}").into()).collect();
                    index.retain(&kept);
                }
                Event::List(listed) => {
                    // A list names each UID once.
                    let listed: BTreeMap<_, _> = listed.into_iter().map(|input| (input.uid.clone(), input)).collect();
                    let there = listed.values().filter(|input| !deleted.contains(&*input.uid));
                    forbidden.extend(there.filter(|input| input.egress == Egress::Forbidden).map(|input| input.uid.clone()));
                    let table = index.build();
                    let gone = table.workloads().filter(|route| !listed.contains_key(&route.uid));
                    deleted.extend(gone.map(|route| route.uid.to_string()));
                    inputs.extend(listed.clone());
                    index.list(listed.into_values().map(Ok).collect());
                }
            }
            let table = index.build();
            for route in table.workloads() {
                let external = route.targets.iter().any(|target| target.target.location() == Location::External);
                prop_assert!(!external || !forbidden.contains(&route.uid), "{} leaks", route.uid);
                prop_assert!(cfg!(feature = "cloud") || !external);
                #[cfg(feature = "cloud")]
                prop_assert!(route.targets.iter().all(|target| was_decided_for(&inputs[&route.uid], target)));
                prop_assert!(!deleted.contains(&*route.uid));
            }
        }
    }
}

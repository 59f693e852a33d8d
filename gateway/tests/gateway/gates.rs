//! What gateways check themselves before a target at a provider has a route, whatever the operator does.

use crate::failover::input;
use rstest::rstest;
use std::collections::BTreeMap;
use std::sync::Arc;
use weir_gateway::external::{ApiKey, ExternalTimeouts, ProviderInput, ProviderTerms, Providers};
use weir_gateway::policy::{DataDemands, Egress, TrafficPolicy};
use weir_gateway::routing::{
    Closed, DecidedFor, Index, PlacementInput, Restored, RouteTable, Target, TargetInput,
    TargetKind, Undecodable, WeightInput, WorkloadInput,
};
use weir_gateway::upstream::Location;
use weir_terms::Breach;

const UID: &str = "u";

/// Provider, model.
type Model = (&'static str, &'static str);

const ACME: Model = ("acme", "gpt-mini");
const CLOSED: Model = ("closed", "gpt-mini");

fn provider(uid: &str, generation: i64, terms: ProviderTerms) -> ProviderInput {
    ProviderInput {
        uid: uid.into(),
        generation,
        terms,
        ..input("https://api.example.com/v1", None, false)
    }
}

fn providers(index: &mut Index, all: &[(&str, ProviderInput)]) {
    let all = all
        .iter()
        .map(|(name, of)| ((*name).into(), Some(of.clone())));
    index.providers.set_providers(all.collect());
}

/// Two providers with the same models and the same key.
fn index() -> Index {
    let mut known = Providers::new(ExternalTimeouts {
        connect: std::time::Duration::from_secs(1),
    });
    let key = [("api-key".to_owned(), ApiKey::new(b"sk-provider"))].into();
    known.set_secrets([("keys".to_owned(), key)].into());
    let mut index = Index::new(known);
    let open = || provider("p", 1, ProviderTerms::default());
    providers(&mut index, &[(ACME.0, open()), (CLOSED.0, open())]);
    index
}

fn workload(generation: i64, cloud: Model) -> WorkloadInput {
    let (provider, model) = cloud;
    WorkloadInput {
        uid: UID.into(),
        namespace: "team".into(),
        name: "chat".into(),
        generation,
        resource_version: Some(100),
        created: 0,
        egress: Egress::Allowed,
        data: DataDemands::default(),
        model: "m".into(),
        keys: weir_gateway::routing::Keys::default(),
        targets: vec![
            TargetInput {
                name: "local".into(),
                kind: TargetKind::Local,
            },
            TargetInput {
                name: "cloud".into(),
                kind: TargetKind::External {
                    provider: provider.into(),
                    model: model.into(),
                },
            },
        ],
        placement: None,
        traffic: TrafficPolicy::default(),
    }
}

/// Placed when the spec was of this generation and named this model.
fn placed(
    mut workload: WorkloadInput,
    generation: i64,
    decided_for: Option<Model>,
) -> WorkloadInput {
    let weight = |target: &str, decided_for| WeightInput {
        target: target.into(),
        weight: 50,
        asleep: false,
        decided_for,
    };
    let decided_for = decided_for.map(|(provider, model)| DecidedFor {
        provider: provider.into(),
        model: model.into(),
    });
    workload.placement = Some(PlacementInput {
        decision_id: "d-1".into(),
        step: generation,
        generation,
        weights: vec![weight("local", None), weight("cloud", decided_for)],
    });
    workload
}

/// The providers that requests can reach, and why a target has no route.
fn routes(table: &RouteTable) -> (Vec<String>, Option<Closed>) {
    let route = table.by_uid(UID).expect("a route");
    let external = route
        .targets
        .iter()
        .filter_map(|target| match &target.target {
            Target::External(permit) => Some(permit.provider().name.to_string()),
            Target::Local(_) => None,
        });
    (external.collect(), route.closed)
}

fn reached(index: &mut Index) -> Vec<String> {
    routes(&index.build()).0
}

#[test]
fn a_gateway_that_starts_while_the_placement_is_older_than_the_spec_opens_nothing_new() {
    let mut index = index();
    index.apply(Ok(placed(workload(2, CLOSED), 1, Some(ACME))));
    let table = index.build();
    assert_eq!(routes(&table), (vec![], Some(Closed::Undecided)));
    let local = &table.by_uid(UID).expect("a route").targets;
    assert_eq!(local.len(), 1, "what it was decided for stays");
    assert_eq!(local[0].target.location(), Location::Local);
}

#[rstest]
#[case::the_same_target_of_an_edited_spec(2, 1, ACME, Some(ACME), true)]
#[case::another_model_there(2, 1, ("acme", "other"), Some(ACME), false)]
#[case::forged_to_look_decided(2, 2, CLOSED, Some(ACME), false)]
#[case::from_an_earlier_release(1, 1, ACME, None, true)]
#[case::from_an_earlier_release_before_the_edit(2, 1, ACME, None, false)]
fn only_what_was_decided_for_has_a_route(
    #[case] generation: i64,
    #[case] decided: i64,
    #[case] named: Model,
    #[case] decided_for: Option<Model>,
    #[case] open: bool,
) {
    let mut index = index();
    index.apply(Ok(placed(
        workload(generation, named),
        decided,
        decided_for,
    )));
    assert_eq!(!reached(&mut index).is_empty(), open);
}

#[test]
fn a_target_that_became_local_waits_for_its_decision() {
    let mut index = index();
    let mut edited = placed(workload(2, ACME), 1, Some(ACME));
    edited.targets[1].kind = TargetKind::Local;
    index.apply(Ok(edited));
    let table = index.build();
    assert_eq!(table.by_uid(UID).expect("a route").targets.len(), 1);
}

fn in_the_eu(keeps_nothing: bool) -> ProviderTerms {
    ProviderTerms {
        jurisdiction: Some("EU".into()),
        zero_retention: keeps_nothing,
        allowed_namespaces: vec!["team".into()],
    }
}

fn strict() -> DataDemands {
    DataDemands {
        allowed_jurisdictions: ["EU".to_owned()].into(),
        require_zero_retention: true,
    }
}

#[rstest]
#[case::moved_away(ProviderTerms { jurisdiction: Some("US".into()), ..in_the_eu(true) }, Breach::JurisdictionNotAllowed)]
#[case::says_nothing(ProviderTerms { jurisdiction: None, ..in_the_eu(true) }, Breach::JurisdictionUnknown)]
#[case::keeps_data(in_the_eu(false), Breach::RetentionNotZero)]
#[case::shut(ProviderTerms { allowed_namespaces: vec!["nobody".into()], ..in_the_eu(true) }, Breach::NamespaceNotAllowed)]
fn terms_that_a_provider_tightens_close_its_routes_without_a_decision(
    #[case] tightened: ProviderTerms,
    #[case] breach: Breach,
) {
    let mut index = index();
    providers(&mut index, &[(ACME.0, provider("p", 1, in_the_eu(true)))]);
    let mut demanding = placed(workload(1, ACME), 1, Some(ACME));
    demanding.data = strict();
    index.apply(Ok(demanding));
    assert_eq!(reached(&mut index), ["acme"]);
    providers(&mut index, &[(ACME.0, provider("p", 2, tightened))]);
    assert_eq!(
        routes(&index.build()),
        (vec![], Some(Closed::Terms(breach)))
    );
}

#[test]
fn what_a_workload_demands_anew_holds_before_it_is_decided_about() {
    let mut index = index();
    index.apply(Ok(placed(workload(1, ACME), 1, Some(ACME))));
    assert_eq!(reached(&mut index), ["acme"]);
    let mut demanding = placed(workload(2, ACME), 1, Some(ACME));
    demanding.data.require_zero_retention = true;
    index.apply(Ok(demanding));
    assert!(reached(&mut index).is_empty());
}

#[test]
fn a_provider_that_opens_gets_no_workload_that_was_not_decided_for_it() {
    let mut index = index();
    let nobody = ProviderTerms {
        allowed_namespaces: vec!["nobody".into()],
        ..ProviderTerms::default()
    };
    providers(&mut index, &[(CLOSED.0, provider("q", 1, nobody))]);
    let mut only_local = placed(workload(1, CLOSED), 1, None);
    let placement = only_local.placement.as_mut().expect("a placement");
    placement.weights.truncate(1);
    index.apply(Ok(only_local));
    let open = provider("q", 2, ProviderTerms::default());
    providers(&mut index, &[(CLOSED.0, open)]);
    assert!(reached(&mut index).is_empty());
}

#[test]
fn a_list_of_an_earlier_state_is_followed_and_what_was_closed_stays_closed() {
    let mut index = index();
    let older = || placed(workload(3, ACME), 3, Some(ACME));
    let version = |mut input: WorkloadInput, version| {
        input.resource_version = Some(version);
        input
    };
    let mut newest = version(placed(workload(5, ACME), 5, Some(ACME)), 500);
    newest.data.require_zero_retention = true;
    index.apply(Ok(newest));
    assert!(
        !index.apply(Ok(version(older(), 300))),
        "an event is ignored"
    );

    let restored = index.list(vec![Ok(version(older(), 300))]);
    assert_eq!(
        restored,
        Restored {
            older: 1,
            deleted: 0
        }
    );
    let table = index.build();
    assert_eq!(
        table.by_uid(UID).expect("a route").step,
        3,
        "it is followed"
    );
    let keeps = Closed::Terms(Breach::RetentionNotZero);
    assert_eq!(routes(&table), (vec![], Some(keeps)));

    // What comes after it is news, and the newest generation is the measure until it is reached again.
    assert!(index.apply(Ok(version(placed(workload(4, ACME), 4, Some(ACME)), 301))));
    assert!(reached(&mut index).is_empty());
    assert!(index.apply(Ok(version(placed(workload(5, ACME), 5, Some(ACME)), 302))));
    assert_eq!(reached(&mut index), ["acme"]);
}

#[rstest]
#[case::of_another_provider(Ok(workload(5, CLOSED)))]
#[case::that_could_not_be_read(Err(Undecodable { uid: UID.into(), generation: 5, resource_version: Some(500) }))]
fn a_target_that_a_lost_generation_did_not_have_is_not_opened_by_an_older_one(
    #[case] newest: Result<WorkloadInput, Undecodable>,
) {
    let mut index = index();
    index.apply(newest.map(|newest| placed(newest, 5, Some(CLOSED))));
    index.list(vec![Ok(placed(workload(3, ACME), 3, Some(ACME)))]);
    assert_eq!(routes(&index.build()), (vec![], Some(Closed::ByNewerSpec)));
}

#[test]
fn a_list_with_older_versions_of_the_same_generation_is_the_present_state() {
    let mut index = index();
    index.apply(Ok(placed(workload(1, ACME), 1, Some(ACME))));
    let mut older = placed(workload(1, ACME), 1, Some(ACME));
    older.resource_version = Some(7);
    older.placement.as_mut().expect("a placement").step = 0;
    assert_eq!(index.list(vec![Ok(older)]), Restored::default());
    let table = index.build();
    assert_eq!(table.by_uid(UID).expect("a route").step, 0);
    assert_eq!(routes(&table).0, ["acme"]);
}

#[test]
fn a_deleted_workload_that_a_list_brings_back_has_no_route() {
    let mut index = index();
    index.apply(Ok(placed(workload(1, ACME), 1, Some(ACME))));
    index.delete(UID);
    let restored = index.list(vec![Ok(placed(workload(1, ACME), 1, Some(ACME)))]);
    assert_eq!(
        restored,
        Restored {
            older: 0,
            deleted: 1
        }
    );
    assert!(index.build().by_uid(UID).is_none());
}

#[test]
fn an_older_generation_of_a_provider_does_not_loosen_its_terms() {
    let mut index = index();
    index.apply(Ok(placed(workload(1, ACME), 1, Some(ACME))));
    let nobody = ProviderTerms {
        allowed_namespaces: vec!["nobody".into()],
        ..ProviderTerms::default()
    };
    let at = |generation, terms: &ProviderTerms| provider("p", generation, terms.clone());
    let open = ProviderTerms::default();
    for (generation, terms, reaches) in [
        (1, &open, true),
        (4, &nobody, false),
        (2, &open, false),
        (3, &open, false),
        (4, &open, true),
    ] {
        providers(&mut index, &[(ACME.0, at(generation, terms))]);
        assert_eq!(!reached(&mut index).is_empty(), reaches, "{generation}");
    }
    providers(&mut index, &[(ACME.0, at(5, &nobody))]);
    providers(&mut index, &[(ACME.0, provider("another", 1, open))]);
    assert_eq!(reached(&mut index), ["acme"], "it is another object");
}

#[test]
fn while_the_api_server_is_unheard_only_local_targets_have_a_route() {
    let mut index = index();
    index.apply(Ok(placed(workload(1, ACME), 1, Some(ACME))));
    index.external_closed = true;
    let table = index.build();
    assert_eq!(routes(&table), (vec![], Some(Closed::NoContact)));
    assert_eq!(table.by_uid(UID).expect("a route").targets.len(), 1);
    index.external_closed = false;
    assert_eq!(reached(&mut index), ["acme"]);
}

#[test]
fn a_provider_that_does_not_decode_keeps_its_floor() {
    let mut index = index();
    index.apply(Ok(placed(workload(1, ACME), 1, Some(ACME))));
    let nobody = ProviderTerms {
        allowed_namespaces: vec!["nobody".into()],
        ..ProviderTerms::default()
    };
    providers(&mut index, &[(ACME.0, provider("p", 4, nobody))]);
    let broken: BTreeMap<Arc<str>, Option<ProviderInput>> = [(ACME.0.into(), None)].into();
    index.providers.set_providers(broken);
    assert!(reached(&mut index).is_empty());
    let open = provider("p", 2, ProviderTerms::default());
    providers(&mut index, &[(ACME.0, open)]);
    assert!(reached(&mut index).is_empty());
}

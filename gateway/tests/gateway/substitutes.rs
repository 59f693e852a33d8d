//! Models that stand in at a target of the spec, from the object to what a provider sees.

use crate::index::{engines, slice};
use crate::support::{KEY, UID, empty_index};
use rstest::rstest;
use weir_gateway::policy::{DataDemands, Egress, TrafficPolicy};
use weir_gateway::routing::{
    DecidedFor, Index, Keys, PlacementInput, RouteTable, TargetInput, TargetKind, WeightInput,
    WorkloadInput,
};

fn workload(egress: Egress, targets: Vec<TargetInput>, weights: &[(&str, u32)]) -> WorkloadInput {
    use sha2::{Digest, Sha256};
    let weight = |(target, weight): &(&str, u32)| WeightInput {
        target: (*target).into(),
        weight: *weight,
        asleep: false,
        decided_for: decided_for(&targets, target),
    };
    WorkloadInput {
        uid: UID.into(),
        namespace: "ns".into(),
        name: "chat".into(),
        generation: 1,
        resource_version: Some(1),
        created: 0,
        egress,
        data: DataDemands::default(),
        model: "m".into(),
        keys: Keys::only(Sha256::digest(KEY).into()),
        placement: Some(PlacementInput {
            decision_id: "d-1".into(),
            step: 1,
            generation: 1,
            weights: weights.iter().map(weight).collect(),
        }),
        targets,
        traffic: TrafficPolicy::default(),
    }
}

/// As the operator writes it: the provider of the target, and its model or the one that stands in.
fn decided_for(targets: &[TargetInput], name: &str) -> Option<DecidedFor> {
    let (declared, substitute) = weir_crds::names::substitute_of(name)
        .map_or((name, None), |(declared, model)| (declared, Some(model)));
    let declared = targets.iter().find(|target| *target.name == *declared)?;
    let TargetKind::External { provider, model } = &declared.kind else {
        return None;
    };
    Some(DecidedFor {
        provider: provider.clone(),
        model: substitute.map_or_else(|| model.clone(), |model| model.as_str().into()),
    })
}

fn local(name: &str) -> TargetInput {
    TargetInput {
        name: name.into(),
        kind: TargetKind::Local,
    }
}

fn routes(table: &RouteTable) -> Vec<String> {
    let route = table.by_uid(UID).expect("a route");
    let names = route.targets.iter().map(|target| target.name.to_string());
    names.collect()
}

fn index() -> (Egress, Index) {
    let egress = if cfg!(feature = "cloud") {
        Egress::Allowed
    } else {
        Egress::Forbidden
    };
    (egress, empty_index())
}

#[test]
fn another_model_in_the_cluster_has_engines_of_its_own() {
    let (egress, mut index) = index();
    let name = "here@org/Small:1";
    let targets = vec![local("here")];
    index.apply(Ok(workload(egress, targets, &[(name, 100), ("here", 0)])));
    for (last, target) in [(1, name), (2, "here")] {
        let label = weir_crds::names::target_label(target);
        let of_target = slice("ns", UID, &label, last);
        let id = ("ns".into(), target.into());
        index.endpoints.set(id, Some(of_target));
    }
    let table = index.build();
    assert_eq!(routes(&table), [name, "here"]);
    assert_eq!(engines(&table, UID), ["10.0.0.1:8000"]);
}

#[rstest]
#[case::of_no_target("there@small")]
#[case::garbled("here@%4")]
#[case::of_no_model("here@")]
fn a_name_that_derives_from_nothing_has_no_route(#[case] name: &str) {
    let (egress, mut index) = index();
    let targets = vec![local("here")];
    index.apply(Ok(workload(egress, targets, &[("here", 0), (name, 100)])));
    assert_eq!(routes(&index.build()), ["here"]);
}

#[cfg(not(feature = "cloud"))]
#[test]
fn in_the_local_plane_no_name_makes_a_target_external() {
    let (egress, mut index) = index();
    let cloud = TargetInput {
        name: "cloud".into(),
        kind: TargetKind::External {
            provider: "p".into(),
            model: "a".into(),
        },
    };
    index.apply(Ok(workload(egress, vec![cloud], &[("cloud@b", 100)])));
    assert!(routes(&index.build()).is_empty());
}

#[cfg(feature = "cloud")]
mod in_the_cloud {
    use super::*;
    use crate::failover::input;
    use crate::support::{CHAT, Server, Upstream, ok, quick};
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use weir_gateway::external::{ApiKey, ExternalTimeouts, ProviderInput, Providers};

    const NANO: &str = "cloud@org/gpt-nano:free";

    fn external(provider: &str, model: &str) -> TargetInput {
        TargetInput {
            name: "cloud".into(),
            kind: TargetKind::External {
                provider: provider.into(),
                model: model.into(),
            },
        }
    }

    fn with_provider(declared: ProviderInput) -> Index {
        let mut providers = Providers::new(ExternalTimeouts {
            connect: std::time::Duration::from_secs(1),
        });
        let key = [("api-key".to_owned(), ApiKey::new(b"sk-provider"))].into();
        providers.set_secrets([("keys".to_owned(), key)].into());
        providers.set_providers([("p".into(), Some(declared))].into());
        Index::new(providers)
    }

    fn on_nano(targets: Vec<TargetInput>) -> WorkloadInput {
        workload(Egress::Allowed, targets, &[("cloud", 0), (NANO, 100)])
    }

    #[tokio::test]
    async fn a_request_goes_out_with_the_model_that_stands_in() {
        let provider = Upstream::start_tls(|_| ok()).await;
        let endpoint = format!("https://localhost:{}/v1", provider.port);
        let mut index = with_provider(input(&endpoint, provider.ca_pem.clone(), true));
        index.apply(Ok(on_nano(vec![external("p", "gpt-mini")])));
        let server = Server::start_unsynced(quick()).await;
        let table = index.build();
        let state = Arc::clone(&table.by_uid(UID).expect("a route").state);
        server.shared.publish(table);
        let answer = server.post(CHAT).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.way(), (NANO, "External", "placement"));
        let sent = CHAT.replace(r#""model":"m""#, r#""model":"org/gpt-nano:free""#);
        assert_eq!(provider.seen()[0].body, sent);
        let metering = state.metering();
        let metered: Vec<_> = metering.by_step.iter().collect();
        assert_eq!((&*metered[0].0.0, metered[0].1.requests()), (NANO, 1));
    }

    #[test]
    fn a_model_that_its_provider_does_not_list_leaves_its_share_to_the_target_of_the_spec() {
        let declared = || input("https://api.example.com/v1", None, false);
        let mut index = with_provider(declared());
        index.apply(Ok(on_nano(vec![external("p", "gpt-mini")])));
        assert_eq!(routes(&index.build()), ["cloud", NANO]);
        let withdrawn = ProviderInput {
            models: BTreeSet::from(["gpt-mini".into()]),
            ..declared()
        };
        index
            .providers
            .set_providers([("p".into(), Some(withdrawn))].into());
        let table = index.build();
        assert_eq!(routes(&table), ["cloud"]);
        let target = &table.by_uid(UID).expect("a route").targets[0];
        assert_eq!(target.weight, 100, "no request waits for the next decision");
    }

    #[test]
    fn what_a_withdrawn_model_had_goes_nowhere_that_the_gates_reject() {
        let mut index = with_provider(input("https://api.example.com/v1", None, false));
        let targets = || vec![external("p", "gpt-mini"), local("here")];
        for weights in [
            [("cloud@gone", 100), ("here", 0)],
            [("here", 0), ("cloud@gone", 100)],
        ] {
            index.apply(Ok(workload(Egress::Allowed, targets(), &weights)));
            let table = index.build();
            assert_eq!(routes(&table), ["here"]);
            assert_eq!(table.by_uid(UID).expect("a route").targets[0].weight, 0);
        }
    }

    #[test]
    fn a_target_that_was_given_to_another_provider_takes_its_substitutes_with_it() {
        let mut index = with_provider(input("https://api.example.com/v1", None, false));
        let declared = input("https://api.example.com/v1", None, false);
        let both = [
            ("p".into(), Some(declared.clone())),
            ("q".into(), Some(declared)),
        ];
        index.providers.set_providers(both.into());
        index.apply(Ok(on_nano(vec![external("p", "gpt-mini")])));
        let decided = on_nano(vec![external("p", "gpt-mini")]).placement;
        let mut changed = on_nano(vec![external("p", "other")]);
        changed.placement = decided;
        changed.generation = 2;
        index.apply(Ok(changed.clone()));
        assert_eq!(
            routes(&index.build()),
            [NANO],
            "what passed the gates is the same"
        );
        changed.targets = vec![external("q", "gpt-mini")];
        changed.generation = 3;
        index.apply(Ok(changed));
        assert!(routes(&index.build()).is_empty());
    }

    #[test]
    fn a_forbidden_workload_has_no_route_in_this_plane() {
        let mut index = with_provider(input("https://api.example.com/v1", None, false));
        let mut forbidden = on_nano(vec![external("p", "gpt-mini")]);
        forbidden.egress = Egress::Forbidden;
        index.apply(Ok(forbidden));
        assert!(index.build().by_uid(UID).is_none());
    }
}

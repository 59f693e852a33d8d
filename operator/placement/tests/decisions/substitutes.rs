//! Models that no target names: when they are candidates, what going there costs, and when they are left.

mod left;

use proptest::prelude::*;
use weir_placement::*;

use crate::builders::*;
use crate::generators::*;

const NANO: &str = "cloud-mini@nano";

fn named(name: &str, group: Option<&str>) -> ModelFacts {
    ModelFacts {
        name: Some(name.to_owned()),
        equivalence_group: group.map(str::to_owned),
        ..model()
    }
}

/// Another model of the cloud target's provider.
fn offered(name: &str, group: Option<&str>, (input, output): (&str, &str)) -> Substitute {
    Substitute {
        of: CLOUD.to_owned(),
        target: Target {
            name: format!("{CLOUD}@{name}"),
            kind: TargetKind::External(ExternalTarget {
                model: named(name, group),
                price: Some(price(input, output)),
                ..external()
            }),
        },
    }
}

/// $486 a month.
fn nano(group: Option<&str>) -> Substitute {
    offered("nano", group, ("0.10", "0.40"))
}

/// On the cloud for $729 a month, with a model of group `chat`.
fn on_cloud_with(substitutes: Vec<Substitute>) -> FleetSnapshot {
    let mini = ExternalTarget {
        model: named("mini", Some("chat")),
        ..external()
    };
    let mut snapshot = fleet(WorkloadInput {
        targets: vec![on_cloud(mini)],
        substitutes,
        ..hybrid(3_000_000)
    });
    only(&mut snapshot).current = Some(placed(CLOUD, at(0)));
    only(&mut snapshot).capability.substitution = Substitution::EquivalentOnly;
    snapshot
}

fn fee(dollars: &str) -> PlacementPolicy {
    PlacementPolicy {
        switching: SwitchingRule {
            requalification: MicroUsd::parse_decimal(dollars).expect("dollars"),
            ..free_switching()
        },
        ..prompt_policy()
    }
}

fn names(decision: &Decision) -> Vec<&str> {
    let candidates = decision.candidates.iter();
    candidates.map(|each| each.name.as_str()).collect()
}

fn route(decision: &Decision) -> Vec<(&str, u64)> {
    let weights = decision.weights.iter();
    weights
        .map(|each| (each.target.as_str(), each.weight.get()))
        .collect()
}

/// Whether a substitute is chosen, or where the workload is or goes; `None` for a target of the spec.
pub(crate) fn is_used_substitute(
    workload: &WorkloadInput,
    decision: &Decision,
    name: &str,
) -> Option<bool> {
    let mut substitutes = workload.substitutes.iter();
    substitutes.find(|substitute| substitute.target.name == name)?;
    let current = workload.current.iter();
    let mut used = current.flat_map(|current| {
        let pending = current.pending.iter().map(|pending| &pending.to);
        pending.chain([&current.target])
    });
    let is_wished = decision.target.as_deref() == Some(name);
    Some(decision.target.is_some() && (is_wished || used.any(|used| used == name)))
}

#[test]
fn a_model_that_may_stand_in_is_a_candidate_and_another_is_not() {
    use Substitution::{AnyCapable, EquivalentOnly, Forbidden};
    for (substitution, group, required, may) in [
        (EquivalentOnly, Some("chat"), None, true),
        (EquivalentOnly, Some("code"), None, false),
        (EquivalentOnly, None, None, false),
        (EquivalentOnly, Some("chat"), Some("Vision"), false),
        (AnyCapable, Some("chat"), None, true),
        (AnyCapable, Some("code"), Some("Tools"), true),
        (AnyCapable, None, Some("Tools"), true),
        (AnyCapable, None, Some("Vision"), false),
        // What is capable is not said, so it is not known of any other model.
        (AnyCapable, Some("code"), None, false),
        (Forbidden, Some("chat"), None, false),
        (Forbidden, Some("chat"), Some("Tools"), false),
    ] {
        let mut snapshot = on_cloud_with(vec![nano(group)]);
        let capability = &mut only(&mut snapshot).capability;
        capability.substitution = substitution;
        capability.required.extend(required.map(str::to_owned));
        // What the target of the spec lacks would send the workload away.
        cloud_of(only(&mut snapshot)).model.capabilities = set(&["Tools", "Vision"]);
        let decision = decide_one(&snapshot, prompt_policy(), at(9));
        let case = format!("{substitution:?} {group:?} {required:?}");
        let expected = if may {
            (Outcome::Move, NANO)
        } else {
            (Outcome::Keep, CLOUD)
        };
        assert_eq!(
            (decision.outcome, decision.target.as_deref()),
            (expected.0, Some(expected.1)),
            "{case}"
        );
        assert_eq!(names(&decision).contains(&NANO), may, "{case}");
        let workload = only(&mut snapshot);
        assert_eq!(
            may_stand_in(workload, &workload.substitutes[0]),
            may,
            "{case}"
        );
    }
}

#[test]
fn a_stated_quality_says_what_is_capable_too() {
    let mut snapshot = on_cloud_with(vec![nano(None)]);
    for (least, may) in [("59", true), ("61", false)] {
        let capability = &mut only(&mut snapshot).capability;
        capability.substitution = Substitution::AnyCapable;
        capability.min_quality = Some(MinQuality {
            benchmark: "mmlu-pro".to_owned(),
            score: Score::parse_decimal(least).expect("a score"),
        });
        let workload = only(&mut snapshot);
        assert_eq!(may_stand_in(workload, &workload.substitutes[0]), may);
    }
}

#[test]
fn going_to_a_model_of_another_group_costs_its_qualification() {
    // $243 a month are $239.67 in thirty days.
    for (group, dollars, moves) in [
        (Some("code"), "239", true),
        (Some("code"), "240", false),
        (Some("chat"), "240", true),
    ] {
        let mut snapshot = on_cloud_with(vec![nano(group)]);
        let capability = &mut only(&mut snapshot).capability;
        capability.substitution = Substitution::AnyCapable;
        capability.required = set(&["Tools"]);
        let decision = decide_one(&snapshot, fee(dollars), at(9));
        let expected = if moves {
            (Outcome::Move, Reason::LowerCost)
        } else {
            (Outcome::Keep, Reason::SwitchNotPaidBack)
        };
        assert_eq!(
            (decision.outcome, decision.reason),
            expected,
            "{group:?} {dollars}"
        );
        assert!(names(&decision).contains(&NANO));
    }
}

#[test]
fn a_new_model_is_confirmed_and_dwelt_for_as_any_other_target() {
    let with = |substitutes| on_cloud_with(substitutes);
    let keep = decide_one(&with(Vec::new()), standard_policy(), at(100_000));
    let arrived = with(vec![nano(Some("chat"))]);
    let first = decide_after(&arrived, standard_policy(), &plan_of(&keep), at(100_000));
    let expected = (
        Outcome::Hold,
        Reason::AwaitingConfirmation,
        Trigger::ModelsChanged,
    );
    assert_eq!((first.outcome, first.reason, first.trigger), expected);
    assert_eq!(route(&first), [(CLOUD, 100)]);
    let moves = decide_after(&arrived, standard_policy(), &plan_of(&first), at(100_300));
    let expected = (Outcome::Move, Reason::LowerCost, Trigger::ModelsChanged);
    assert_eq!((moves.outcome, moves.reason, moves.trigger), expected);
    assert_eq!(route(&moves), [(CLOUD, 0), (NANO, 100)]);
    let early = decide_one(&arrived, standard_policy(), at(9));
    assert_eq!(
        (early.outcome, early.reason),
        (Outcome::Hold, Reason::MinDwell)
    );
}

#[test]
fn a_workload_begins_on_a_target_of_its_spec() {
    let mut snapshot = on_cloud_with(vec![nano(Some("chat"))]);
    only(&mut snapshot).current = None;
    let decision = decide_one(&snapshot, prompt_policy(), at(0));
    assert_eq!(
        (decision.outcome, decision.target.as_deref()),
        (Outcome::Place, Some(CLOUD))
    );
    assert_eq!(names(&decision), [CLOUD, NANO]);
    assert_eq!(route(&decision), [(CLOUD, 100)]);
    cloud_of(only(&mut snapshot)).namespace_allowed = false;
    let decision = decide_one(&snapshot, prompt_policy(), at(0));
    assert_eq!(decision.outcome, Outcome::Infeasible);
    assert!(
        decision.message.starts_with("1 of 1 targets"),
        "{}",
        decision.message
    );
}

#[test]
fn a_substitute_is_on_the_route_only_while_it_is_used() {
    let mut snapshot = on_cloud_with(vec![nano(Some("chat"))]);
    only(&mut snapshot).targets.insert(0, on_local(local()));
    only(&mut snapshot).current = Some(placed(LOCAL, at(0)));
    local_of(only(&mut snapshot)).model = named("open-8b", Some("chat"));
    // $365 a month at home.
    let at_home = decide_one(&snapshot, prompt_policy(), at(9));
    assert_eq!(route(&at_home), [(LOCAL, 100), (CLOUD, 0)]);
    assert_eq!(names(&at_home), [LOCAL, CLOUD, NANO]);
    only(&mut snapshot).current = Some(placed(NANO, at(0)));
    let leaves = decide_one(&snapshot, prompt_policy(), at(9));
    assert_eq!(route(&leaves), [(LOCAL, 100), (CLOUD, 0), (NANO, 0)]);
    let break_even = |decision: &Decision| decision.break_even.map(RequestsPerMonth::get);
    assert_eq!(break_even(&at_home), break_even(&leaves));
}

#[test]
fn at_most_four_substitutes_of_a_target_are_candidates() {
    let group = |at: usize| if at == 8 { Some("chat") } else { Some("code") };
    let priced = |at: usize| {
        let input = format!("0.0{}", at + 1);
        offered(&format!("m{at}"), group(at), (&input, "0.40"))
    };
    let mut snapshot = on_cloud_with((0..9).map(priced).collect());
    let capability = &mut only(&mut snapshot).capability;
    capability.substitution = Substitution::AnyCapable;
    capability.required = set(&["Tools"]);
    let cheapest = decide_one(&snapshot, prompt_policy(), at(9));
    let name = |at: usize| format!("{CLOUD}@m{at}");
    assert_eq!(
        names(&cheapest),
        [CLOUD, &name(0), &name(1), &name(2), &name(3)]
    );
    assert_eq!(cheapest.target, Some(name(0)));
    // The only one that is worth its move is a candidate although others cost less.
    let equivalent = decide_one(&snapshot, fee("100000"), at(9));
    assert_eq!(
        names(&equivalent),
        [CLOUD, &name(0), &name(1), &name(2), &name(8)]
    );
    assert_eq!(equivalent.target, Some(name(8)));
}

#[test]
fn a_model_without_a_price_that_can_be_relied_on_is_no_candidate() {
    for state in [None, Some(PriceState::Held), Some(PriceState::Stale)] {
        let mut unsure = nano(Some("chat"));
        if let TargetKind::External(external) = &mut unsure.target.kind {
            external.price = state.map(|state| Price {
                state,
                ..price("0.01", "0.01")
            });
        }
        let mut snapshot = on_cloud_with(vec![unsure]);
        let decision = decide_one(&snapshot, prompt_policy(), at(9));
        assert_eq!(
            (decision.outcome, names(&decision)),
            (Outcome::Keep, vec![CLOUD]),
            "{state:?}"
        );
        // Where the workload is, doubts hold it as on any target.
        only(&mut snapshot).current = Some(placed(NANO, at(0)));
        let decision = decide_one(&snapshot, prompt_policy(), at(9));
        assert_eq!(
            decision.target.as_deref(),
            Some(NANO),
            "{state:?}: {}",
            decision.message
        );
        assert_eq!(names(&decision), [CLOUD, NANO]);
    }
}

#[test]
fn advice_names_a_substitute_and_a_pin_keeps_from_it() {
    let mut snapshot = on_cloud_with(vec![nano(Some("chat"))]);
    only(&mut snapshot).mode = Mode::Advisory;
    let advised = decide_one(&snapshot, prompt_policy(), at(9));
    assert_eq!(advised.reason, Reason::AdvisoryRecommendation);
    assert!(advised.message.contains(NANO), "{}", advised.message);
    assert_eq!(route(&advised), [(CLOUD, 100)]);
    only(&mut snapshot).mode = Mode::Pinned(CLOUD.to_owned());
    let pinned = decide_one(&snapshot, prompt_policy(), at(9));
    assert_eq!(
        (pinned.outcome, pinned.target.as_deref()),
        (Outcome::Keep, Some(CLOUD))
    );
}

#[test]
fn another_model_on_the_same_hardware_keeps_no_replicas_of_its_own() {
    let name = "local-8b@open-3b";
    let mut snapshot = fleet(WorkloadInput {
        egress: Egress::Forbidden,
        ..hybrid(9_000_000)
    });
    let workload = only(&mut snapshot);
    workload.current = Some(placed(LOCAL, at(0)));
    local_of(workload).model = named("open-8b", Some("chat"));
    local_of(workload).min_replicas = 1;
    let mut small = local_of(workload).clone();
    small.model = named("open-3b", Some("chat"));
    small.throughput.insert(TIER.to_owned(), throughput(20_000));
    workload.substitutes = vec![
        Substitute {
            of: LOCAL.to_owned(),
            target: Target {
                name: name.to_owned(),
                kind: TargetKind::Local(small),
            },
        },
        offered("nano", Some("chat"), ("0", "0")),
    ];
    let decision = decide_one(&snapshot, prompt_policy(), at(9));
    assert_eq!(
        decision.target.as_deref(),
        Some(name),
        "{}",
        decision.message
    );
    assert_eq!(names(&decision), [LOCAL, CLOUD, name]);
    let replicas: Vec<_> = decision.weights.iter().map(|it| it.replicas).collect();
    assert_eq!(replicas, [Some(1), Some(1)]);
    only(&mut snapshot).current = Some(placed(name, at(0)));
    assert_eq!(
        decide_one(&snapshot, prompt_policy(), at(9))
            .target
            .as_deref(),
        Some(name)
    );
    // When it is left, what is always kept is kept for the declared model.
    if let TargetKind::Local(small) = &mut only(&mut snapshot).substitutes[0].target.kind {
        small.throughput.insert(TIER.to_owned(), throughput(500));
    }
    let leaves = decide_one(&snapshot, prompt_policy(), at(9));
    assert_eq!(leaves.target.as_deref(), Some(LOCAL), "{}", leaves.message);
    let left = leaves.weights.iter().find(|it| it.target == name);
    assert_eq!(left.and_then(|it| it.replicas), Some(0));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What is not on the route has no say: without the substitutes the decision for the spec's targets is the same.
    #[test]
    fn substitutes_that_may_not_stand_in_change_nothing(mut snapshot in any_fleet(), policy in any_policy()) {
        let policy = Policy::of(policy);
        for workload in snapshot.workloads.values_mut() {
            workload.capability.substitution = Substitution::Forbidden;
            let substitutes = std::mem::take(&mut workload.substitutes);
            let used = |name: &str| substitutes.iter().any(|it| it.target.name == name);
            workload.current = workload.current.take().filter(|current| {
                !used(&current.target) && current.pending.as_ref().is_none_or(|pending| !used(&pending.to))
            });
            workload.substitutes = substitutes;
        }
        let with = decide(&snapshot, &policy, &Plan::default(), at(0));
        snapshot.workloads.values_mut().for_each(|workload| workload.substitutes.clear());
        prop_assert_eq!(with, decide(&snapshot, &policy, &Plan::default(), at(0)));
    }

    #[test]
    fn no_workload_begins_on_a_substitute(mut snapshot in any_fleet(), policy in any_policy()) {
        snapshot.workloads.values_mut().for_each(|workload| workload.current = None);
        let plan = decide(&snapshot, &Policy::of(policy), &Plan::default(), at(0));
        for (id, decision) in &plan.decisions {
            let declared = |name: &str| snapshot.workloads[id].targets.iter().any(|target| target.name == name);
            prop_assert!(decision.weights.iter().all(|weight| declared(&weight.target)));
        }
    }
}

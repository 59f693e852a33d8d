//! What a move costs, and which models may stand in for each other.

use weir_placement::*;

use crate::builders::*;

/// $365 a month for one local replica against $729 in the cloud, at $0.50 an hour.
fn on_cloud_now() -> FleetSnapshot {
    let mut snapshot = fleet(hybrid(3_000_000));
    only(&mut snapshot).current = Some(placed(CLOUD, at(0)));
    snapshot
}

fn rule(warm_up: u128, fee: &str, days: u128) -> PlacementPolicy {
    PlacementPolicy {
        switching: SwitchingRule {
            warm_up: Seconds::clamped(warm_up),
            requalification: MicroUsd::parse_decimal(fee).expect("dollars"),
            pay_back: Seconds::clamped(days * 86_400),
        },
        ..prompt_policy()
    }
}

fn outcome(snapshot: &FleetSnapshot, policy: PlacementPolicy) -> (Outcome, Reason) {
    let decision = decide_one(snapshot, policy, at(9));
    (decision.outcome, decision.reason)
}

const MOVES: (Outcome, Reason) = (Outcome::Move, Reason::LowerCost);
const WAITS: (Outcome, Reason) = (Outcome::Keep, Reason::SwitchNotPaidBack);

#[test]
fn a_move_must_pay_for_itself_in_time() {
    let snapshot = on_cloud_now();
    // $364 a month are $359.01 in thirty days.
    assert_eq!(outcome(&snapshot, rule(0, "359", 30)), MOVES);
    assert_eq!(outcome(&snapshot, rule(0, "359.02", 30)), WAITS);
    assert_eq!(outcome(&snapshot, rule(0, "359.02", 31)), MOVES);
}

#[test]
fn warming_up_is_paid_at_the_rent() {
    let snapshot = on_cloud_now();
    // 718 hours at $0.50 are $359.
    assert_eq!(outcome(&snapshot, rule(718 * 3_600, "0", 30)), MOVES);
    assert_eq!(outcome(&snapshot, rule(719 * 3_600, "0", 30)), WAITS);
    let mut kept_warm = snapshot;
    local_of(only(&mut kept_warm)).min_replicas = 1;
    assert_eq!(outcome(&kept_warm, rule(719 * 3_600, "0", 30)), MOVES);
}

#[test]
fn the_message_names_the_saving_and_the_cost_of_the_move() {
    let decision = decide_one(&on_cloud_now(), rule(3_600, "400", 30), at(9));
    assert!(
        decision.message.contains("$364.00 a month")
            && decision.message.contains("$400.50")
            && decision.message.contains("30 days"),
        "{}",
        decision.message
    );
}

#[test]
fn nothing_is_paid_for_going_to_the_cloud_but_the_qualification() {
    let mut snapshot = fleet(hybrid(20_000));
    only(&mut snapshot).current = Some(placed(LOCAL, at(0)));
    assert_eq!(outcome(&snapshot, rule(3_000 * 3_600, "0", 30)), MOVES);
    assert_eq!(outcome(&snapshot, rule(0, "400", 30)), WAITS);
}

#[test]
fn one_model_at_two_places_and_models_of_one_group_need_no_qualification() {
    let mut snapshot = on_cloud_now();
    let set_models = |snapshot: &mut FleetSnapshot, names: (&str, &str), groups: (&str, &str)| {
        let workload = only(snapshot);
        let group = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        local_of(workload).model.name = Some(names.0.to_owned());
        local_of(workload).model.equivalence_group = group(groups.0);
        cloud_of(workload).model.name = Some(names.1.to_owned());
        cloud_of(workload).model.equivalence_group = group(groups.1);
    };
    for (names, groups, expected) in [
        (("open-8b", "mini"), ("", ""), WAITS),
        (("open-8b", "open-8b"), ("", ""), MOVES),
        (("open-8b", "mini"), ("chat", "chat"), MOVES),
        (("open-8b", "mini"), ("chat", "code"), WAITS),
        (("open-8b", "mini"), ("chat", ""), WAITS),
    ] {
        set_models(&mut snapshot, names, groups);
        assert_eq!(
            outcome(&snapshot, rule(0, "400", 30)),
            expected,
            "{names:?} {groups:?}"
        );
    }
}

#[test]
fn a_first_placement_and_leaving_what_may_not_serve_cost_nothing() {
    let mut snapshot = on_cloud_now();
    only(&mut snapshot).current = None;
    assert_eq!(
        outcome(&snapshot, rule(0, "1000000", 1)),
        (Outcome::Place, Reason::LowerCost)
    );
    only(&mut snapshot).current = Some(placed(CLOUD, at(0)));
    only(&mut snapshot).require_zero_retention = true;
    cloud_of(only(&mut snapshot)).zero_retention = Some(false);
    assert_eq!(
        outcome(&snapshot, rule(0, "1000000", 1)),
        (Outcome::Move, Reason::CurrentTargetRejected)
    );
}

fn substituted(substitution: Substitution, local: ModelFacts, cloud: ModelFacts) -> Decision {
    let mut snapshot = fleet(hybrid(20_000));
    let workload = only(&mut snapshot);
    workload.capability.substitution = substitution;
    local_of(workload).model = local;
    cloud_of(workload).model = cloud;
    decide_one(&snapshot, prompt_policy(), at(0))
}

fn named(name: &str, group: Option<&str>) -> ModelFacts {
    ModelFacts {
        name: Some(name.to_owned()),
        equivalence_group: group.map(str::to_owned),
        ..model()
    }
}

/// The cloud is cheaper for so few requests, so it is chosen wherever it may stand in for the first target's model.
#[test]
fn substitution_says_which_models_may_stand_in_for_the_first_targets() {
    use Substitution::{AnyCapable, EquivalentOnly, Forbidden};
    let rejected = |reason| Some((Gate::Substitution, reason));
    for (substitution, cloud, expected) in [
        (AnyCapable, named("mini", None), None),
        (EquivalentOnly, named("mini", Some("chat")), None),
        (EquivalentOnly, named("open-8b", None), None),
        (
            EquivalentOnly,
            named("mini", None),
            rejected(RejectionReason::NotEquivalent),
        ),
        (
            EquivalentOnly,
            named("mini", Some("code")),
            rejected(RejectionReason::NotEquivalent),
        ),
        (Forbidden, named("open-8b", None), None),
        (
            Forbidden,
            named("mini", Some("chat")),
            rejected(RejectionReason::SubstitutionForbidden),
        ),
        (
            Forbidden,
            model(),
            rejected(RejectionReason::SubstitutionForbidden),
        ),
    ] {
        let decision = substituted(substitution, named("open-8b", Some("chat")), cloud);
        let gate = candidate(&decision, CLOUD)
            .rejected_by
            .first()
            .map(|it| (it.gate, it.reason));
        assert_eq!(gate, expected, "{substitution:?}");
        let target = if expected.is_none() { CLOUD } else { LOCAL };
        assert_eq!(decision.target.as_deref(), Some(target));
        assert_eq!(candidate(&decision, LOCAL).verdict, Verdict::Feasible);
    }
}

#[test]
fn a_model_without_a_name_is_at_least_itself() {
    let decision = substituted(Substitution::Forbidden, model(), named("mini", None));
    assert_eq!(candidate(&decision, LOCAL).verdict, Verdict::Feasible);
    assert_eq!(decision.target.as_deref(), Some(LOCAL));
}

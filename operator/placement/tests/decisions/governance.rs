//! What holds a placement although something cheaper is known, or although nothing is known.

use weir_placement::*;

use crate::builders::*;

fn cheap_cloud() -> FleetSnapshot {
    let mut workload = hybrid(3_000_000);
    cloud_of(&mut workload).price = Some(price("0.02", "0.10"));
    workload.current = Some(placed(LOCAL, at(0)));
    fleet(workload)
}

fn policy() -> PlacementPolicy {
    PlacementPolicy {
        min_dwell: Seconds::clamped(100),
        confirmation: ConfirmationRule {
            count: 3,
            interval: Seconds::clamped(10),
        },
        ..standard_policy()
    }
}

fn held(snapshot: &FleetSnapshot, reason: Reason) -> Decision {
    let decision = decide_one(snapshot, prompt_policy(), at(1_000));
    assert_eq!(
        (decision.outcome, decision.reason),
        (Outcome::Hold, reason),
        "{}",
        decision.message
    );
    assert_eq!(decision.target.as_deref(), Some(LOCAL));
    assert_eq!(decision.confirmation, None);
    decision
}

#[test]
fn confirmations_count_only_when_far_enough_apart() {
    let snapshot = cheap_cloud();
    let mut previous = Plan::default();
    let mut seen = Vec::new();
    for seconds in [200, 201, 209, 210, 211, 219, 220, 230] {
        let decision = decide_after(&snapshot, policy(), &previous, at(seconds));
        seen.push((
            decision.confirmation.as_ref().map(|it| it.count),
            decision.outcome,
        ));
        previous = plan_of(&decision);
    }
    use Outcome::{Hold, Move};
    let expected = [
        (1, Hold),
        (1, Hold),
        (1, Hold),
        (2, Hold),
        (2, Hold),
        (2, Hold),
        (3, Move),
        (3, Move),
    ];
    assert_eq!(
        seen,
        expected.map(|(count, outcome)| (Some(count), outcome))
    );
}

#[test]
fn a_wish_that_pauses_starts_again() {
    let mut snapshot = cheap_cloud();
    let first = decide_one(&snapshot, policy(), at(200));
    let cheap = cloud_of(only(&mut snapshot))
        .price
        .replace(price("5", "15"));
    let kept = decide_after(&snapshot, policy(), &plan_of(&first), at(210));
    assert_eq!(
        (kept.outcome, kept.confirmation.clone()),
        (Outcome::Keep, None)
    );
    cloud_of(only(&mut snapshot)).price = cheap;
    let again = decide_after(&snapshot, policy(), &plan_of(&kept), at(220));
    assert_eq!(again.confirmation.expect("a wish").count, 1);
}

#[test]
fn a_confirmation_from_before_the_last_move_does_not_count() {
    let mut snapshot = cheap_cloud();
    let mut first = decide_one(&snapshot, policy(), at(200));
    first.confirmation.as_mut().expect("a wish").count = 3;
    only(&mut snapshot).moves.insert(at(205));
    let after = decide_after(&snapshot, policy(), &plan_of(&first), at(400));
    assert_eq!(
        (after.outcome, after.confirmation.expect("a wish").count),
        (Outcome::Hold, 1)
    );
}

#[test]
fn a_held_wish_says_when_it_is_due_and_does_not_change_meanwhile() {
    let snapshot = cheap_cloud();
    let mut decision = decide_one(&snapshot, policy(), at(10));
    assert_eq!(
        (decision.reason, decision.hold_until),
        (Reason::MinDwell, Some(at(100)))
    );
    assert_eq!(decision.next_evaluation, Some(at(20)));
    for seconds in [20, 30] {
        decision = decide_after(&snapshot, policy(), &plan_of(&decision), at(seconds));
    }
    assert_eq!(decision.next_evaluation, Some(at(100)));
    for seconds in [40, 70, 99] {
        assert_eq!(
            decide_after(&snapshot, policy(), &plan_of(&decision), at(seconds)),
            decision
        );
    }
    let moved = decide_after(&snapshot, policy(), &plan_of(&decision), at(100));
    assert_eq!(moved.outcome, Outcome::Move);
}

#[test]
fn a_rolled_back_move_starts_the_dwell_again() {
    let mut snapshot = cheap_cloud();
    only(&mut snapshot).moves.insert(at(150));
    let decision = decide_one(&snapshot, policy(), at(200));
    assert_eq!(
        (decision.reason, decision.hold_until),
        (Reason::MinDwell, Some(at(250)))
    );
}

#[test]
fn the_message_of_a_spent_budget_names_the_setting() {
    let mut snapshot = cheap_cloud();
    only(&mut snapshot).max_moves_per_week = Some(0);
    let held = decide_one(&snapshot, prompt_policy(), at(400));
    let named = held.message.contains("(operations.maxMovesPerWeek)");
    assert!(named, "{}", held.message);
}

#[test]
fn more_than_ten_moves_a_week_are_counted() {
    let mut snapshot = cheap_cloud();
    let workload = only(&mut snapshot);
    workload.max_moves_per_week = Some(12);
    workload.moves.extend((0..11).map(|n| at(-100 - n)));
    let free = decide_one(&snapshot, prompt_policy(), at(400));
    assert_eq!(free.outcome, Outcome::Move);
    only(&mut snapshot).moves.insert(at(-50));
    let spent = decide_one(&snapshot, prompt_policy(), at(400));
    assert_eq!(spent.reason, Reason::MoveBudgetSpent);
}

#[test]
fn the_weeks_moves_are_not_exceeded() {
    const WEEK: i64 = 7 * 86_400;
    let mut snapshot = cheap_cloud();
    let workload = only(&mut snapshot);
    workload.moves.extend([at(-WEEK), at(-WEEK + 500), at(-5)]);
    let spent = decide_one(&snapshot, prompt_policy(), at(400));
    assert_eq!(
        (spent.reason, spent.hold_until),
        (Reason::MoveBudgetSpent, Some(at(500)))
    );
    assert_eq!(
        decide_one(&snapshot, prompt_policy(), at(500)).outcome,
        Outcome::Move
    );
    only(&mut snapshot).max_moves_per_week = Some(0);
    let never = decide_one(&snapshot, prompt_policy(), at(10 * WEEK));
    assert_eq!(
        (never.reason, never.hold_until),
        (Reason::MoveBudgetSpent, None)
    );
    let after_a_move = decide_one(&snapshot, prompt_policy(), at(400));
    assert_eq!(
        (after_a_move.reason, after_a_move.hold_until),
        (Reason::MoveBudgetSpent, None)
    );
    only(&mut snapshot).max_moves_per_week = None;
    assert_eq!(
        decide_one(&snapshot, prompt_policy(), at(400)).outcome,
        Outcome::Move
    );
}

#[test]
fn a_week_with_too_many_moves_ends_when_enough_of_them_are_a_week_old() {
    let mut snapshot = cheap_cloud();
    only(&mut snapshot)
        .moves
        .extend([at(-30), at(-20), at(-10)]);
    let spent = decide_one(&snapshot, prompt_policy(), at(400));
    assert_eq!(spent.hold_until, Some(at(-20 + 7 * 86_400)));
}

#[test]
fn equal_costs_move_nothing_even_if_no_saving_is_asked_for() {
    let mut snapshot = fleet(hybrid(1_000_000));
    // 1 000 000 × 365 tokens at $1 are the tier's $0.50 × 730.
    only(&mut snapshot).demand.declared = figures(1_000_000, 365, 0);
    cloud_of(only(&mut snapshot)).price = Some(price("1", "0"));
    let policy = PlacementPolicy {
        min_savings_percent: Percent::MIN,
        ..prompt_policy()
    };
    for target in [LOCAL, CLOUD] {
        only(&mut snapshot).current = Some(placed(target, at(0)));
        let decision = decide_one(&snapshot, policy.clone(), at(9));
        assert_eq!(
            (decision.outcome, decision.reason),
            (Outcome::Keep, Reason::TargetOrder)
        );
        assert_eq!(decision.target.as_deref(), Some(target));
    }
    only(&mut snapshot).current = None;
    assert_eq!(
        decide_one(&snapshot, policy, at(9)).target.as_deref(),
        Some(LOCAL)
    );
}

#[test]
fn savings_below_the_policys_least_keep_the_placement() {
    let mut snapshot = fleet(hybrid(3_000_000));
    only(&mut snapshot).current = Some(placed(LOCAL, at(0)));
    // The local side costs $365 a month; 2700 M prompt tokens at $0.12 are $324, 11 % less.
    cloud_of(only(&mut snapshot)).price = Some(price("0.12", "0"));
    let kept = decide_one(&snapshot, prompt_policy(), at(9));
    assert_eq!(
        (kept.outcome, kept.reason),
        (Outcome::Keep, Reason::SavingsTooSmall)
    );
    assert!(
        kept.message.contains("11 %") && kept.message.contains("15 %"),
        "{}",
        kept.message
    );
    let eager = PlacementPolicy {
        min_savings_percent: Percent::clamped(11),
        ..prompt_policy()
    };
    assert_eq!(decide_one(&snapshot, eager, at(9)).outcome, Outcome::Move);
}

#[test]
fn a_stale_price_moves_nothing() {
    let mut snapshot = cheap_cloud();
    cloud_of(only(&mut snapshot))
        .price
        .as_mut()
        .expect("a price")
        .state = PriceState::Stale;
    held(&snapshot, Reason::PriceStale);
    // Nor does it confirm that the current target is the cheaper one.
    let mut dear = price("5", "15");
    dear.state = PriceState::Stale;
    cloud_of(only(&mut snapshot)).price = Some(dear);
    held(&snapshot, Reason::PriceStale);
}

#[test]
fn a_stale_price_of_the_current_target_does_not_send_it_away() {
    let mut snapshot = cheap_cloud();
    only(&mut snapshot).current = Some(placed(CLOUD, at(0)));
    let mut dear = price("5", "15");
    dear.state = PriceState::Stale;
    cloud_of(only(&mut snapshot)).price = Some(dear);
    let decision = decide_one(&snapshot, prompt_policy(), at(1_000));
    assert_eq!(
        (decision.outcome, decision.reason),
        (Outcome::Hold, Reason::PriceStale)
    );
    assert_eq!(decision.target.as_deref(), Some(CLOUD));
}

#[test]
fn a_missing_price_moves_nothing() {
    let mut snapshot = cheap_cloud();
    cloud_of(only(&mut snapshot)).price = None;
    let decision = held(&snapshot, Reason::PriceMissing);
    assert_eq!(candidate(&decision, CLOUD).cost, None);
    assert_eq!(decision.break_even, None);
}

#[test]
fn a_price_held_back_as_suspect_moves_nothing_but_keeps() {
    let mut snapshot = cheap_cloud();
    cloud_of(only(&mut snapshot))
        .price
        .as_mut()
        .expect("a price")
        .state = PriceState::Held;
    held(&snapshot, Reason::PriceHeld);
    let mut dear = price("5", "15");
    dear.state = PriceState::Held;
    cloud_of(only(&mut snapshot)).price = Some(dear);
    assert_eq!(
        decide_one(&snapshot, prompt_policy(), at(1_000)).outcome,
        Outcome::Keep
    );
}

#[test]
fn lost_telemetry_of_gpus_holds_and_that_of_cpus_does_not() {
    let mut snapshot = cheap_cloud();
    let tier = snapshot.tiers.get_mut(TIER).expect("the tier");
    tier.utilization = Utilization::Lost;
    let decision = held(&snapshot, Reason::UtilizationUnknown);
    assert_eq!(decision.inputs.utilization, None);
    snapshot.tiers.get_mut(TIER).expect("the tier").kind = DeviceKind::Cpu;
    assert_eq!(
        decide_one(&snapshot, prompt_policy(), at(1_000)).outcome,
        Outcome::Move
    );
}

#[test]
fn an_unknown_hourly_cost_is_not_free() {
    let mut snapshot = cheap_cloud();
    only(&mut snapshot).current = None;
    snapshot.tiers.get_mut(TIER).expect("the tier").hourly_cost = None;
    let first = decide_one(&snapshot, prompt_policy(), at(0));
    assert_eq!(
        (first.target.as_deref(), first.reason),
        (Some(CLOUD), Reason::OnlyKnownCost)
    );
    only(&mut snapshot).current = Some(placed(LOCAL, at(0)));
    held(&snapshot, Reason::TierCostUnknown);
}

#[test]
fn unknown_throughput_matters_only_where_replicas_may_differ() {
    let mut snapshot = cheap_cloud();
    local_of(only(&mut snapshot)).throughput.clear();
    held(&snapshot, Reason::ThroughputUnknown);
    local_of(only(&mut snapshot)).max_replicas = 1;
    assert_eq!(
        decide_one(&snapshot, prompt_policy(), at(1_000)).outcome,
        Outcome::Move
    );
}

#[test]
fn a_suspended_workload_stays_and_a_new_one_is_not_placed() {
    let mut snapshot = cheap_cloud();
    only(&mut snapshot).suspend = true;
    held(&snapshot, Reason::Suspended);
    only(&mut snapshot).current = None;
    let decision = decide_one(&snapshot, prompt_policy(), at(0));
    assert_eq!(
        (decision.outcome, decision.reason, decision.target),
        (Outcome::Hold, Reason::Suspended, None)
    );
}

#[test]
fn a_policy_that_does_not_exist_moves_nothing() {
    let mut snapshot = cheap_cloud();
    only(&mut snapshot).policy = Some("absent".to_owned());
    held(&snapshot, Reason::PolicyMissing);
}

#[test]
fn a_named_policy_governs_its_workload() {
    let mut snapshot = cheap_cloud();
    only(&mut snapshot).policy = Some("slow".to_owned());
    let mut policies = Policy::of(prompt_policy());
    policies.named.insert("slow".to_owned(), policy());
    let plan = decide(&snapshot, &policies, &Plan::default(), at(10));
    assert_eq!(
        plan.decisions[&WorkloadId::from(UID)].reason,
        Reason::MinDwell
    );
}

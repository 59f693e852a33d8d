//! Moves: what leaves at once, what is pinned, and what stands while a move is in progress.

use weir_placement::*;

use crate::builders::*;

fn slow_policy() -> PlacementPolicy {
    PlacementPolicy {
        min_dwell: Seconds::clamped(86_400),
        ..standard_policy()
    }
}

fn on_cloud_now() -> FleetSnapshot {
    let mut snapshot = fleet(hybrid(20_000));
    only(&mut snapshot).current = Some(placed(CLOUD, at(0)));
    snapshot
}

fn moving_to_cloud() -> (FleetSnapshot, Decision) {
    let mut snapshot = fleet(hybrid(20_000));
    only(&mut snapshot).current = Some(placed(LOCAL, at(0)));
    let ordered = decide_one(&snapshot, prompt_policy(), at(9));
    assert_eq!(ordered.outcome, Outcome::Move);
    only(&mut snapshot)
        .current
        .as_mut()
        .expect("placed")
        .pending = Some(PendingMove {
        to: CLOUD.to_owned(),
        tier: None,
        decision_id: ordered.id.clone(),
    });
    (snapshot, ordered)
}

#[test]
fn a_target_that_a_gate_rejects_is_left_at_once() {
    let mut snapshot = on_cloud_now();
    only(&mut snapshot).allowed_jurisdictions = set(&["CH"]);
    only(&mut snapshot).max_moves_per_week = Some(0);
    let decision = decide_one(&snapshot, slow_policy(), at(1));
    assert_eq!(
        (decision.outcome, decision.reason),
        (Outcome::Move, Reason::CurrentTargetRejected)
    );
    assert_eq!(decision.target.as_deref(), Some(LOCAL));
    assert_eq!(decision.weights.len(), 1);
}

#[test]
fn suspension_does_not_keep_data_where_it_may_not_be() {
    let mut snapshot = on_cloud_now();
    only(&mut snapshot).suspend = true;
    only(&mut snapshot).require_zero_retention = true;
    cloud_of(only(&mut snapshot)).zero_retention = Some(false);
    let decision = decide_one(&snapshot, slow_policy(), at(1));
    assert_eq!(
        (decision.outcome, decision.target.as_deref()),
        (Outcome::Move, Some(LOCAL))
    );
    assert!(decision.weights.iter().all(|weight| weight.target != CLOUD));
}

#[test]
fn suspension_keeps_traffic_on_a_target_that_only_lacks_a_capability() {
    let mut snapshot = on_cloud_now();
    only(&mut snapshot).suspend = true;
    only(&mut snapshot).capability.required = set(&["Vision"]);
    let decision = decide_one(&snapshot, slow_policy(), at(1));
    assert_eq!(
        (decision.outcome, decision.reason),
        (Outcome::Hold, Reason::Suspended)
    );
    assert_eq!(
        (decision.weights.len(), decision.weights[0].target.as_str()),
        (1, CLOUD)
    );
}

#[test]
fn a_target_that_the_spec_lost_is_left_at_once() {
    let mut snapshot = on_cloud_now();
    only(&mut snapshot).targets.remove(1);
    let decision = decide_one(&snapshot, slow_policy(), at(1));
    assert_eq!(
        (decision.outcome, decision.reason),
        (Outcome::Move, Reason::TargetRemoved)
    );
}

#[test]
fn a_pin_moves_without_dwell_and_stays_whatever_the_cost() {
    let mut snapshot = on_cloud_now();
    only(&mut snapshot).mode = Mode::Pinned(LOCAL.to_owned());
    let moved = decide_one(&snapshot, slow_policy(), at(1));
    assert_eq!(
        (moved.outcome, moved.reason),
        (Outcome::Move, Reason::Pinned)
    );
    only(&mut snapshot).current = Some(placed(LOCAL, at(2)));
    let kept = decide_after(&snapshot, slow_policy(), &plan_of(&moved), at(3));
    assert_eq!((kept.outcome, kept.reason), (Outcome::Keep, Reason::Pinned));
    assert_eq!(kept.id, moved.id);
}

#[test]
fn a_pin_does_not_open_a_gate() {
    let mut snapshot = fleet(hybrid(20_000));
    only(&mut snapshot).egress = Egress::Forbidden;
    only(&mut snapshot).mode = Mode::Pinned(CLOUD.to_owned());
    let new = decide_one(&snapshot, slow_policy(), at(1));
    assert_eq!(
        (new.outcome, new.reason, new.target),
        (Outcome::Infeasible, Reason::PinnedTargetRejected, None)
    );
    only(&mut snapshot).current = Some(placed(LOCAL, at(0)));
    let held = decide_one(&snapshot, slow_policy(), at(1));
    assert_eq!(
        (held.outcome, held.target.as_deref()),
        (Outcome::Hold, Some(LOCAL))
    );
}

#[test]
fn a_move_in_progress_stands_though_prices_turn() {
    let (mut snapshot, ordered) = moving_to_cloud();
    cloud_of(only(&mut snapshot)).price = Some(price("50", "150"));
    let standing = decide_after(&snapshot, prompt_policy(), &plan_of(&ordered), at(20));
    assert_eq!(
        (standing.outcome, standing.target.as_deref()),
        (Outcome::Move, Some(CLOUD))
    );
    assert_eq!(
        (&standing.id, standing.reason, &standing.message),
        (&ordered.id, ordered.reason, &ordered.message)
    );
    assert_eq!(standing.trigger, ordered.trigger);
}

#[test]
fn a_move_in_progress_is_known_again_after_a_restart() {
    let (snapshot, ordered) = moving_to_cloud();
    let remembered = Remembered {
        id: ordered.id.clone(),
        trigger: ordered.trigger,
        outcome: ordered.outcome,
        reason: ordered.reason,
        message: ordered.message.clone(),
        target: ordered.target.clone(),
        inputs: ordered.inputs.clone(),
        weighted_targets: ordered
            .weights
            .iter()
            .map(|weight| weight.target.clone())
            .collect(),
        confirmation: ordered.confirmation.clone(),
        bands: ordered.bands.clone(),
    };
    let recalled = decide_after(
        &snapshot,
        prompt_policy(),
        &plan_of(&remembered.recall()),
        at(20),
    );
    let never_lost = decide_after(&snapshot, prompt_policy(), &plan_of(&ordered), at(20));
    assert_eq!(recalled, never_lost);
    let lost = decide_one(&snapshot, prompt_policy(), at(20));
    assert_eq!(
        (lost.outcome, lost.reason),
        (Outcome::Move, Reason::MoveInProgress)
    );
    assert_eq!(
        (lost.target.as_deref(), lost.trigger),
        (Some(CLOUD), Trigger::Periodic)
    );
}

#[test]
fn a_move_whose_target_is_rejected_meanwhile_is_abandoned() {
    let (mut snapshot, ordered) = moving_to_cloud();
    only(&mut snapshot).allowed_jurisdictions = set(&["CH"]);
    let decision = decide_after(&snapshot, prompt_policy(), &plan_of(&ordered), at(20));
    assert_eq!(
        (decision.outcome, decision.reason),
        (Outcome::Keep, Reason::MoveAbandoned)
    );
    assert_eq!(decision.target.as_deref(), Some(LOCAL));
    assert_ne!(decision.id, ordered.id);
}

#[test]
fn a_completed_move_is_the_same_decision() {
    let (mut snapshot, ordered) = moving_to_cloud();
    only(&mut snapshot).current = Some(placed(CLOUD, at(30)));
    only(&mut snapshot).moves.insert(at(30));
    let kept = decide_after(&snapshot, prompt_policy(), &plan_of(&ordered), at(40));
    assert_eq!(
        (kept.outcome, &kept.id, kept.trigger),
        (Outcome::Keep, &ordered.id, ordered.trigger)
    );
}

#[test]
fn an_unhealthy_provider_is_left_only_once_confirmed_and_keeps_its_weight() {
    let mut snapshot = on_cloud_now();
    cloud_of(only(&mut snapshot)).healthy = Some(false);
    let first = decide_one(&snapshot, slow_policy(), at(1));
    assert_eq!(
        (first.outcome, first.reason),
        (Outcome::Hold, Reason::AwaitingConfirmation)
    );
    let second = decide_after(&snapshot, slow_policy(), &plan_of(&first), at(301));
    assert_eq!(
        (second.outcome, second.target.as_deref()),
        (Outcome::Move, Some(LOCAL))
    );
    assert!(second.weights.iter().any(|weight| weight.target == CLOUD));
}

#[test]
fn a_new_revision_or_age_of_a_price_book_alone_is_no_new_decision() {
    let mut snapshot = on_cloud_now();
    let before = decide_one(&snapshot, slow_policy(), at(1));
    let book = &mut cloud_of(only(&mut snapshot))
        .price
        .as_mut()
        .expect("a price")
        .book;
    book.revision = "r2".to_owned();
    book.as_of = Some(at(5));
    let after = decide_after(&snapshot, slow_policy(), &plan_of(&before), at(9));
    assert_eq!((&after.id, after.trigger), (&before.id, before.trigger));
}

#[test]
fn kept_replicas_of_the_other_side_stay() {
    let mut snapshot = on_cloud_now();
    let local = |snapshot: &FleetSnapshot| {
        let decision = decide_one(snapshot, slow_policy(), at(1));
        decision
            .weights
            .iter()
            .find(|weight| weight.target == LOCAL)
            .expect("weighted")
            .replicas
    };
    assert_eq!(local(&snapshot), Some(0));
    local_of(only(&mut snapshot)).min_replicas = 2;
    assert_eq!(local(&snapshot), Some(2));
}

#[test]
fn a_move_in_progress_gets_a_new_identity_when_other_targets_may_be_used() {
    let (mut snapshot, ordered) = moving_to_cloud();
    let second = Target {
        name: "cloud-large".to_owned(),
        kind: TargetKind::External(external()),
    };
    only(&mut snapshot).targets.push(second);
    let decision = decide_after(&snapshot, prompt_policy(), &plan_of(&ordered), at(20));
    assert_eq!(
        (decision.outcome, decision.target.as_deref()),
        (Outcome::Move, Some(CLOUD))
    );
    assert_ne!(decision.id, ordered.id);
    let again = decide_after(&snapshot, prompt_policy(), &plan_of(&decision), at(20));
    assert_eq!(again, decision);
}

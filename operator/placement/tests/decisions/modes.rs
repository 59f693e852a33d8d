//! Advisory mode and maintenance windows: what is told instead of done, and what is done only at night.

use weir_placement::*;

use crate::builders::*;

/// A workload that would move to the cloud for cost.
fn dear_local() -> FleetSnapshot {
    let mut snapshot = fleet(hybrid(20_000));
    only(&mut snapshot).current = Some(placed(LOCAL, at(0)));
    snapshot
}

fn advisory(mut snapshot: FleetSnapshot) -> FleetSnapshot {
    only(&mut snapshot).mode = Mode::Advisory;
    snapshot
}

#[test]
fn advisory_mode_tells_the_move_that_auto_would_make_and_stays() {
    let auto = decide_one(&dear_local(), prompt_policy(), at(9));
    assert_eq!(auto.outcome, Outcome::Move);
    let told = decide_one(&advisory(dear_local()), prompt_policy(), at(9));
    assert_eq!(
        (told.outcome, told.reason, told.target.as_deref()),
        (Outcome::Hold, Reason::AdvisoryRecommendation, Some(LOCAL))
    );
    assert!(
        told.message
            .starts_with("recommends cloud-mini (LowerCost): ")
            && told.message.ends_with(&auto.message),
        "{}",
        told.message
    );
    assert_eq!(told.confirmation, auto.confirmation);
}

#[test]
fn a_recommendation_is_governed_like_a_move() {
    let dwelling = decide_one(&advisory(dear_local()), standard_policy(), at(9));
    assert_eq!(dwelling.reason, Reason::MinDwell);
}

#[test]
fn a_new_workload_in_advisory_mode_is_placed() {
    let mut snapshot = advisory(dear_local());
    only(&mut snapshot).current = None;
    assert_eq!(
        decide_one(&snapshot, prompt_policy(), at(9)).outcome,
        Outcome::Place
    );
}

#[test]
fn advisory_mode_does_not_keep_data_where_it_may_not_be() {
    let mut snapshot = advisory(fleet(hybrid(3_000_000)));
    only(&mut snapshot).current = Some(placed(CLOUD, at(0)));
    only(&mut snapshot).allowed_jurisdictions = set(&["CH"]);
    let decision = decide_one(&snapshot, prompt_policy(), at(9));
    assert_eq!(
        (decision.outcome, decision.target.as_deref()),
        (Outcome::Move, Some(LOCAL))
    );
}

#[test]
fn advisory_mode_stays_on_a_target_that_only_lacks_a_capability_or_is_silent() {
    let mut incapable = advisory(fleet(hybrid(3_000_000)));
    only(&mut incapable).current = Some(placed(CLOUD, at(0)));
    let mut silent = incapable.clone();
    cloud_of(only(&mut incapable)).model.capabilities = set(&[]);
    only(&mut incapable).capability.required = set(&["Tools"]);
    cloud_of(only(&mut silent)).healthy = Some(false);
    for snapshot in [incapable, silent] {
        let decision = decide_one(&snapshot, prompt_policy(), at(9));
        assert_eq!(
            (
                decision.outcome,
                decision.reason,
                decision.target.as_deref()
            ),
            (Outcome::Hold, Reason::AdvisoryRecommendation, Some(CLOUD))
        );
        assert!(
            decision
                .weights
                .iter()
                .any(|it| it.target == CLOUD && it.weight.get() == 100)
        );
    }
}

#[test]
fn a_move_in_progress_goes_on_in_advisory_mode() {
    let mut snapshot = advisory(dear_local());
    only(&mut snapshot)
        .current
        .as_mut()
        .expect("placed")
        .pending = Some(PendingMove {
        to: CLOUD.to_owned(),
        tier: None,
        decision_id: "d-00000000".to_owned(),
    });
    let decision = decide_one(&snapshot, prompt_policy(), at(9));
    assert_eq!(
        (decision.outcome, decision.target.as_deref()),
        (Outcome::Move, Some(CLOUD))
    );
}

/// The tests begin on Monday, 21 September 2026, at 14:13:20 UTC.
fn nightly(mut snapshot: FleetSnapshot) -> FleetSnapshot {
    let window = MaintenanceWindow::parse("0 2 * * *", Seconds::clamped(4 * 3_600), "UTC");
    only(&mut snapshot).maintenance_window = Some(window.expect("a window"));
    snapshot
}

const TWO_AT_NIGHT: i64 = 12 * 3_600 - 800;

#[test]
fn cost_moves_only_within_the_maintenance_window() {
    let snapshot = nightly(dear_local());
    let day = decide_one(&snapshot, prompt_policy(), at(9));
    assert_eq!(
        (day.outcome, day.reason, day.hold_until),
        (
            Outcome::Hold,
            Reason::OutsideMaintenanceWindow,
            Some(at(TWO_AT_NIGHT))
        ),
        "{}",
        day.message
    );
    assert_eq!(day.next_evaluation, Some(at(TWO_AT_NIGHT)));
    assert!(
        day.message
            .contains("outside the maintenance window until 2026-09-22T02:00:00Z"),
        "{}",
        day.message
    );
    let moves = |seconds| decide_one(&snapshot, prompt_policy(), at(seconds)).outcome;
    assert_eq!(moves(TWO_AT_NIGHT - 1), Outcome::Hold);
    assert_eq!(moves(TWO_AT_NIGHT), Outcome::Move);
    assert_eq!(moves(TWO_AT_NIGHT + 4 * 3_600 - 1), Outcome::Move);
    assert_eq!(moves(TWO_AT_NIGHT + 4 * 3_600), Outcome::Hold);
}

#[test]
fn a_wish_is_confirmed_outside_of_the_window_and_followed_in_it() {
    let snapshot = nightly(dear_local());
    let policy = PlacementPolicy {
        min_dwell: Seconds::MIN,
        ..standard_policy()
    };
    let first = decide_one(&snapshot, policy.clone(), at(9));
    let second = decide_after(&snapshot, policy.clone(), &plan_of(&first), at(309));
    assert_eq!(second.confirmation.as_ref().map(|it| it.count), Some(2));
    assert_eq!(second.reason, Reason::OutsideMaintenanceWindow);
    let night = decide_after(&snapshot, policy, &plan_of(&second), at(TWO_AT_NIGHT));
    assert_eq!(night.outcome, Outcome::Move);
}

#[test]
fn what_cannot_serve_is_left_by_day() {
    let mut snapshot = nightly(fleet(hybrid(3_000_000)));
    only(&mut snapshot).current = Some(placed(CLOUD, at(0)));
    cloud_of(only(&mut snapshot)).healthy = Some(false);
    assert_eq!(
        decide_one(&snapshot, prompt_policy(), at(9)).outcome,
        Outcome::Move
    );
    only(&mut snapshot).allowed_jurisdictions = set(&["CH"]);
    assert_eq!(
        decide_one(&snapshot, prompt_policy(), at(9)).outcome,
        Outcome::Move
    );
}

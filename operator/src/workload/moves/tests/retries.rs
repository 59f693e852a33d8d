//! Targets that a move was rolled back from: what that spends, and when they are tried again.

use rstest::rstest;

use super::steps::placed_on_a;
use super::*;

fn claim_missing() -> Failure {
    Failure {
        reason: "ClaimMissing".into(),
        message: "persistentvolumeclaim \"models\" not found".into(),
        lasting: true,
        without_node: true,
        of_engine: false,
    }
}

#[test]
fn a_claim_that_is_missing_spends_no_move_and_is_not_tried_again_until_it_is_there() {
    let mut world = placed_on_a();
    world.rules.targets[1].max_replicas = 4;
    world.wish = wish(Some("b"), true, &ALL);
    world.wish.feasible[1].replicas = Some(3);
    world.seen("b").usable = Usable::No;
    world.seen("b").failure = Some(claim_missing());
    world.pass(1);
    assert_eq!(world.deployments["b"], 3);
    world.pass(61);
    assert_eq!(world.phase(), Phase::Steady);
    assert_eq!(
        (world.history[0].reason.as_str(), world.history[0].uncounted),
        (ROLLED_BACK, Some(true))
    );
    // One replica stands for the cause, and shows when it is gone.
    assert_eq!(world.deployments["b"], 1);
    let attempts = world.history.len();
    let step = world.placement.as_ref().expect("placed").step;
    for _ in 0..200 {
        world.pass(600);
        assert_eq!(world.phase(), Phase::Steady);
    }
    let placement = world.placement.clone().expect("placed");
    assert_eq!((world.history.len(), placement.step), (attempts, step));
    let held = world.advance().held.expect("held");
    assert_eq!(held.until, None);
    assert!(
        held.message.contains("b cannot start (ClaimMissing)"),
        "{}",
        held.message
    );
    assert!(
        held.message.contains("operations.maxMovesPerWeek"),
        "{}",
        held.message
    );
    // The claim came, and the replica starts: the move waits until it is ready.
    world.seen("b").failure = None;
    world.pass(30);
    assert_eq!(world.phase(), Phase::Steady);
    world.seen("b").usable = Usable::Yes;
    world.pass(1);
    assert_eq!(world.phase(), Phase::Preparing);
    world.until(Phase::Steady);
    let placement = world.placement.as_ref().expect("placed");
    assert_eq!(
        (placement.target.as_str(), &placement.rolled_back),
        ("b", &None)
    );
}

#[test]
fn a_replica_that_stands_for_a_cause_sleeps_once_its_target_is_not_wished_for() {
    let mut world = placed_on_a();
    world.wish = wish(Some("b"), true, &ALL);
    world.seen("b").usable = Usable::No;
    world.seen("b").failure = Some(claim_missing());
    world.pass(1);
    world.pass(61);
    assert_eq!(world.deployments["b"], 1);
    world.wish = wish(Some("a"), false, &ALL);
    for _ in 0..3 {
        world.pass(30);
    }
    assert_eq!(world.deployments["b"], 0);
}

#[test]
fn a_replica_that_holds_a_device_does_not_stand_for_its_cause() {
    let mut world = placed_on_a();
    world.wish = wish(Some("b"), true, &ALL);
    world.seen("b").usable = Usable::No;
    world.seen("b").failure = Some(Failure {
        reason: "ImagePullFailed".into(),
        without_node: false,
        ..claim_missing()
    });
    world.pass(1);
    world.pass(61);
    assert_eq!(world.history[0].uncounted, Some(true));
    assert_eq!(world.deployments["b"], 0);
    world.seen("b").failure = None;
    let held = world.advance().held.expect("held");
    assert!(held.until.is_some());
}

#[rstest]
#[case::errors_of_what_it_served(None, None)]
#[case::an_engine_that_crashes(Some(true), None)]
#[case::a_pod_that_lost_its_node(Some(false), Some(true))]
fn what_carried_traffic_and_failed_spends_a_move_unless_the_cluster_is_the_cause(
    #[case] of_engine: Option<bool>,
    #[case] uncounted: Option<bool>,
) {
    let mut world = placed_on_a();
    world.wish = wish(Some("b"), true, &ALL);
    world.until(Phase::Canary);
    match of_engine {
        None => {
            world.seen("b").requests = 20;
            world.seen("b").errors = 20;
        }
        Some(of_engine) => {
            world.seen("b").usable = Usable::No;
            world.seen("b").failure = Some(Failure {
                of_engine,
                ..claim_missing()
            });
        }
    }
    world.pass(1);
    assert_eq!(world.phase(), Phase::RollingBack);
    world.until(Phase::Steady);
    assert_eq!(
        (world.history[0].reason.as_str(), world.history[0].uncounted),
        (ROLLED_BACK, uncounted)
    );
}

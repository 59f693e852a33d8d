//! One move at a time.

use rstest::rstest;

use super::*;

pub(super) fn placed_on_a() -> World {
    let mut world = World::new();
    world.reconcile();
    world.pass(60);
    world
}

fn moving_to_cloud() -> World {
    let mut world = placed_on_a();
    world.wish = wish(Some("cloud"), true, &ALL);
    world
}

#[test]
fn the_first_placement_takes_all_of_the_traffic_at_once() {
    let mut world = World::new();
    world.seen("a").usable = Usable::No;
    let placement = world.reconcile();
    assert_eq!(placement.step, 1);
    assert_eq!(placement.phase, Phase::Steady);
    assert_eq!(world.shares(), [("a".to_owned(), 100)]);
    assert_eq!(world.deployments, BTreeMap::from([("a".to_owned(), 1)]));
}

#[test]
fn a_placement_that_does_not_say_what_it_was_decided_for_is_completed_without_a_step() {
    let mut world = placed_on_a();
    let complete = world.placement.clone().expect("a placement");
    assert!(complete.weights[2].decided_for.is_some());
    let mut older = complete.clone();
    older.weights[2].decided_for = None;
    world.placement = Some(older);
    world.told.clear();
    world.pass(1);
    assert_eq!(world.placement, Some(complete));
    assert!(world.told.is_empty(), "nothing happens to the workload");
}

#[test]
fn nothing_is_placed_while_nothing_may_serve() {
    let mut world = World::new();
    world.wish = wish(None, false, &[]);
    assert_eq!(world.advance(), Advance::default());
}

#[test]
fn a_move_is_prepared_shifted_in_steps_drained_and_released() {
    let mut world = moving_to_cloud();
    let mut trace = Vec::new();
    for _ in 0..40 {
        let placement = world.pass(1);
        let line = (placement.step, placement.phase, placement.target.clone());
        let line = format!("{line:?} {:?} {:?}", world.shares(), world.deployments);
        if trace.last() != Some(&line) {
            trace.push(line);
        }
    }
    insta::assert_debug_snapshot!(trace, @r#"
    [
        "(2, Preparing, \"a\") [(\"a\", 100)] {\"a\": 1}",
        "(3, Canary, \"a\") [(\"a\", 80), (\"cloud\", 20)] {\"a\": 1}",
        "(4, Canary, \"a\") [(\"a\", 50), (\"cloud\", 50)] {\"a\": 1}",
        "(5, Draining, \"a\") [(\"cloud\", 100)] {\"a\": 1}",
        "(5, Steady, \"cloud\") [(\"cloud\", 100)] {\"a\": 1}",
        "(5, Steady, \"cloud\") [(\"cloud\", 100)] {\"a\": 0}",
    ]
    "#);
    assert_eq!(world.history.len(), 1);
    assert_eq!(world.history[0].to, "cloud");
    assert_eq!(world.history[0].reason, "LowerCost");
    let since = world
        .placement
        .as_ref()
        .map(|placement| placement.since.clone());
    assert_eq!(Some(world.history[0].time.clone()), since);
}

#[test]
fn a_pause_counts_from_the_last_acknowledgement() {
    let mut world = moving_to_cloud();
    world.until(Phase::Canary);
    world.observed.acknowledged = Acknowledgement::Waiting(vec!["gateway-1".into()]);
    for _ in 0..100 {
        world.pass(10);
    }
    assert_eq!(world.shares()[1], ("cloud".to_owned(), 20));
    world.observed.acknowledged = Acknowledgement::All;
    world.pass(1);
    world.pass(4);
    assert_eq!(
        world.shares()[1],
        ("cloud".to_owned(), 20),
        "the pause is five seconds"
    );
    world.pass(1);
    assert_eq!(world.shares()[1], ("cloud".to_owned(), 50));
}

#[test]
fn a_gateway_that_is_terminating_holds_the_release_and_not_the_canary() {
    let mut world = moving_to_cloud();
    world.observed.settled = Acknowledgement::Waiting(vec!["terminating".into()]);
    world.until(Phase::Draining);
    for _ in 0..100 {
        world.pass(60);
    }
    assert_eq!(world.phase(), Phase::Draining);
    assert_eq!(world.deployments["a"], 1);
    world.observed.settled = Acknowledgement::All;
    world.until(Phase::Steady);
}

#[test]
fn requests_in_flight_hold_the_release_until_the_drain_is_over() {
    let mut world = moving_to_cloud();
    world.seen("a").in_flight = Some(3);
    world.until(Phase::Draining);
    world.pass(1);
    world.pass(58);
    assert_eq!(world.phase(), Phase::Draining);
    world.pass(4);
    assert_eq!(world.phase(), Phase::Steady);
    let timed_out = Transition::DrainTimedOut { from: "a".into() };
    assert!(world.told.contains(&timed_out), "{:?}", world.told);
}

/// Another operator leads, whose clock is an hour ahead; it has led for so many seconds.
fn led_by_another(world: &mut World, begun: Timestamp, after_seconds: u64) {
    world.witnessed = Witnessed::default();
    let passed = std::time::Duration::from_secs(after_seconds);
    for passed in [std::time::Duration::ZERO, passed] {
        world.now = begun + SignedDuration::from_hours(1) + passed;
        world.witnessed.note(passed, world.now);
    }
    world.reconcile();
}

#[test]
fn a_new_leader_whose_clock_is_an_hour_ahead_cuts_no_drain() {
    let mut world = moving_to_cloud();
    world.seen("a").in_flight = Some(3);
    world.until(Phase::Draining);
    world.pass(1);
    let begun = world.now;
    for passed in [0, 59] {
        led_by_another(&mut world, begun, passed);
        assert_eq!(world.phase(), Phase::Draining, "after {passed} s");
        assert_eq!(world.deployments["a"], 1);
    }
    led_by_another(&mut world, begun, 60);
    assert_eq!(world.phase(), Phase::Steady);
}

#[test]
fn a_new_leader_whose_clock_is_an_hour_ahead_cuts_no_pause_of_a_canary() {
    let mut world = moving_to_cloud();
    world.until(Phase::Canary);
    world.pass(1);
    let (begun, step) = (world.now, world.placement.as_ref().map(|it| it.step));
    for passed in [0, 4] {
        led_by_another(&mut world, begun, passed);
        assert_eq!(world.placement.as_ref().map(|it| it.step), step);
    }
    led_by_another(&mut world, begun, 5);
    assert_ne!(world.placement.as_ref().map(|it| it.step), step);
}

#[test]
fn a_new_leader_whose_clock_is_an_hour_ahead_tries_no_target_before_its_pause_is_over() {
    let mut world = moving_to_cloud();
    world.until(Phase::Canary);
    world.seen("cloud").requests = 20;
    world.seen("cloud").errors = 1;
    world.until(Phase::Steady);
    world.seen("cloud").errors = 0;
    let begun = world.now;
    for passed in [0, 299] {
        led_by_another(&mut world, begun, passed);
        assert_eq!(world.phase(), Phase::Steady, "after {passed} s");
    }
    led_by_another(&mut world, begun, 300);
    assert_eq!(world.phase(), Phase::Preparing);
}

#[test]
fn a_move_that_cost_alone_speaks_for_waits_until_its_dwell_was_seen() {
    let mut world = moving_to_cloud();
    let view = View {
        not_before: Some(at(100)),
        ..world.view(world.placement.as_ref())
    };
    let advance = advance(view);
    let held = advance.held.and_then(|held| held.until);
    assert_eq!(held, Some(at(100)));
    assert_eq!(advance.deadline, Some(at(100)));
    assert_eq!(advance.transitions, []);
    world.until(Phase::Preparing);
}

#[test]
fn errors_on_the_new_target_roll_the_move_back_and_keep_it_away_for_a_while() {
    let mut world = moving_to_cloud();
    world.until(Phase::Canary);
    world.seen("cloud").requests = 20;
    world.seen("cloud").errors = 1;
    world.pass(1);
    assert_eq!(world.phase(), Phase::RollingBack);
    assert_eq!(world.shares(), [("a".to_owned(), 100)]);
    world.until(Phase::Steady);
    world.seen("cloud").errors = 0;
    assert_eq!(world.history[0].reason, ROLLED_BACK);
    let rolled_back = world
        .placement
        .as_ref()
        .and_then(|placement| placement.rolled_back.clone());
    assert_eq!(rolled_back.map(|back| back.attempts), Some(1));
    assert!(
        world
            .advance()
            .held
            .is_some_and(|held| held.until.is_some())
    );
    world.pass(200);
    assert_eq!(world.phase(), Phase::Steady);
    world.pass(200);
    assert_eq!(world.phase(), Phase::Preparing);
    world.until(Phase::Steady);
    let placement = world.placement.as_ref().expect("placed");
    assert_eq!(
        (placement.target.as_str(), &placement.rolled_back),
        ("cloud", &None)
    );
}

#[rstest]
#[case(4, 4, Phase::Canary)]
#[case(5, 1, Phase::RollingBack)]
#[case(100, 1, Phase::Canary)]
#[case(100, 2, Phase::RollingBack)]
fn a_share_of_errors_is_taken_from_enough_requests(
    #[case] requests: u64,
    #[case] errors: u64,
    #[case] phase: Phase,
) {
    let mut world = moving_to_cloud();
    world.until(Phase::Canary);
    world.seen("cloud").requests = requests;
    world.seen("cloud").errors = errors;
    world.pass(1);
    assert_eq!(world.phase(), phase);
}

#[test]
fn roll_backs_in_a_row_pause_ever_longer() {
    let pauses: Vec<i64> = (1..=9)
        .map(|attempts| roll_back_pause(attempts).as_secs() / 60)
        .collect();
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 360, 360]);
}

#[test]
fn a_target_that_cannot_load_is_given_up_before_it_had_traffic() {
    let mut world = placed_on_a();
    world.wish = wish(Some("b"), true, &ALL);
    world.seen("b").usable = Usable::No;
    world.seen("b").failure = Some(Failure {
        reason: "ChecksumMismatch".into(),
        message: "other bytes".into(),
        lasting: true,
        without_node: false,
        of_engine: true,
    });
    world.pass(1);
    assert_eq!(world.deployments["b"], 1);
    world.pass(59);
    assert_eq!(world.phase(), Phase::Preparing);
    world.pass(2);
    assert_eq!(world.phase(), Phase::Steady);
    assert_eq!(world.shares(), [("a".to_owned(), 100)]);
    assert_eq!(world.deployments["b"], 0);
    assert_eq!(world.history[0].reason, ROLLED_BACK);
}

#[test]
fn a_target_whose_nodes_are_to_come_has_their_time_on_top() {
    let given_up_after = |patience| {
        let mut world = placed_on_a();
        world.wish = wish(Some("b"), true, &ALL);
        let failure = Failure {
            reason: "WaitingForNode".to_owned(),
            message: "m".to_owned(),
            lasting: false,
            of_engine: false,
            without_node: false,
        };
        let seen = world.seen("b");
        (seen.usable, seen.failure, seen.patience) = (Usable::No, Some(failure), patience);
        world.reconcile();
        let mut minutes = 0;
        while world.phase() == Phase::Preparing && minutes < 60 {
            world.pass(60);
            minutes += 1;
        }
        minutes
    };
    assert_eq!(given_up_after(SignedDuration::ZERO), 20);
    assert_eq!(given_up_after(SignedDuration::from_mins(3)), 23);
}

#[test]
fn a_local_target_gets_traffic_when_every_gateway_is_heard_and_has_an_endpoint_of_it() {
    let mut world = placed_on_a();
    world.wish = wish(Some("b"), true, &ALL);
    world.seen("b").usable = Usable::Unreached;
    for _ in 0..100 {
        world.pass(1);
        assert_eq!(world.phase(), Phase::Preparing, "a gateway has no endpoint");
    }
    world.seen("b").usable = Usable::Yes;
    world.observed.acknowledged = Acknowledgement::Waiting(vec!["gateway".into()]);
    world.pass(1);
    assert_eq!(world.phase(), Phase::Preparing, "a gateway is not heard");
    world.observed.acknowledged = Acknowledgement::All;
    world.pass(1);
    assert_eq!(world.phase(), Phase::Canary);
}

#[test]
fn an_endpoint_that_a_gateway_lacks_rolls_nothing_back_for_its_own_sake() {
    let mut world = placed_on_a();
    world.wish = wish(Some("b"), true, &ALL);
    world.until(Phase::Canary);
    world.seen("b").usable = Usable::Unreached;
    world.pass(1);
    assert_eq!(world.phase(), Phase::Canary);
    world.seen("b").usable = Usable::No;
    world.pass(1);
    assert_eq!(world.phase(), Phase::RollingBack);
}

#[test]
fn a_target_that_lost_its_right_is_left_at_once_and_released_after_acknowledgement() {
    let mut world = placed_on_a();
    world.seen("b").usable = Usable::No;
    world.wish = wish(Some("b"), true, &["b", "cloud"]);
    world.observed.acknowledged = Acknowledgement::Waiting(Vec::new());
    let placement = world.pass(1).clone();
    assert_eq!(placement.phase, Phase::Draining);
    assert!(placement.weights.iter().all(|weight| weight.target != "a"));
    assert_eq!(world.shares(), [("b".to_owned(), 100)]);
    world.pass(600);
    assert_eq!(
        world.deployments["a"], 1,
        "no gateway said that it stopped using it"
    );
    world.observed.acknowledged = Acknowledgement::All;
    world.until(Phase::Steady);
    world.pass(1);
    world.pass(1);
    assert_eq!(world.deployments["a"], 0);
}

#[test]
fn without_any_lawful_target_nothing_is_served() {
    let mut world = placed_on_a();
    world.wish = wish(None, false, &[]);
    let placement = world.pass(1);
    assert!(placement.weights.is_empty());
    let step = placement.step;
    assert_eq!(world.pass(1).step, step);
    world.wish = wish(Some("a"), false, &ALL);
    world.pass(1);
    assert_eq!(world.shares(), [("a".to_owned(), 100)]);
}

#[test]
fn a_move_whose_target_is_no_longer_wished_for_returns_without_blame() {
    let mut world = moving_to_cloud();
    world.until(Phase::Canary);
    world.wish = wish(Some("a"), false, &ALL);
    world.pass(1);
    assert_eq!(world.phase(), Phase::RollingBack);
    world.until(Phase::Steady);
    assert_eq!(world.history[0].reason, ABANDONED);
    let placement = world.placement.as_ref().expect("placed");
    assert_eq!(placement.rolled_back, None);
}

#[test]
fn an_old_target_that_no_longer_serves_is_not_held_on_to_for_a_canary() {
    let mut world = moving_to_cloud();
    world.seen("a").usable = Usable::No;
    world.pass(1);
    world.pass(1);
    assert_eq!(world.phase(), Phase::Draining);
    assert_eq!(world.shares(), [("cloud".to_owned(), 100)]);
}

#[test]
fn a_suspended_workload_neither_moves_nor_scales() {
    let mut world = moving_to_cloud();
    world.until(Phase::Canary);
    world.rules.suspend = true;
    let before = world.placement.clone();
    world.pass(1);
    let settled = world.placement.clone();
    for _ in 0..50 {
        world.pass(60);
    }
    assert_eq!(world.placement, settled);
    assert_eq!(
        before.map(|placement| placement.weights),
        settled.map(|placement| placement.weights)
    );
}

#[test]
fn a_sleeping_target_wakes_for_a_request_and_falls_asleep_again() {
    let mut world = moving_to_cloud();
    world.until(Phase::Canary);
    world.until(Phase::Steady);
    world.pass(20);
    assert_eq!(world.deployments["a"], 0);
    world.seen("a").woken = Some(world.now);
    let step = world.placement.as_ref().map(|placement| placement.step);
    world.pass(1);
    assert_eq!(world.deployments["a"], 1);
    assert_ne!(
        world.placement.as_ref().map(|placement| placement.step),
        step
    );
    world.pass(20);
    assert_eq!(world.deployments["a"], 0);
}

#[test]
fn a_new_generation_is_a_new_step() {
    let mut world = placed_on_a();
    let before = world.pass(1).clone();
    world.generation = 2;
    let placement = world.pass(1);
    assert_eq!((placement.generation, placement.step), (2, before.step + 1));
}

#[test]
fn an_unchanged_world_orders_nothing() {
    let mut world = placed_on_a();
    let before = world.pass(1).clone();
    for _ in 0..100 {
        assert_eq!(*world.pass(600), before);
    }
}

#[test]
fn a_process_that_ends_at_any_write_is_continued_to_the_same_end() {
    let ends: Vec<_> = (0..12)
        .map(|crash| {
            let mut world = moving_to_cloud();
            let mut writes = 0;
            for _ in 0..60 {
                world.now = after(world.now, seconds(1));
                let before = world.told.len() + world.history.len();
                if writes == crash {
                    // The process ends after the first write of this pass, and the next one starts over.
                    world.reconcile_until(1);
                } else {
                    world.reconcile();
                }
                writes += usize::from(world.told.len() + world.history.len() > before);
            }
            let placement = world.placement.expect("placed");
            let entries: Vec<_> = world.history.iter().map(|entry| entry.to.clone()).collect();
            (
                placement.target,
                placement.phase,
                placement.step,
                world.deployments,
                entries,
            )
        })
        .collect();
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:#?}");
}

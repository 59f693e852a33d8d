//! Fleets: how close decisions come to hindsight, and that they see nothing of what comes later.

use proptest::prelude::*;
use weir_backtest::bundle::{Bundle, FleetBundle, FleetHour};
use weir_backtest::fleet::{FleetReplay, replay};
use weir_placement::NonNegative;

use crate::folder::bundles;

fn fleets() -> Vec<(String, FleetBundle, f64)> {
    let fleet = |recorded: crate::folder::Recorded| match recorded.bundle {
        Bundle::Fleet(fleet) => {
            let optimum = recorded.text["reference"]["optimumSavedUsd"].as_f64();
            Some((recorded.name, fleet, optimum.unwrap_or(f64::INFINITY)))
        }
        Bundle::Workload(_) => None,
    };
    let fleets: Vec<_> = bundles().into_iter().filter_map(fleet).collect();
    assert!(
        !fleets.is_empty(),
        "the folder holds no bundle of kind fleet"
    );
    fleets
}

/// Replicas that are started, for each GPU and day.
fn moves_per_gpu_day(bundle: &FleetBundle, replay: &FleetReplay) -> f64 {
    let mut moves = 0;
    for (hour, decision) in replay.decisions.iter().enumerate() {
        for (id, replicas) in &decision.replicas {
            let before = hour
                .checked_sub(1)
                .map(|hour| &replay.decisions[hour].replicas);
            let held = before
                .and_then(|before| before.get(id))
                .copied()
                .unwrap_or(0);
            moves += replicas.saturating_sub(held);
        }
    }
    let days = replay.decisions.len() as f64 / 24.0;
    f64::from(moves) / f64::from(bundle.gpus) / days
}

#[test]
fn savings_come_as_close_to_the_optimum_as_was_promised() {
    let promised = [("f0", 0.96), ("f1", 0.975), ("f5", 0.88)];
    for (name, bundle, optimum) in fleets() {
        let share = replay(&bundle).accounting.saved_usd / optimum;
        let least = promised.iter().find(|(promised, _)| *promised == name);
        // A bundle that nothing was promised of is still far better served than by chance.
        let least = least.map_or(0.7, |(_, least)| *least);
        assert!(
            share >= least && share <= 1.001,
            "{name}: {share:.4} of the optimum, {least} was promised"
        );
    }
}

#[test]
fn no_gpu_moves_more_than_four_times_a_day() {
    for (name, bundle, _) in fleets() {
        let moves = moves_per_gpu_day(&bundle, &replay(&bundle));
        assert!(moves <= 4.0, "{name}: {moves:.2} moves per GPU and day");
    }
}

fn any_future() -> impl Strategy<Value = Vec<FleetHour>> {
    let amount = |value: f64| NonNegative::new(value).unwrap_or(NonNegative::ZERO);
    let hour = (0.0..5.0, 0.0..500.0).prop_map(move |(need, usd)| FleetHour {
        replicas_needed: amount(need),
        cloud_usd: amount(usd),
    });
    proptest::collection::vec(hour, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(16) })]

    #[test]
    fn decisions_do_not_see_what_comes_later(cut in any::<prop::sample::Index>(), future in any_future()) {
        for (name, bundle, _) in fleets() {
            let hours = bundle.workloads.first().map_or(0, |workload| workload.hours.len());
            let cut = cut.index(hours.max(1));
            let mut other = bundle.clone();
            for (turn, workload) in other.workloads.iter_mut().enumerate() {
                let shift = turn % future.len().max(1);
                workload.hours.truncate(cut);
                workload.hours.extend_from_slice(&future);
                workload.hours[cut..].rotate_left(shift);
            }
            let (before, after) = (replay(&bundle), replay(&other));
            let same = (cut + 1).min(after.decisions.len()).min(before.decisions.len());
            prop_assert_eq!(&before.decisions[..same], &after.decisions[..same], "{} from hour {}", name, cut);
        }
    }
}

#[test]
fn the_order_in_which_workloads_are_listed_changes_nothing() {
    for (name, bundle, _) in fleets() {
        let mut reversed = bundle.clone();
        reversed.workloads.reverse();
        assert_eq!(
            replay(&bundle).decisions,
            replay(&reversed).decisions,
            "{name}"
        );
    }
}

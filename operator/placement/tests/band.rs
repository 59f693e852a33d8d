//! A policy's utilization band: what is above it for its window moves out, what is below it comes back, and nothing else moves.

#[path = "decisions/builders.rs"]
#[allow(dead_code)]
mod builders;

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use weir_placement::*;

use builders::*;

const MINUTE: i64 = 60;

/// Out from 80 % on, back from 40 % down, each for ten minutes; prompt otherwise.
fn banded() -> PlacementPolicy {
    PlacementPolicy {
        utilization_band: Some(UtilizationBand {
            spill_above: Percent::clamped(80),
            pull_back_below: Percent::clamped(40),
            window: Seconds::clamped(600),
        }),
        ..prompt_policy()
    }
}

/// A workload for which the cluster is cheaper, on its way through time: moves are carried out at once.
struct Life {
    snapshot: FleetSnapshot,
    previous: Plan,
    now: i64,
    moves: Vec<(i64, String)>,
    last: Option<Decision>,
}

impl Life {
    fn on(target: &str) -> Self {
        let mut snapshot = fleet(hybrid(3_000_000));
        let workload = only(&mut snapshot);
        workload.current = Some(placed(target, at(0)));
        workload.max_moves_per_week = None;
        Self {
            snapshot,
            previous: Plan::default(),
            now: 0,
            moves: Vec::new(),
            last: None,
        }
    }

    fn see(&mut self, occupancy: Option<u64>) {
        let tier = self.snapshot.tiers.get_mut(TIER).expect("the tier");
        tier.occupancy = occupancy.map(|percent| Percent::clamped(percent.into()));
        let decision = decide_after(&self.snapshot, banded(), &self.previous, at(self.now));
        if decision.outcome == Outcome::Move {
            let target = decision.target.clone().expect("a target");
            only(&mut self.snapshot).current = Some(placed(&target, at(self.now)));
            self.moves.push((self.now, target));
        }
        self.previous = plan_of(&decision);
        self.last = Some(decision);
    }

    /// Sees the same for so long, once a minute.
    fn pass(&mut self, minutes: i64, occupancy: Option<u64>) {
        for _ in 0..minutes {
            self.see(occupancy);
            self.now += MINUTE;
        }
    }

    fn ways(&self) -> Vec<&str> {
        self.moves
            .iter()
            .map(|(_, target)| target.as_str())
            .collect()
    }
}

#[test]
fn a_tier_that_is_too_full_for_the_window_is_left_and_come_back_to_when_it_is_not() {
    let mut life = Life::on(LOCAL);
    life.pass(10, Some(80));
    assert!(life.moves.is_empty());
    life.see(Some(80));
    assert_eq!(life.ways(), [CLOUD]);
    let decision = life.last.take().expect("a decision");
    assert_eq!(decision.reason, Reason::UtilizationAboveBand);
    let why = "tier l4 was used to 80 % or more for 600 s";
    assert!(decision.message.starts_with(why), "{}", decision.message);
    // Between the two it stays, although the cluster is cheaper.
    life.pass(60, Some(60));
    let held = life.last.take().expect("a decision");
    assert_eq!(
        (held.outcome, held.reason),
        (Outcome::Hold, Reason::UtilizationAboveBand)
    );
    life.pass(10, Some(40));
    assert_eq!(life.ways(), [CLOUD]);
    life.see(Some(40));
    assert_eq!(life.ways(), [CLOUD, LOCAL]);
}

#[test]
fn what_is_unknown_moves_nothing_out_and_nothing_back() {
    let mut life = Life::on(LOCAL);
    life.pass(9, Some(90));
    life.see(None);
    life.pass(10, Some(90));
    assert!(life.moves.is_empty());
    life.pass(2, Some(90));
    assert_eq!(life.ways(), [CLOUD]);
    life.pass(600, None);
    assert_eq!(life.ways(), [CLOUD]);
}

#[test]
fn a_tier_that_is_too_full_is_not_left_for_a_target_that_cannot_be_relied_on() {
    let mut life = Life::on(LOCAL);
    let price = &mut cloud_of(only(&mut life.snapshot)).price;
    price.as_mut().expect("a price").state = PriceState::Stale;
    life.pass(60, Some(100));
    assert!(life.moves.is_empty());
}

#[test]
fn the_window_is_due_by_itself_and_survives_a_restart() {
    let mut life = Life::on(LOCAL);
    life.pass(5, Some(90));
    let decision = life.last.clone().expect("a decision");
    assert_eq!(decision.next_evaluation, Some(at(600)));
    let since = Some(at(0));
    let stands = TierBand {
        busy: false,
        beyond_since: since,
    };
    assert_eq!(decision.bands, BTreeMap::from([(TIER.to_owned(), stands)]));
    let remembered = Remembered {
        id: decision.id.clone(),
        trigger: decision.trigger,
        outcome: decision.outcome,
        reason: decision.reason,
        message: decision.message.clone(),
        target: decision.target.clone(),
        inputs: decision.inputs.clone(),
        weighted_targets: vec![LOCAL.to_owned(), CLOUD.to_owned()],
        confirmation: decision.confirmation.clone(),
        bands: decision.bands.clone(),
    };
    life.previous = plan_of(&remembered.recall());
    life.now = 600;
    life.see(Some(90));
    assert_eq!(life.ways(), [CLOUD]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Two days of minutes, with whatever noise there is between the thresholds, from either side.
    #[test]
    fn between_the_thresholds_nothing_moves_for_two_days(
        readings in vec(prop_oneof![Just(None), (41..80_u64).prop_map(Some)], 2 * 24 * 60), was_full in any::<bool>()
    ) {
        let mut life = Life::on(LOCAL);
        life.pass(if was_full { 11 } else { 0 }, Some(100));
        let before = life.moves.len();
        for reading in readings {
            life.see(reading);
            life.now += MINUTE;
        }
        prop_assert_eq!(life.moves.len(), before);
    }

    /// Peaks and lows that are shorter than the window move nothing either.
    #[test]
    fn what_is_shorter_than_the_window_moves_nothing(
        runs in vec((0..10_i64, any::<bool>()), 1..200)
    ) {
        let mut life = Life::on(LOCAL);
        for (minutes, high) in runs {
            life.pass(minutes, Some(if high { 100 } else { 0 }));
            life.pass(1, Some(60));
        }
        prop_assert!(life.moves.is_empty());
    }

    /// However full it is and for how long: no two moves are closer than the window.
    #[test]
    fn moves_are_a_window_apart(readings in vec((0..30_i64, 0..=100_u64), 1..60)) {
        let mut life = Life::on(LOCAL);
        for (minutes, reading) in readings {
            life.pass(minutes, Some(reading));
        }
        for pair in life.moves.windows(2) {
            prop_assert!(pair[1].0 - pair[0].0 >= 600, "{:?}", life.moves);
        }
    }
}

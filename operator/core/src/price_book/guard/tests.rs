//! What is believed of a reading, and what waits.

use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits {
    max_ratio_micros: 2_000_000,
    confirm_for: SignedDuration::from_hours(24),
};

fn at(hours: i64) -> Timestamp {
    Timestamp::from_second(hours * 3600).expect("in range")
}

fn price(input: u64) -> ModelPrice {
    let base = TierPrice {
        input,
        output: 2 * input,
        ..TierPrice::default()
    };
    ModelPrice {
        base,
        ..ModelPrice::default()
    }
}

fn document(price: Option<ModelPrice>) -> Document {
    Document {
        prices: price
            .map(|price| ("m".to_owned(), price))
            .into_iter()
            .collect(),
        ..Document::default()
    }
}

fn wanted() -> BTreeSet<String> {
    BTreeSet::from(["m".to_owned()])
}

/// Judges readings one after the other, each with its hour.
fn follow(readings: &[(i64, Option<ModelPrice>)]) -> Belief {
    let mut belief = Belief::default();
    for (hour, reading) in readings {
        belief = judge(
            &belief,
            &document(reading.clone()),
            &wanted(),
            LIMITS,
            at(*hour),
        )
        .0;
    }
    belief
}

#[test]
fn a_change_within_the_ratio_is_believed_at_once() {
    let belief = follow(&[(0, Some(price(1_000_000))), (1, Some(price(1_800_000)))]);
    assert_eq!(belief.prices["m"], price(1_800_000));
    assert!(belief.held.is_empty());
}

#[test]
fn a_fall_and_a_rise_beyond_the_ratio_are_held_alike() {
    for changed in [499_999, 2_000_001] {
        let belief = follow(&[(0, Some(price(1_000_000))), (1, Some(price(changed)))]);
        assert_eq!(belief.prices["m"], price(1_000_000));
        assert!(belief.held.contains_key("m"), "{changed}");
    }
}

#[test]
fn a_held_price_is_believed_after_two_more_fetches_over_the_time() {
    let start = [(0, Some(price(1_000_000))), (1, Some(price(9_000_000)))];
    let soon = [
        start.as_slice(),
        &[(2, Some(price(9_000_000))), (3, Some(price(9_000_000)))],
    ]
    .concat();
    assert_eq!(follow(&soon).prices["m"], price(1_000_000));
    let once = [start.as_slice(), &[(30, Some(price(9_000_000)))]].concat();
    assert_eq!(follow(&once).prices["m"], price(1_000_000));
    let confirmed = [
        start.as_slice(),
        &[(12, Some(price(9_000_000))), (26, Some(price(9_000_000)))],
    ]
    .concat();
    assert_eq!(follow(&confirmed).prices["m"], price(9_000_000));
}

#[test]
fn another_suspect_price_starts_anew() {
    let belief = follow(&[
        (0, Some(price(1_000_000))),
        (1, Some(price(9_000_000))),
        (12, Some(price(8_000_000))),
        (26, Some(price(9_000_000))),
    ]);
    assert_eq!(belief.held["m"].confirmations, 0);
    assert_eq!(belief.prices["m"], price(1_000_000));
}

#[test]
fn a_price_that_returns_to_the_old_one_is_no_longer_held() {
    let belief = follow(&[
        (0, Some(price(1_000_000))),
        (1, Some(price(0))),
        (2, Some(price(1_000_000))),
    ]);
    assert!(belief.held.is_empty());
}

#[test]
fn a_zero_a_thousandfold_and_a_vanished_model_are_held() {
    for reading in [Some(price(0)), Some(price(1_000_000_000)), None] {
        let belief = follow(&[(0, Some(price(1_000_000))), (1, reading.clone())]);
        assert_eq!(belief.prices["m"], price(1_000_000), "{reading:?}");
        let seen = reading.map_or(Seen::Nothing, Seen::Price);
        assert_eq!(belief.held["m"].seen, seen);
    }
}

#[test]
fn a_first_reading_that_is_implausible_gives_no_price() {
    for reading in [price(0), price(1_000_000_000_000)] {
        let belief = follow(&[(0, Some(reading))]);
        assert!(belief.prices.is_empty());
        assert!(belief.held.contains_key("m"));
    }
}

/// With a surcharge for long prompts and a discount for batches.
fn detailed(long: u64, discount: u64) -> ModelPrice {
    let tier = TierPrice {
        input: long,
        output: 2 * long,
        ..TierPrice::default()
    };
    ModelPrice {
        batch_discount_percent: Some(discount),
        context_tiers: BTreeMap::from([(200_000, tier)]),
        ..price(1_000_000)
    }
}

#[test]
fn prices_of_long_prompts_and_of_batches_are_guarded_too() {
    let before = detailed(2_000_000, 50);
    let after = |reading: ModelPrice| follow(&[(0, Some(before.clone())), (1, Some(reading))]);
    for believed in [
        detailed(4_000_000, 50),
        detailed(2_000_000, 75),
        detailed(2_000_000, 0),
    ] {
        assert_eq!(after(believed.clone()).prices["m"], believed);
    }
    for suspect in [
        detailed(4_000_001, 50),
        detailed(999_999, 50),
        detailed(2_000_000, 76),
        detailed(2_000_000, 100),
    ] {
        let belief = after(suspect);
        assert_eq!(belief.prices["m"], before);
        assert!(belief.held.contains_key("m"));
    }
    let belief = after(price(900_000));
    assert!(
        belief.held["m"].reason.contains("above 200000 tokens"),
        "{:?}",
        belief.held
    );
}

#[test]
fn an_unreadable_row_keeps_the_old_price_for_good() {
    let mut belief = follow(&[(0, Some(price(1_000_000)))]);
    let broken = Document {
        rejected: BTreeMap::from([("m".to_owned(), "NaN".to_owned())]),
        ..Document::default()
    };
    for hour in 1..100 {
        belief = judge(&belief, &broken, &wanted(), LIMITS, at(hour)).0;
    }
    assert_eq!(belief.prices["m"], price(1_000_000));
}

#[test]
fn a_row_that_could_not_be_read_confirms_nothing_when_it_vanishes() {
    let belief = follow(&[(0, Some(price(1_000_000)))]);
    let broken = Document {
        rejected: BTreeMap::from([("m".to_owned(), "NaN".to_owned())]),
        ..Document::default()
    };
    let unreadable = |belief: &Belief, hour| judge(belief, &broken, &wanted(), LIMITS, at(hour)).0;
    let belief = (1..40).fold(belief, |belief, hour| unreadable(&belief, hour));
    let gone = judge(&belief, &document(None), &wanted(), LIMITS, at(41)).0;
    assert_eq!(gone.prices["m"], price(1_000_000));
    assert_eq!(gone.held["m"].confirmations, 0);
}

#[test]
fn a_fee_a_cache_and_reasoning_are_guarded_too() {
    let before = price(1_000_000);
    let with = |change: fn(&mut ModelPrice)| {
        let mut after = before.clone();
        change(&mut after);
        follow(&[(0, Some(before.clone())), (1, Some(after))]).held
    };
    assert!(with(|price| price.per_request = 5_000_000_000).contains_key("m"));
    assert!(with(|price| price.base.cache_write = Some(3_000_000)).contains_key("m"));
    assert!(with(|price| price.base.reasoning = Some(9_000_000)).contains_key("m"));
    assert!(with(|price| price.base.cache_write = Some(1_250_000)).is_empty());
}

#[test]
fn what_a_person_confirms_is_believed_at_once_and_nothing_else() {
    for reading in [Some(price(9_000_000)), None] {
        let held = follow(&[(0, Some(price(1_000_000))), (1, reading.clone())]);
        let (other, none) = confirm(&held, |_, _| false);
        assert_eq!((other, none.len()), (held.clone(), 0));
        let (belief, changes) = confirm(&held, |model, _| model == "m");
        assert_eq!(belief.prices.get("m"), reading.as_ref());
        assert!(belief.held.is_empty());
        assert_eq!(changes.len(), 1);
        let (again, changes) = judge(&belief, &document(reading), &wanted(), LIMITS, at(2));
        assert_eq!((again, changes.len()), (belief, 0));
    }
}

#[test]
fn a_row_that_cannot_be_read_has_nothing_to_confirm() {
    let broken = Document {
        rejected: BTreeMap::from([("m".to_owned(), "NaN".to_owned())]),
        ..Document::default()
    };
    let before = follow(&[(0, Some(price(1_000_000)))]);
    let (held, _) = judge(&before, &broken, &wanted(), LIMITS, at(1));
    assert_eq!(confirm(&held, |_, _| true), (held.clone(), Vec::new()));
}

#[test]
fn an_announced_price_holds_from_its_moment_on() {
    let announced = ModelPrice {
        upcoming: BTreeMap::from([(at(10), price(1_500_000))]),
        ..price(1_000_000)
    };
    let read = document(Some(announced));
    let believed = |belief: &Belief, hour| judge(belief, &read, &wanted(), LIMITS, at(hour)).0;
    let before = believed(&Belief::default(), 9);
    assert_eq!(before.prices["m"], price(1_000_000));
    assert_eq!(read.next_change(&wanted(), at(9)), Some(at(10)));
    let after = believed(&before, 10);
    assert_eq!(after.prices["m"], price(1_500_000));
    assert_eq!(read.next_change(&wanted(), at(10)), None);
}

proptest! {
    #[test]
    fn a_believed_price_never_jumps_without_confirmation(readings in proptest::collection::vec(0u64..5_000_000, 1..20)) {
        let mut belief = Belief::default();
        for (minute, reading) in readings.iter().enumerate() {
            // All within the first hour, so nothing can be confirmed.
            let now = Timestamp::from_second(60 * minute as i64).expect("in range");
            let before = belief.clone();
            belief = judge(&before, &document(Some(price(*reading))), &wanted(), LIMITS, now).0;
            if let (Some(old), Some(new)) = (before.prices.get("m"), belief.prices.get("m")) {
                prop_assert!(new.base.input <= 2 * old.base.input && old.base.input <= 2 * new.base.input);
            }
        }
    }

    #[test]
    fn judging_the_same_document_again_changes_no_price(first in 1u64..5_000_000, second in 0u64..5_000_000) {
        let one = follow(&[(0, Some(price(first))), (1, Some(price(second)))]);
        let two = follow(&[(0, Some(price(first))), (1, Some(price(second))), (2, Some(price(second)))]);
        prop_assert_eq!(one.prices, two.prices);
    }
}

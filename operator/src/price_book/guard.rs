//! Pure: what of a read document to believe. A large change either way, a zero, an implausible price and a vanished
//! model are held, the old price kept, until further fetches confirm them for long enough.

use super::parse::{Document, IMPLAUSIBLE, ModelPrice};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Fetches that must show a held price again before it is believed.
const CONFIRMATIONS: u32 = 2;

/// When a change is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Ratio of the larger to the smaller price above which a change is held, in millionths.
    pub max_ratio_micros: u64,
    /// How long a held price must be seen.
    pub confirm_for: SignedDuration,
}

/// What is believed, and what waits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Belief {
    /// Believed prices by model.
    pub prices: BTreeMap<String, ModelPrice>,
    /// Held readings by model.
    pub held: BTreeMap<String, Held>,
}

/// A reading that is not believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What was read; `None`: the model was gone.
    pub read: Option<ModelPrice>,
    /// Why it is held, with both numbers.
    pub reason: String,
    /// When it was read first.
    pub since: Timestamp,
    /// Fetches that showed it again.
    pub confirmations: u32,
}

/// A change that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The model.
    pub model: String,
    /// Its price before.
    pub from: Option<ModelPrice>,
    /// Its price now.
    pub to: Option<ModelPrice>,
}

/// Judges one fetch. Only models in `wanted` are judged: the others do not matter to any provider.
pub fn judge(
    before: &Belief,
    read: &Document,
    wanted: &BTreeSet<String>,
    limits: Limits,
    now: Timestamp,
) -> (Belief, Vec<Change>) {
    let mut belief = Belief::default();
    let mut changes = Vec::new();
    for model in wanted {
        let old = before.prices.get(model).copied();
        let new = read.prices.get(model).copied();
        let suspicion = match read.rejected.get(model) {
            Some(reason) => Some(format!("the row cannot be read: {reason}")),
            None => suspicion(old, new, limits.max_ratio_micros),
        };
        let Some(reason) = suspicion else {
            accept(&mut belief, &mut changes, model, old, new);
            continue;
        };
        let held = confirm(before.held.get(model), new, reason, now);
        let unreadable = read.rejected.contains_key(model);
        let seen_long_enough = now.duration_since(held.since) >= limits.confirm_for;
        if !unreadable && held.confirmations >= CONFIRMATIONS && seen_long_enough {
            accept(&mut belief, &mut changes, model, old, new);
            continue;
        }
        belief.prices.extend(old.map(|old| (model.clone(), old)));
        belief.held.insert(model.clone(), held);
    }
    (belief, changes)
}

fn accept(
    belief: &mut Belief,
    changes: &mut Vec<Change>,
    model: &str,
    from: Option<ModelPrice>,
    to: Option<ModelPrice>,
) {
    belief.prices.extend(to.map(|to| (model.to_owned(), to)));
    if from != to {
        changes.push(Change {
            model: model.to_owned(),
            from,
            to,
        });
    }
}

/// A reading that was held before and is read again counts as confirmed; another one starts anew.
fn confirm(
    before: Option<&Held>,
    read: Option<ModelPrice>,
    reason: String,
    now: Timestamp,
) -> Held {
    match before {
        Some(held) if held.read == read => Held {
            // More says nothing more, and each count would be a write.
            confirmations: (held.confirmations + 1).min(CONFIRMATIONS),
            ..held.clone()
        },
        _ => Held {
            read,
            reason,
            since: now,
            confirmations: 0,
        },
    }
}

/// Why a reading is not believed at once.
fn suspicion(old: Option<ModelPrice>, new: Option<ModelPrice>, max_ratio: u64) -> Option<String> {
    let (old, new) = match (old, new) {
        (None, None) => return None,
        (Some(_), None) => return Some("the model is gone from the source".to_owned()),
        (None, Some(new)) => return implausible(&new),
        (Some(old), Some(new)) => (old, new),
    };
    if old == new {
        return None;
    }
    let cached = |price: &ModelPrice| price.cached_input.unwrap_or(price.input);
    let parts = [
        ("input", old.input, new.input),
        ("cached input", cached(&old), cached(&new)),
        ("output", old.output, new.output),
    ];
    parts
        .into_iter()
        .find_map(|(part, old, new)| jump(part, old, new, max_ratio))
        .or_else(|| {
            if old.input == new.input && old.output == new.output {
                None
            } else {
                implausible(&new)
            }
        })
}

fn jump(part: &str, old: u64, new: u64, max_ratio: u64) -> Option<String> {
    let (small, large) = (old.min(new), old.max(new));
    let beyond = u128::from(large) * 1_000_000 > u128::from(small) * u128::from(max_ratio);
    if old == new || !beyond {
        return None;
    }
    let usd = weir_crds::quantity::decimal;
    Some(format!(
        "{part} price {} USD per 1M tokens against {} before: more than {} times",
        usd(new),
        usd(old),
        usd(max_ratio)
    ))
}

fn implausible(new: &ModelPrice) -> Option<String> {
    let usd = weir_crds::quantity::decimal;
    if new.input == 0 && new.output == 0 {
        return Some("both prices are 0".to_owned());
    }
    let dearest = new.input.max(new.output);
    (dearest > IMPLAUSIBLE).then(|| {
        format!(
            "{} USD per 1M tokens is more than {}: probably a mistake of units",
            usd(dearest),
            usd(IMPLAUSIBLE)
        )
    })
}

#[cfg(test)]
mod tests {
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
        ModelPrice {
            input,
            cached_input: None,
            output: 2 * input,
        }
    }

    fn document(price: Option<ModelPrice>) -> Document {
        Document {
            prices: price
                .map(|price| ("m".to_owned(), price))
                .into_iter()
                .collect(),
            rejected: BTreeMap::new(),
        }
    }

    fn wanted() -> BTreeSet<String> {
        BTreeSet::from(["m".to_owned()])
    }

    /// Judges readings one after the other, each with its hour.
    fn follow(readings: &[(i64, Option<ModelPrice>)]) -> Belief {
        let mut belief = Belief::default();
        for (hour, reading) in readings {
            belief = judge(&belief, &document(*reading), &wanted(), LIMITS, at(*hour)).0;
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
            let belief = follow(&[(0, Some(price(1_000_000))), (1, reading)]);
            assert_eq!(belief.prices["m"], price(1_000_000), "{reading:?}");
            assert_eq!(belief.held["m"].read, reading);
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

    #[test]
    fn an_unreadable_row_keeps_the_old_price_for_good() {
        let mut belief = follow(&[(0, Some(price(1_000_000)))]);
        let broken = Document {
            prices: BTreeMap::new(),
            rejected: BTreeMap::from([("m".to_owned(), "NaN".to_owned())]),
        };
        for hour in 1..100 {
            belief = judge(&belief, &broken, &wanted(), LIMITS, at(hour)).0;
        }
        assert_eq!(belief.prices["m"], price(1_000_000));
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
                    prop_assert!(new.input <= 2 * old.input && old.input <= 2 * new.input);
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
}

//! Pure: what of a read document to believe. A large change either way, a zero, an implausible price and a vanished
//! model are held, the old price kept, until further fetches confirm them for long enough.

use super::parse::{Document, IMPLAUSIBLE, IMPLAUSIBLE_FEE, ModelPrice, TierPrice};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use weir_crds::text;

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

/// What a source has for a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A price.
    Price(ModelPrice),
    /// No row.
    Nothing,
    /// A row that cannot be read. It never replaces a price.
    Unreadable,
}

/// A reading that is not believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// What was read.
    pub seen: Seen,
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

/// Takes held readings that a person confirmed as believed. A row that cannot be read has nothing to confirm.
pub fn confirm(
    before: &Belief,
    is_confirmed: impl Fn(&str, &Held) -> bool,
) -> (Belief, Vec<Change>) {
    let mut belief = before.clone();
    let mut changes = Vec::new();
    for (model, held) in &before.held {
        let to = match &held.seen {
            Seen::Price(price) => Some(price.clone()),
            Seen::Nothing => None,
            Seen::Unreadable => continue,
        };
        if is_confirmed(model, held) {
            belief.held.remove(model);
            let from = belief.prices.remove(model);
            accept(&mut belief, &mut changes, model, from, to);
        }
    }
    (belief, changes)
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
        let old = before.prices.get(model).cloned();
        let new = read.prices.get(model).map(|price| price.at(now));
        let suspicion = match read.rejected.get(model) {
            Some(reason) => Some(text::bounded(format!("the row cannot be read: {reason}"))),
            None => suspicion(old.as_ref(), new.as_ref(), limits.max_ratio_micros),
        };
        let Some(reason) = suspicion else {
            accept(&mut belief, &mut changes, model, old, new);
            continue;
        };
        let seen = match &new {
            _ if read.rejected.contains_key(model) => Seen::Unreadable,
            Some(price) => Seen::Price(price.clone()),
            None => Seen::Nothing,
        };
        let held = again(before.held.get(model), seen, reason, now);
        let seen_long_enough = now.duration_since(held.since) >= limits.confirm_for;
        let confirmed = held.confirmations >= CONFIRMATIONS && seen_long_enough;
        if confirmed && held.seen != Seen::Unreadable {
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
    belief
        .prices
        .extend(to.clone().map(|to| (model.to_owned(), to)));
    if from != to {
        changes.push(Change {
            model: model.to_owned(),
            from,
            to,
        });
    }
}

/// A reading that was held before and is read again counts as confirmed; another one starts anew.
fn again(before: Option<&Held>, seen: Seen, reason: String, now: Timestamp) -> Held {
    match before {
        Some(held) if held.seen == seen => Held {
            // More says nothing more, and each count would be a write.
            confirmations: (held.confirmations + 1).min(CONFIRMATIONS),
            ..held.clone()
        },
        _ => Held {
            seen,
            reason,
            since: now,
            confirmations: 0,
        },
    }
}

/// Why a reading is not believed at once.
fn suspicion(old: Option<&ModelPrice>, new: Option<&ModelPrice>, max_ratio: u64) -> Option<String> {
    let (old, new) = match (old, new) {
        (None, None) => return None,
        (Some(_), None) => return Some("the model is gone from the source".to_owned()),
        (None, Some(new)) => return implausible(new),
        (Some(old), Some(new)) => (old, new),
    };
    if old == new {
        return None;
    }
    let thresholds = old.context_tiers.keys().chain(new.context_tiers.keys());
    let long = thresholds.map(|tokens| (old.above(*tokens), new.above(*tokens), Some(*tokens)));
    let paid = |price: &ModelPrice| 100 - price.batch_discount_percent.unwrap_or(0).min(100);
    [(old.base, new.base, None)]
        .into_iter()
        .chain(long)
        .find_map(|(old, new, above)| part_jumps((old, new), above, max_ratio))
        .or_else(|| fee_jumps(old.per_request, new.per_request, max_ratio))
        .or_else(|| batch_jumps(paid(old), paid(new), max_ratio))
        .or_else(|| implausible(new))
}

/// The first of a request's prices that jumps, with the length of prompt that it holds for.
fn part_jumps(
    (old, new): (TierPrice, TierPrice),
    above: Option<u64>,
    max_ratio: u64,
) -> Option<String> {
    let cached = |price: TierPrice| price.cached_input.unwrap_or(price.input);
    let written = |price: TierPrice| price.cache_write.unwrap_or(price.input);
    let reasoning = |price: TierPrice| price.reasoning.unwrap_or(price.output);
    let length = above.map_or_else(String::new, |tokens| format!(" above {tokens} tokens"));
    let parts = [
        ("input", old.input, new.input),
        ("cached input", cached(old), cached(new)),
        ("cache write", written(old), written(new)),
        ("output", old.output, new.output),
        ("reasoning", reasoning(old), reasoning(new)),
    ];
    parts
        .into_iter()
        .find_map(|(part, old, new)| jump(&format!("{part}{length}"), old, new, max_ratio))
}

fn fee_jumps(old: u64, new: u64, max_ratio: u64) -> Option<String> {
    jumps(old, new, max_ratio).then(|| {
        let usd = weir_crds::quantity::decimal;
        format!(
            "a million requests cost {} USD beside their tokens against {} before: more than {} times",
            usd(new),
            usd(old),
            usd(max_ratio)
        )
    })
}

fn batch_jumps(old: u64, new: u64, max_ratio: u64) -> Option<String> {
    jumps(old, new, max_ratio).then(|| {
        let times = weir_crds::quantity::decimal(max_ratio);
        format!("batches pay {new} % of the price against {old} % before: more than {times} times")
    })
}

fn jump(part: &str, old: u64, new: u64, max_ratio: u64) -> Option<String> {
    if !jumps(old, new, max_ratio) {
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

fn jumps(old: u64, new: u64, max_ratio: u64) -> bool {
    let (small, large) = (old.min(new), old.max(new));
    let beyond = u128::from(large) * 1_000_000 > u128::from(small) * u128::from(max_ratio);
    old != new && beyond
}

fn implausible(new: &ModelPrice) -> Option<String> {
    let usd = weir_crds::quantity::decimal;
    let of_long = new.context_tiers.values().copied();
    let prices: Vec<TierPrice> = [new.base].into_iter().chain(of_long).collect();
    if prices
        .iter()
        .any(|price| price.input == 0 && price.output == 0 && new.per_request == 0)
    {
        return Some("both prices are 0".to_owned());
    }
    if new.batch_discount_percent == Some(100) {
        return Some("batches are free".to_owned());
    }
    if new.per_request > IMPLAUSIBLE_FEE {
        return Some(format!(
            "{} USD per 1M requests is more than {}: probably a mistake of units",
            usd(new.per_request),
            usd(IMPLAUSIBLE_FEE)
        ));
    }
    let dearest = prices.iter().map(dearest_of).max()?;
    (dearest > IMPLAUSIBLE).then(|| {
        format!(
            "{} USD per 1M tokens is more than {}: probably a mistake of units",
            usd(dearest),
            usd(IMPLAUSIBLE)
        )
    })
}

fn dearest_of(price: &TierPrice) -> u64 {
    let optional = [price.cached_input, price.cache_write, price.reasoning];
    let parts = optional.into_iter().flatten();
    parts.chain([price.input, price.output]).max().unwrap_or(0)
}

#[cfg(test)]
mod tests;

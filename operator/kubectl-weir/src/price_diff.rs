//! Pure: what changed between two price feeds, and what the price guard would hold back of it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use weir_crds::quantity::decimal;
use weir_operator_core::price_book::guard::{Belief, Limits, judge};
use weir_operator_core::price_book::parse::ModelPrice;

use crate::feed::Feed;
use crate::prices::{PriceError, limits};
use crate::text::{Table, UNKNOWN, wrapped};

/// What changed from `a` to `b`; guarded as the price book among them says, or as a price book does by default.
///
/// # Errors
/// When the book cannot be understood.
pub(crate) fn diff(a: &Feed, b: &Feed, now: Timestamp) -> Result<Diff, PriceError> {
    let limits = guard_of(a, b)?;
    let before = &a.document.prices;
    let after = &b.document.prices;
    let wanted: BTreeSet<String> = match &a.book {
        // A book knows the models of its providers; that a feed has more of them is no change.
        Some(_) => before.keys().cloned().collect(),
        None => before.keys().chain(after.keys()).cloned().collect(),
    };
    let belief = Belief {
        prices: before.clone(),
        held: BTreeMap::new(),
    };
    let (judged, _) = judge(&belief, &b.document, &wanted, limits, now);
    let mut changes = Table::new(["CHANGE", "MODEL", "INPUT $/1M", "OUTPUT $/1M", "GUARD"]);
    let (mut added, mut removed, mut changed) = (0, 0, 0);
    for model in &wanted {
        let (old, new) = (before.get(model), after.get(model));
        let change = match (old, new) {
            (None, Some(_)) => (added += 1, "added").1,
            (Some(_), None) if b.document.rejected.contains_key(model) => {
                (changed += 1, "unreadable").1
            }
            (Some(_), None) => (removed += 1, "removed").1,
            (Some(old), Some(new)) if old != new => (changed += 1, "changed").1,
            _ => continue,
        };
        let guard = if judged.held.contains_key(model) {
            "held"
        } else {
            "accepted"
        };
        changes.row([
            change.to_owned(),
            model.clone(),
            part(old, new, |price| price.base.input),
            part(old, new, |price| price.base.output),
            guard.to_owned(),
        ]);
    }
    let same = wanted.len() - added - removed - changed;
    let mut text = if added + removed + changed > 0 {
        changes.render() + "\n"
    } else {
        String::new()
    };
    text.push_str(&format!(
        "{added} added, {removed} removed, {changed} changed, {same} the same.\n"
    ));
    text.push_str(&held(&judged, limits));
    let unreadable = b.document.rejected.len();
    if unreadable > 0 {
        text.push_str(&format!("{unreadable} rows of B have no readable price.\n"));
    }
    Ok(Diff {
        text,
        differs: added + removed + changed > 0,
    })
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diff {
    /// For people.
    pub(crate) text: String,
    /// Whether anything did.
    pub(crate) differs: bool,
}

fn guard_of(a: &Feed, b: &Feed) -> Result<Limits, PriceError> {
    let book = a.book.as_ref().or(b.book.as_ref());
    let Some(book) = book else {
        return Ok(default_limits());
    };
    limits(&book.spec).map_err(|source| PriceError::Book {
        name: book.metadata.name.clone().unwrap_or_default(),
        source,
    })
}

/// What a price book without `guard` has.
fn default_limits() -> Limits {
    Limits {
        max_ratio_micros: 2_000_000,
        confirm_for: jiff::SignedDuration::from_hours(24),
    }
}

fn held(judged: &Belief, limits: Limits) -> String {
    if judged.held.is_empty() {
        return "The price guard would hold nothing.\n".to_owned();
    }
    let mut text = format!(
        "The price guard would hold {} for {:#}, until further reads confirm them:\n",
        judged.held.len(),
        limits.confirm_for
    );
    for (model, held) in &judged.held {
        text.push_str(&wrapped(&format!("{model}: {}", held.reason), 2, 80));
    }
    text
}

/// Both prices with the change in percent; one where they are the same.
fn part(old: Option<&ModelPrice>, new: Option<&ModelPrice>, of: fn(&ModelPrice) -> u64) -> String {
    match (old.map(of), new.map(of)) {
        (Some(old), Some(new)) if old == new => decimal(old),
        (Some(old), Some(new)) => {
            format!(
                "{} > {} ({})",
                decimal(old),
                decimal(new),
                percent(old, new)
            )
        }
        (Some(old), None) => format!("{} > {UNKNOWN}", decimal(old)),
        (None, Some(new)) => decimal(new),
        (None, None) => UNKNOWN.to_owned(),
    }
}

/// The change in tenths of a percent.
fn percent(old: u64, new: u64) -> String {
    let difference = i128::from(new) - i128::from(old);
    let Some(tenths) = (difference * 1_000).checked_div(i128::from(old)) else {
        return "from 0".to_owned();
    };
    let sign = if difference < 0 { '-' } else { '+' };
    let size = tenths.unsigned_abs();
    format!("{sign}{}.{} %", size / 10, size % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_crds::price_book::PriceGuard;

    #[test]
    fn the_guard_without_a_book_is_that_of_a_book_without_guard() {
        let guard = PriceGuard::default();
        let limits = default_limits();
        let ratio = weir_crds::quantity::micros(&guard.max_change_ratio);
        assert_eq!(ratio, Ok(limits.max_ratio_micros));
        let wait = weir_crds::quantity::duration(&guard.confirm_for).expect("a duration");
        assert_eq!(
            jiff::SignedDuration::try_from(wait).ok(),
            Some(limits.confirm_for)
        );
    }
}

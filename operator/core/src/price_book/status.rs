//! Pure: what is believed and held, as status; and back, so that a restart loses nothing.

use super::guard::{Belief, Change, Held, Seen};
use super::parse::{entry_price, to_entry};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use weir_crds::condition::{ConditionStatus, Conditions, types};
use weir_crds::price_book::{
    Found, HeldPrice, InferencePriceBookStatus, PriceChange, PriceEntry, PricePair, RowRemark,
};
use weir_crds::quantity::decimal;
use weir_crds::text;

use super::parse::{Document, ModelPrice};

const MOST_CHANGES: usize = 10;
/// Rows that are told by name.
const MOST_REMARKS: usize = 20;

/// How the last read of the source went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// The document was read, or the source said that it has not changed.
    Read {
        /// What it says of its rows.
        rows: Rows,
        /// ETag of the document.
        etag: Option<String>,
    },
    /// It is not time to read: only the age of what was read has changed, or what a person has confirmed.
    NotDue,
    /// The spec cannot be used.
    Invalid(String),
    /// Nothing could be read.
    Failed {
        /// CamelCase reason.
        reason: &'static str,
        /// What went wrong.
        message: String,
    },
}

/// What a document says of its rows beside their prices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// Models with a price.
    pub priced: usize,
    /// Rows without a price that can be used.
    pub unread: usize,
    /// The first of those, with the reason: the wanted ones before the others.
    pub examples: Vec<RowRemark>,
    /// Fees of wanted models that no cost counts.
    pub uncounted: Vec<RowRemark>,
}

impl Rows {
    /// Of a document, for a book whose providers want these models.
    pub fn of(document: &Document, wanted: &BTreeSet<String>) -> Self {
        let remark = |(model, reason): (&String, &String)| RowRemark {
            model: model.clone(),
            reason: text::bounded(reason),
        };
        let is_wanted = |row: &(&String, &String)| wanted.contains(row.0);
        let unread = || document.rejected.iter();
        let first = unread().filter(is_wanted);
        let rest = unread().filter(|row| !is_wanted(row));
        let uncounted = document.uncounted.iter().filter(is_wanted);
        Self {
            priced: document.prices.len(),
            unread: document.rejected.len(),
            examples: first.chain(rest).take(MOST_REMARKS).map(remark).collect(),
            uncounted: uncounted.take(MOST_REMARKS).map(remark).collect(),
        }
    }
}

/// What was believed and held according to a status. Prices that the status garbles are dropped: unknown, not zero.
pub fn belief(status: &InferencePriceBookStatus) -> Belief {
    let prices = status
        .prices
        .iter()
        .filter_map(|entry| Some((entry.model.clone(), entry_price(entry).ok()?)))
        .collect();
    let held = status
        .held
        .iter()
        .filter_map(|held| Some((held.model.clone(), held_of(held)?)))
        .collect();
    Belief { prices, held }
}

/// The next status.
pub fn render(
    previous: &InferencePriceBookStatus,
    belief: &Belief,
    changes: &[Change],
    reading: &Reading,
    (generation, stale_after, now): (i64, SignedDuration, Timestamp),
) -> InferencePriceBookStatus {
    let as_of = as_of(previous, reading, changes, stale_after, now);
    let mut next = match reading {
        Reading::Read { rows, etag } => InferencePriceBookStatus {
            entries: i64::try_from(rows.priced).ok(),
            unread: rows.examples.clone(),
            unread_count: i64::try_from(rows.unread).ok(),
            uncounted: rows.uncounted.clone(),
            etag: etag.clone(),
            ..InferencePriceBookStatus::default()
        },
        _ => previous.clone(),
    };
    let mut last_changes: Vec<PriceChange> =
        changes.iter().map(|change| rendered(change, now)).collect();
    last_changes.extend(previous.last_changes.iter().cloned());
    last_changes.truncate(MOST_CHANGES);
    let prices: Vec<PriceEntry> = belief
        .prices
        .iter()
        .map(|(model, price)| to_entry(model, price))
        .collect();
    let held: Vec<HeldPrice> = belief.held.iter().map(held_price).collect();
    next.conditions = conditions(
        &previous.conditions,
        belief,
        reading,
        as_of,
        (generation, stale_after, now),
    );
    next.observed_generation = Some(generation);
    next.revision = (!prices.is_empty()).then(|| revision(&prices));
    next.as_of = as_of.map(Time);
    next.held_count = i64::try_from(held.len()).ok();
    next.held = held;
    next.prices = prices;
    next.last_changes = last_changes;
    next
}

/// Rewritten with a change, or when a quarter of `staleAfter` has passed: fewer writes, and never stale by that.
fn as_of(
    previous: &InferencePriceBookStatus,
    reading: &Reading,
    changes: &[Change],
    stale_after: SignedDuration,
    now: Timestamp,
) -> Option<Timestamp> {
    let before = previous.as_of.as_ref().map(|time| time.0);
    if !matches!(reading, Reading::Read { .. }) {
        return before;
    }
    match before {
        Some(before) if changes.is_empty() && now.duration_since(before) < stale_after / 4 => {
            Some(before)
        }
        _ => Some(now),
    }
}

/// Whether prices confirmed at `as_of` may still be acted on.
pub fn is_fresh(as_of: Option<Timestamp>, stale_after: SignedDuration, now: Timestamp) -> bool {
    as_of.is_some_and(|as_of| now.duration_since(as_of) <= stale_after)
}

fn conditions(
    previous: &[Condition],
    belief: &Belief,
    reading: &Reading,
    as_of: Option<Timestamp>,
    (generation, stale_after, now): (i64, SignedDuration, Timestamp),
) -> Vec<Condition> {
    let time = Time(now);
    let mut conditions = Conditions::default();
    let mut set = |condition: (&str, ConditionStatus, &str), message: String| {
        conditions.set(previous, condition, message, generation, &time);
    };
    use ConditionStatus::{False, True, Unknown};
    match reading {
        Reading::Invalid(message) => {
            set((types::ACCEPTED, False, "InvalidSpec"), message.clone());
            set(
                (types::FETCHED, Unknown, "InvalidSpec"),
                "the source is not read".into(),
            );
        }
        Reading::Failed { reason, message } => {
            set(
                (types::ACCEPTED, True, "Accepted"),
                "the spec is consistent".into(),
            );
            set((types::FETCHED, False, reason), message.clone());
        }
        Reading::Read { rows, .. } => {
            set(
                (types::ACCEPTED, True, "Accepted"),
                "the spec is consistent".into(),
            );
            let message = match rows.unread {
                0 => "the source was read".into(),
                n => format!(
                    "the source was read; {n} rows have no price that can be used, see status.unread"
                ),
            };
            set((types::FETCHED, True, "Read"), message);
        }
        Reading::NotDue => {}
    }
    let fresh = is_fresh(as_of, stale_after, now);
    let message = match as_of {
        Some(as_of) if fresh => {
            format!("confirmed by the source within {stale_after:#}, last written {as_of:.0}")
        }
        Some(as_of) => format!(
            "last confirmed by the source at {as_of:.0}, more than {stale_after:#} ago: decisions hold"
        ),
        None => "never read: targets with these prices are rejected".to_owned(),
    };
    set(
        (
            types::PRICE_FRESH,
            fresh.into(),
            if fresh { "Fresh" } else { "Stale" },
        ),
        message,
    );
    let trusted = belief.held.is_empty();
    let message = match belief.held.iter().next() {
        None => "no price is held back".to_owned(),
        Some((model, held)) => format!(
            "{} held back, among them {model}: {}",
            belief.held.len(),
            held.reason
        ),
    };
    let reason = if trusted {
        "NoSuspectPrice"
    } else {
        "PriceSuspect"
    };
    set((types::TRUSTED, trusted.into(), reason), message);
    let ready = fresh && !matches!(reading, Reading::Invalid(_));
    let (reason, message) = if ready {
        ("PricesKnown", "prices are in use")
    } else {
        ("NoFreshPrices", "see the other conditions")
    };
    set((types::READY, ready.into(), reason), message.to_owned());
    if *reading == Reading::NotDue {
        let of_reads = |condition: &&Condition| {
            matches!(condition.type_.as_str(), types::ACCEPTED | types::FETCHED)
        };
        let kept = previous.iter().filter(of_reads).cloned();
        conditions.0.extend(kept);
        conditions.0.sort_by(|a, b| a.type_.cmp(&b.type_));
    }
    conditions.0
}

/// `None` for what is garbled: it is held anew when it is read again.
fn held_of(held: &HeldPrice) -> Option<Held> {
    Some(Held {
        seen: match held.found {
            Found::Price => Seen::Price(entry_price(held.read.as_ref()?).ok()?),
            Found::Nothing => Seen::Nothing,
            Found::Unreadable => Seen::Unreadable,
        },
        reason: held.reason.clone(),
        since: held.since.0,
        confirmations: u32::try_from(held.confirmations).unwrap_or(0),
    })
}

fn held_price((model, held): (&String, &Held)) -> HeldPrice {
    let (found, read) = match &held.seen {
        Seen::Price(price) => (Found::Price, Some(to_entry(model, price))),
        Seen::Nothing => (Found::Nothing, None),
        Seen::Unreadable => (Found::Unreadable, None),
    };
    HeldPrice {
        model: model.clone(),
        revision: held_revision(model, found, read.as_ref(), held.since),
        found,
        read,
        reason: text::bounded(&held.reason),
        since: Time(held.since),
        confirmations: i32::try_from(held.confirmations).unwrap_or(i32::MAX),
    }
}

/// Names one change of one model: the same price that is held another time has another name.
fn held_revision(model: &str, found: Found, read: Option<&PriceEntry>, since: Timestamp) -> String {
    let mut hash = Sha256::new();
    let whole = (model, found, read, since.as_second());
    hash.update(serde_json::to_vec(&whole).unwrap_or_default());
    hex::encode(&hash.finalize()[..6])
}

fn rendered(change: &Change, now: Timestamp) -> PriceChange {
    let pair = |price: &ModelPrice| PricePair {
        input_usd_per_million_tokens: decimal(price.base.input),
        output_usd_per_million_tokens: decimal(price.base.output),
    };
    PriceChange {
        time: Time(now),
        model: change.model.clone(),
        from: change.from.as_ref().map(pair),
        to: change.to.as_ref().map(pair),
    }
}

fn revision(prices: &[PriceEntry]) -> String {
    let mut hash = Sha256::new();
    for price in prices {
        hash.update(serde_json::to_vec(price).unwrap_or_default());
    }
    hex::encode(&hash.finalize()[..6])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price_book::guard::{Limits, judge};
    use crate::price_book::parse::TierPrice;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("in range")
    }

    fn read(models: usize) -> Reading {
        Reading::Read {
            rows: Rows {
                priced: models,
                ..Rows::default()
            },
            etag: Some("\"a\"".into()),
        }
    }

    fn judged(belief: &Belief, input: Option<u64>, now: Timestamp) -> (Belief, Vec<Change>) {
        let price = input.map(|input| {
            (
                "m".to_owned(),
                ModelPrice {
                    base: TierPrice {
                        input,
                        output: input,
                        ..TierPrice::default()
                    },
                    ..ModelPrice::default()
                },
            )
        });
        let document = Document {
            prices: price.into_iter().collect(),
            ..Document::default()
        };
        let limits = Limits {
            max_ratio_micros: 2_000_000,
            confirm_for: HOUR,
        };
        judge(
            belief,
            &document,
            &BTreeSet::from(["m".to_owned()]),
            limits,
            now,
        )
    }

    #[test]
    fn belief_and_held_prices_survive_the_status() {
        let (first, changes) = judged(&Belief::default(), Some(1_000_000), at(0));
        let status = render(
            &InferencePriceBookStatus::default(),
            &first,
            &changes,
            &read(1),
            (1, HOUR, at(0)),
        );
        for second in [Some(9_000_000), None] {
            let (held, _) = judged(&belief(&status), second, at(10));
            let status = render(&status, &held, &[], &read(1), (1, HOUR, at(10)));
            assert_eq!(belief(&status), held);
            assert_eq!(status.held_count, Some(1));
        }
    }

    #[test]
    fn a_read_that_changes_nothing_changes_no_status() {
        let (first, changes) = judged(&Belief::default(), Some(1_000_000), at(0));
        let status = render(
            &InferencePriceBookStatus::default(),
            &first,
            &changes,
            &read(1),
            (1, HOUR, at(0)),
        );
        let (second, changes) = judged(&belief(&status), Some(1_000_000), at(60));
        let again = render(&status, &second, &changes, &read(1), (1, HOUR, at(60)));
        assert_eq!(again, status);
    }

    #[test]
    fn prices_that_are_not_confirmed_grow_stale() {
        let (first, changes) = judged(&Belief::default(), Some(1_000_000), at(0));
        let status = render(
            &InferencePriceBookStatus::default(),
            &first,
            &changes,
            &read(1),
            (1, HOUR, at(0)),
        );
        let failed = Reading::Failed {
            reason: "Unreachable",
            message: "no connection".into(),
        };
        let later = render(&status, &belief(&status), &[], &failed, (1, HOUR, at(3700)));
        let condition = |type_: &str| {
            later
                .conditions
                .iter()
                .find(|condition| condition.type_ == type_)
                .map(|condition| condition.status.clone())
        };
        assert_eq!(condition(types::PRICE_FRESH).as_deref(), Some("False"));
        assert_eq!(condition(types::FETCHED).as_deref(), Some("False"));
        assert_eq!(condition(types::READY).as_deref(), Some("False"));
        assert_eq!(later.prices, status.prices);
    }

    #[test]
    fn a_book_that_is_not_read_in_time_says_that_it_is_stale() {
        let (first, changes) = judged(&Belief::default(), Some(1_000_000), at(0));
        let none = InferencePriceBookStatus::default();
        let status = render(&none, &first, &changes, &read(1), (1, HOUR, at(0)));
        let soon = render(&status, &first, &[], &Reading::NotDue, (1, HOUR, at(3_600)));
        assert_eq!(soon, status);
        let late = render(&status, &first, &[], &Reading::NotDue, (1, HOUR, at(3_601)));
        let told = |type_: &str| {
            let mut conditions = late.conditions.iter();
            let condition = conditions.find(|condition| condition.type_ == type_);
            condition.map(|condition| condition.status.clone())
        };
        assert_eq!(told(types::PRICE_FRESH).as_deref(), Some("False"));
        assert_eq!(told(types::READY).as_deref(), Some("False"));
        assert_eq!(told(types::FETCHED).as_deref(), Some("True"));
        assert_eq!((late.prices, late.entries), (status.prices, status.entries));
    }

    #[test]
    fn rows_that_providers_refer_to_are_told_first_and_no_more_than_twenty() {
        let mut document = Document::default();
        for row in 0..30 {
            let reason = "it has no price".to_owned();
            document.rejected.insert(format!("row-{row:02}"), reason);
        }
        let wanted = BTreeSet::from(["row-29".to_owned()]);
        let rows = Rows::of(&document, &wanted);
        assert_eq!((rows.unread, rows.examples.len()), (30, MOST_REMARKS));
        assert_eq!(rows.examples[0].model, "row-29");
    }
}

//! Demand by the hour: what was metered in whole hours of UTC, and what their shape says of demand. An hour that is not
//! here is unknown; an hour without traffic is here with zeros.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cost::{INPUT_WEIGHT_TENTHS, OUTPUT_WEIGHT_TENTHS};
use crate::snapshot::{DemandFigures, LoadCurve, ObservedDemand};
use crate::units::{LoadPercent, PeakPercent, Percent, RequestsPerMonth, Seconds, Tokens};

/// Hours that are kept: a week, and three days that bridge hours that nobody heard.
pub const HOURS_KEPT: i64 = 240;
/// Hours that figures are worked out from: traffic repeats by the week.
const WEEK: usize = 168;
/// Hours that must be known before they say anything: traffic repeats by the day, too.
pub const LEAST_KNOWN_HOURS: usize = 24;
const HOUR_SECONDS: i64 = 3_600;
const HOURS_PER_MONTH: u128 = 730;
/// Percent of the work that comes in hours no busier than the busy hour. The rest waits a little or spills.
const BUSY_SHARE: u128 = 95;

/// A whole hour of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Hour(i64);

impl Hour {
    /// The hour that a moment lies in.
    pub fn of(at: Timestamp) -> Self {
        Self(at.as_second().div_euclid(HOUR_SECONDS))
    }

    /// The hour with this number since the Unix epoch; `None` beyond the times that can be told.
    pub fn new(number: i64) -> Option<Self> {
        let second = number.checked_mul(HOUR_SECONDS)?;
        Timestamp::from_second(second).ok()?;
        Some(Self(number))
    }

    /// Hours since the Unix epoch.
    pub const fn number(self) -> i64 {
        self.0
    }

    /// When it starts.
    pub fn start(self) -> Timestamp {
        let second = self.0.saturating_mul(HOUR_SECONDS);
        Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The hour that is so many hours later.
    #[must_use]
    pub const fn plus(self, hours: i64) -> Self {
        Self(self.0.saturating_add(hours))
    }
}

impl TryFrom<i64> for Hour {
    type Error = &'static str;
    fn try_from(number: i64) -> Result<Self, Self::Error> {
        Self::new(number).ok_or("not an hour of a time that can be told")
    }
}

impl From<Hour> for i64 {
    fn from(hour: Hour) -> Self {
        hour.0
    }
}

/// What was metered in an hour. Counts only, never content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HourSums {
    /// Requests of clients.
    pub requests: u64,
    /// Tokens of prompts.
    pub input_tokens: u64,
    /// Of these, tokens that a prompt cache answered.
    pub cached_input_tokens: u64,
    /// Tokens of answers.
    pub output_tokens: u64,
}

impl HourSums {
    /// Adds what was metered elsewhere in the same time.
    pub fn add(&mut self, other: &Self) {
        let add = |a: &mut u64, b: u64| *a = a.saturating_add(b);
        add(&mut self.requests, other.requests);
        add(&mut self.input_tokens, other.input_tokens);
        add(&mut self.cached_input_tokens, other.cached_input_tokens);
        add(&mut self.output_tokens, other.output_tokens);
    }

    /// Tenths of an answer token's work, as replicas are sized by.
    fn work(&self) -> u128 {
        u128::from(self.input_tokens) * INPUT_WEIGHT_TENTHS
            + u128::from(self.output_tokens) * OUTPUT_WEIGHT_TENTHS
    }
}

/// Whole hours that are over and known. The first word on an hour stands, so that telling it again counts nothing twice.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HourHistory {
    hours: BTreeMap<Hour, HourSums>,
}

impl HourHistory {
    /// Keeps an hour unless it is known already. Whether it is new.
    pub fn record(&mut self, hour: Hour, sums: HourSums) -> bool {
        let new = !self.hours.contains_key(&hour);
        self.hours.entry(hour).or_insert(sums);
        new
    }

    /// Whether hours are here that are too old in the hour `now`.
    pub fn is_older_than_kept(&self, now: Hour) -> bool {
        let oldest = self.hours.keys().next();
        oldest.is_some_and(|oldest| *oldest < now.plus(-HOURS_KEPT))
    }

    /// Forgets hours that are too old in the hour `now`.
    pub fn forget_old(&mut self, now: Hour) {
        self.hours = self.hours.split_off(&now.plus(-HOURS_KEPT));
    }

    /// What was metered in an hour; `None` when that is unknown.
    pub fn get(&self, hour: Hour) -> Option<&HourSums> {
        self.hours.get(&hour)
    }

    /// Whether a request came in any hour.
    pub fn has_traffic(&self) -> bool {
        self.hours.values().any(|sums| sums.requests > 0)
    }

    /// The known hours, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Hour, &HourSums)> {
        self.hours.iter().map(|(hour, sums)| (*hour, sums))
    }

    /// Whether enough of the two days before `now` are known to say what demand is, and not only what it was.
    pub fn is_current(&self, now: Hour) -> bool {
        let days = 2 * i64::try_from(LEAST_KNOWN_HOURS).unwrap_or(i64::MAX);
        self.hours.range(now.plus(-days)..).count() >= LEAST_KNOWN_HOURS
    }

    /// Demand over the newest week of known hours; `None` while less than a day of them is known.
    pub fn observed(&self) -> Option<ObservedDemand> {
        let hours: Vec<&HourSums> = self.hours.values().rev().take(WEEK).collect();
        if hours.len() < LEAST_KNOWN_HOURS {
            return None;
        }
        let count = hours.len() as u128;
        let mut sum = HourSums::default();
        hours.iter().for_each(|hour| sum.add(hour));
        // Means stand in for medians: gateways keep no distribution of tokens.
        let mean = |tokens: u64| {
            let mean = tokens.checked_div(sum.requests)?;
            Some(Tokens::clamped(mean.into()))
        };
        let cached = (u128::from(sum.cached_input_tokens) * 100)
            .checked_div(sum.input_tokens.into())
            .map(Percent::clamped);
        let active = hours.iter().filter(|hour| hour.requests > 0).count() as u128;
        let requests = u128::from(sum.requests) * HOURS_PER_MONTH / count;
        let works = Works::of(&hours);
        Some(ObservedDemand {
            figures: DemandFigures {
                requests_per_month: Some(RequestsPerMonth::clamped(requests)),
                input_p50: mean(sum.input_tokens),
                output_p50: mean(sum.output_tokens),
                cached_input: cached,
                peak_to_mean: works.peak_to_mean(),
                load: works.load(),
                active_hours: Some(Percent::clamped((active * 100).div_ceil(count))),
                ..DemandFigures::default()
            },
            span: Seconds::clamped(count * 3_600),
        })
    }
}

/// The work of each hour, where tokens were metered; else its requests.
struct Works {
    /// The least first.
    sorted: Vec<u128>,
    total: u128,
}

impl Works {
    fn of(hours: &[&HourSums]) -> Self {
        let metered = hours.iter().any(|hour| hour.work() > 0);
        let work = |hour: &&HourSums| {
            if metered {
                hour.work()
            } else {
                hour.requests.into()
            }
        };
        let mut sorted: Vec<u128> = hours.iter().map(work).collect();
        sorted.sort_unstable();
        let total = sorted.iter().sum();
        Self { sorted, total }
    }

    /// The work of the hour in or below which `share` of `of` comes, in percent of the mean hour's; `None` without any.
    fn percent_at(&self, share: u128, of: u128) -> Option<u128> {
        let enough = (self.total * share).div_ceil(of);
        let mut below = 0;
        let hour = self.sorted.iter().find(|work| {
            below += *work;
            below >= enough
        })?;
        (hour * 100 * self.sorted.len() as u128).checked_div(self.total)
    }

    /// The busy hour over the mean hour. The busy hour is the one in or below which 95 % of the work comes: weighted by
    /// work, so that hours without traffic, of which a bursty workload has most, do not hide the hours that need replicas,
    /// and so that one odd hour does not set the number of replicas alone. `None` without traffic.
    fn peak_to_mean(&self) -> Option<PeakPercent> {
        Some(PeakPercent::clamped(self.percent_at(BUSY_SHARE, 100)?))
    }

    fn load(&self) -> Option<LoadCurve> {
        let shares = LoadCurve::SHARES as u128;
        let middle = |share: u128| self.percent_at(2 * share + 1, 2 * shares);
        let loads: Option<Vec<u128>> = (0..shares).map(middle).collect();
        let loads: Vec<LoadPercent> = loads?.into_iter().map(LoadPercent::clamped).collect();
        LoadCurve::new(&loads).ok()
    }
}

#[cfg(test)]
mod tests;

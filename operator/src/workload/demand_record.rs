//! The record of a workload's known hours, which outlives the operator and the gateways: what it says, and when it is
//! written. Pure but for `apply`.

mod apply;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use weir_crds::demand::{HourRun, MOST_COUNT};
use weir_crds::{InferenceDemand, InferenceDemandSpec, InferenceDemandStatus};
use weir_crds::{InferenceWorkload, names};
use weir_operator_core::owner::Owner;
use weir_placement::{HOURS_KEPT, Hour, HourHistory, HourSums};

use super::build::owner;
use super::labels;

/// Why a record is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Its owner is another object, or none.
    #[error("it belongs to something else")]
    Foreign,
    /// Lists of different lengths, or empty ones.
    #[error("a list from {0} on lacks hours")]
    Uneven(Timestamp),
    /// A start within an hour.
    #[error("{0} is not the beginning of an hour")]
    NotWhole(Timestamp),
    /// An hour that is told twice, or after a later one.
    #[error("hour {0} is told twice or out of order")]
    OutOfOrder(Timestamp),
    /// An hour that has not begun.
    #[error("hour {0} has not begun")]
    Future(Timestamp),
    /// Counts that no gateway can have metered.
    #[error("hour {0} has counts that cannot be")]
    Counts(Timestamp),
    /// More hours than are kept.
    #[error("it has more than {HOURS_KEPT} hours")]
    TooMany,
}

/// The hours that a record holds for a workload. It is used as a whole or not at all.
///
/// # Errors
/// When the record is another's, or says what cannot be.
pub fn read(
    record: &InferenceDemand,
    owner: &Owner,
    now: Timestamp,
) -> Result<HourHistory, Unusable> {
    if !owner.owns(record) {
        return Err(Unusable::Foreign);
    }
    let mut history = HourHistory::default();
    let mut next: Option<Hour> = None;
    let mut room = usize::try_from(HOURS_KEPT).unwrap_or(usize::MAX);
    for run in record.status.iter().flat_map(|status| &status.runs) {
        let Time(start) = run.start;
        let first = Hour::of(start);
        if first.start() != start {
            return Err(Unusable::NotWhole(start));
        }
        if next.is_some_and(|next| first < next) {
            return Err(Unusable::OutOfOrder(start));
        }
        let hours = run.requests.len();
        room = room.checked_sub(hours).ok_or(Unusable::TooMany)?;
        let mut hour = first;
        for counts in rows(run).ok_or(Unusable::Uneven(start))? {
            // The hour that runs is let pass: the clock of the replica that wrote it may have been a little ahead.
            if hour > Hour::of(now) {
                return Err(Unusable::Future(hour.start()));
            }
            let sums = sums(counts).ok_or(Unusable::Counts(hour.start()))?;
            history.record(hour, sums);
            hour = hour.plus(1);
        }
        next = Some(hour);
    }
    Ok(history)
}

/// Requests, tokens of prompts, those of them that were cached, tokens of answers.
type Counts = [i64; 4];

/// The counts by the hour; `None` unless each list has the same hours.
fn rows(run: &HourRun) -> Option<Vec<Counts>> {
    let HourRun {
        start: _,
        requests,
        input_tokens,
        cached_input_tokens,
        output_tokens,
    } = run;
    let lists = [requests, input_tokens, cached_input_tokens, output_tokens];
    let even = lists.iter().all(|list| list.len() == requests.len());
    (even && !requests.is_empty()).then_some(())?;
    let hours = 0..requests.len();
    Some(hours.map(|at| lists.map(|list| list[at])).collect())
}

fn sums(counts: Counts) -> Option<HourSums> {
    let possible = counts.iter().all(|count| (0..=MOST_COUNT).contains(count));
    let [requests, input_tokens, cached_input_tokens, output_tokens] =
        counts.map(i64::unsigned_abs);
    (possible && cached_input_tokens <= input_tokens).then_some(HourSums {
        requests,
        input_tokens,
        cached_input_tokens,
        output_tokens,
    })
}

/// What a record says of these hours.
pub fn status(history: &HourHistory) -> InferenceDemandStatus {
    let kept = usize::try_from(HOURS_KEPT).unwrap_or(usize::MAX);
    let known = history.iter().count();
    let mut runs: Vec<HourRun> = Vec::new();
    let mut newest = None;
    for (hour, sums) in history.iter().skip(known.saturating_sub(kept)) {
        let follows = newest.is_some_and(|newest: Hour| newest.plus(1) == hour);
        match runs.last_mut() {
            Some(run) if follows => append(run, sums),
            _ => {
                let mut run = HourRun {
                    start: Time(hour.start()),
                    requests: Vec::new(),
                    input_tokens: Vec::new(),
                    cached_input_tokens: Vec::new(),
                    output_tokens: Vec::new(),
                };
                append(&mut run, sums);
                runs.push(run);
            }
        }
        newest = Some(hour);
    }
    let figures = history.observed().map(|observed| observed.figures);
    let figures = figures.unwrap_or_default();
    let percent = |percent: u64| i32::try_from(percent).ok();
    InferenceDemandStatus {
        requests_per_month: figures
            .requests_per_month
            .and_then(|requests| i64::try_from(requests.get()).ok()),
        peak_to_mean_percent: figures.peak_to_mean.and_then(|peak| percent(peak.get())),
        active_hours_percent: figures
            .active_hours
            .and_then(|active| percent(active.get())),
        known_hours: i32::try_from(known.min(kept)).ok(),
        newest_hour: newest.map(|newest| Time(newest.start())),
        runs,
    }
}

/// Counts that the schema would refuse are bounded: nobody meters them, and a record that is refused helps nobody.
fn append(run: &mut HourRun, sums: &HourSums) {
    let count = |count: u64| i64::try_from(count).map_or(MOST_COUNT, |count| count.min(MOST_COUNT));
    let cached = sums.cached_input_tokens.min(sums.input_tokens);
    run.requests.push(count(sums.requests));
    run.input_tokens.push(count(sums.input_tokens));
    run.cached_input_tokens.push(count(cached));
    run.output_tokens.push(count(sums.output_tokens));
}

/// Hours without traffic that are recorded together, where none has any: a fleet that idles need not write every hour.
const IDLE_HOURS: usize = 24;

/// Whether hours are known that a record with these hours has to be written for: one with traffic, or a day of them
/// without. Where no known hour has traffic there is nothing to remember.
pub fn lacks(recorded: Option<&HourHistory>, known: &HourHistory) -> bool {
    let is_new = |hour| recorded.is_none_or(|recorded| recorded.get(hour).is_none());
    let new = || known.iter().filter(|(hour, _)| is_new(*hour));
    let busy = || new().any(|(_, sums)| sums.requests > 0);
    known.has_traffic() && (busy() || new().count() >= IDLE_HOURS)
}

/// When the workload's next turn to write its record comes after `since`: once in each interval, at a moment that its
/// UID tells, so that the writes of a fleet are spread over the interval.
pub fn turn_after(uid: &str, interval: Duration, since: Timestamp) -> Timestamp {
    let interval = i64::try_from(interval.as_secs()).map_or(i64::MAX, |seconds| seconds.max(1));
    let spread = u32::from_str_radix(&names::uid8(uid), 16).unwrap_or_default();
    let offset = i64::from(spread) % interval;
    let turns = (since.as_second() - offset).div_euclid(interval) + 1;
    let second = turns.saturating_mul(interval).saturating_add(offset);
    Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
}

/// The record without what was observed.
fn object(workload: &InferenceWorkload) -> InferenceDemand {
    let meta = &workload.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    let uid = meta.uid.as_deref().unwrap_or_default();
    let mut record = InferenceDemand::new(&names::demand_name(name, uid), InferenceDemandSpec {});
    record.metadata = ObjectMeta {
        namespace: meta.namespace.clone(),
        labels: Some(labels::of_workload(name, uid)),
        owner_references: Some(vec![owner(workload)]),
        ..record.metadata
    };
    record
}

#[cfg(test)]
mod tests;

//! Which hours of a workload are known: those in which every gateway that served was heard, or told it later.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use weir_placement::{Hour, HourHistory, HourSums};

use super::{GatewayPod, Gateways};
use crate::cli::Plane;
use crate::telemetry::demand::WINDOW_SECONDS;

/// Minutes that a full ring tells: the present one is not told yet.
const RING_ROWS: usize = weir_proto::MINUTES_KEPT - 1;
/// Minutes of an hour that must be known: nine tenths, so that a gateway may be replaced within it.
const LEAST_MINUTES: u32 = 54;
/// An hour is closed this long after its end: gateways tell of a minute once it is over, by their own clocks.
const SETTLED_SECONDS: i64 = 120;
/// What was not told when a stream broke may be the minute that just ended.
const UNTOLD_SECONDS: i64 = 60;
/// Runs that ended are remembered for what they covered; one that restarts all the time must not fill the memory.
const MOST_ENDED: usize = 256;

/// For which time a run's minutes are known, in Unix seconds.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    began: i64,
    until: i64,
    /// By workload: later than `began` where its ring had lost minutes that nobody heard.
    since: BTreeMap<String, i64>,
}

/// A run that ended.
pub(super) struct Ended {
    plane: Plane,
    heard: Heard,
    at: i64,
}

impl Heard {
    /// Of a run that began then and has told nothing yet.
    pub fn since(began: i64) -> Self {
        Self {
            began,
            until: began,
            since: BTreeMap::new(),
        }
    }

    /// A full report brings what was not heard, as far back as the rings reach.
    pub fn full(&mut self, rings: &BTreeMap<String, (usize, i64)>, now: i64) {
        for (uid, (rows, oldest)) in rings {
            if *rows >= RING_ROWS && *oldest > self.until {
                self.since.insert(uid.clone(), *oldest);
            }
        }
        self.reach(now);
    }

    /// The stream was open until now.
    pub fn reach(&mut self, now: i64) {
        self.until = self.until.max(now - UNTOLD_SECONDS);
    }

    fn minutes(&self, uid: &str, hour: i64, until: i64) -> u64 {
        let from = self.since.get(uid).map_or(self.began, |since| *since);
        mask(hour, |minute| minute + 60 > from && minute + 60 <= until)
    }
}

/// The minutes of an hour that are meant, a bit each.
fn mask(hour: i64, is_meant: impl Fn(i64) -> bool) -> u64 {
    let meant = (0..60).filter(|at| is_meant(hour + at * 60));
    meant.fold(0, |mask, at| mask | 1 << at)
}

impl Gateways {
    /// The workload's known hours, those that are over now among them. `created`: when the workload came to be.
    /// `recorded` is asked once, at the first look: what an earlier operator knew comes before what rings tell.
    pub fn hours(
        &mut self,
        uid: &str,
        plane: Plane,
        (created, now): (Timestamp, Timestamp),
        recorded: impl FnOnce() -> HourHistory,
    ) -> Arc<HourHistory> {
        let known = self.histories.remove(uid);
        let mut history = known.unwrap_or_else(|| Arc::new(recorded()));
        if history.is_older_than_kept(Hour::of(now)) {
            Arc::make_mut(&mut history).forget_old(Hour::of(now));
        }
        if self.first_seen.contains_key(uid) {
            for (hour, sums) in self.closed(uid, plane, (created, now), &history) {
                Arc::make_mut(&mut history).record(hour, sums);
            }
        }
        self.histories.insert(uid.to_owned(), Arc::clone(&history));
        history
    }

    /// Hours that are over, known, and not in the history yet.
    fn closed(
        &self,
        uid: &str,
        plane: Plane,
        (created, now): (Timestamp, Timestamp),
        history: &HourHistory,
    ) -> Vec<(Hour, HourSums)> {
        let second = now.as_second();
        let remembered = second - WINDOW_SECONDS;
        let hour_of = |second| Timestamp::from_second(second).map_or(Hour::of(now), Hour::of);
        let first = hour_of(created.as_second().max(remembered) - 1).plus(1);
        let end = hour_of(second - SETTLED_SECONDS);
        let hours = (first.number()..end.number()).filter_map(Hour::new);
        let new: Vec<Hour> = hours
            .filter(|hour| history.get(*hour).is_none())
            .filter(|hour| self.is_known(uid, plane, hour.start().as_second(), second))
            .collect();
        if new.is_empty() {
            return Vec::new();
        }
        let minutes = self.minutes(uid);
        let sum = |hour: Hour| {
            let start = hour.start().as_second();
            let mut sums = HourSums::default();
            for minute in minutes.range(start..start + 3_600) {
                sums.add(&HourSums {
                    requests: minute.1.requests,
                    input_tokens: minute.1.input_tokens,
                    cached_input_tokens: minute.1.cached_input_tokens,
                    output_tokens: minute.1.output_tokens,
                });
            }
            (hour, sums)
        };
        new.into_iter().map(sum).collect()
    }

    fn is_known(&self, uid: &str, plane: Plane, hour: i64, now: i64) -> bool {
        let (mut heard, mut missed) = (0, 0);
        let mut count = |known: u64, served: u64| {
            heard |= known;
            missed |= served & !known;
        };
        for pod in self.pods.values().filter(|pod| pod.plane == plane) {
            let (known, served) = coverage(pod, uid, hour, now);
            count(known, served);
        }
        for ended in self.ended.iter().filter(|ended| ended.plane == plane) {
            let known = ended.heard.minutes(uid, hour, ended.heard.until);
            let began = ended.heard.began;
            let served = mask(hour, |minute| minute + 60 > began && minute < ended.at);
            count(known, served);
        }
        (heard & !missed).count_ones() >= LEAST_MINUTES
    }

    /// Remembers what a run that ended had covered.
    pub(super) fn remember_ended(&mut self, plane: Plane, heard: Heard, at: i64) {
        self.ended
            .retain(|ended| ended.at > at - WINDOW_SECONDS - 3_600);
        if self.ended.len() >= MOST_ENDED {
            self.ended.remove(0);
        }
        self.ended.push(Ended { plane, heard, at });
    }
}

/// Minutes that a pod's run told of, and minutes in which the pod served.
fn coverage(pod: &GatewayPod, uid: &str, hour: i64, now: i64) -> (u64, u64) {
    let Some(run) = &pod.run else {
        let started = pod.started.unwrap_or(i64::MIN);
        let served = mask(hour, |minute| pod.serving && minute + 60 > started);
        return (0, served);
    };
    let until = if pod.live().is_some() {
        now
    } else {
        run.heard.until
    };
    let served_until = if pod.serving { i64::MAX } else { until };
    let served = mask(hour, |minute| {
        minute + 60 > run.heard.began && minute < served_until
    });
    (run.heard.minutes(uid, hour, until), served)
}

#[cfg(test)]
mod tests;

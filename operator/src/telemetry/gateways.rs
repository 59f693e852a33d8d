//! What the gateways have in force and what they counted, over pods that come, restart and go.

mod hours;
mod pod;
mod report;

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;
use weir_crds::names;
use weir_placement::{HourHistory, Millis, ObservedDemand};
use weir_proto::Circuit;

use super::counters::{self, CounterSums, RowKey};
use super::demand::{self, Minutes};
use super::latency::{self, BUCKETS};
use super::streams::TelemetryChange;
use crate::cli::Plane;
use hours::Ended;
use pod::{GatewayPod, Run};

/// Latency is looked back at this far, in slots.
const LATENCY_WINDOW: Duration = Duration::from_secs(600);
const LATENCY_SLOT: Duration = Duration::from_secs(30);

/// Whether gateways have a route in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// All that count have, and there is at least one.
    All,
    /// These pods have not, by name; empty when the plane has no ready pod.
    Waiting(Vec<String>),
}

impl Acknowledged {
    /// Whether all have it.
    pub fn is_all(&self) -> bool {
        *self == Self::All
    }
}

/// What was metered for a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadUsage {
    /// Since when; gateways forget when they restart, so this is of the oldest that is remembered.
    pub since: Timestamp,
    /// By target.
    pub targets: BTreeMap<String, CounterSums>,
}

impl WorkloadUsage {
    /// Over all targets.
    pub fn total(&self) -> CounterSums {
        let mut total = CounterSums::default();
        for sums in self.targets.values() {
            total.add(sums);
        }
        total
    }
}

/// What gateways of the cloud plane know of a provider.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderObservation {
    /// Whether requests are sent to it, as the gateway that heard from it last sees it.
    pub circuit: Option<Circuit>,
    /// Mean time to first token in milliseconds.
    pub ttft_ms: Option<f64>,
    /// Share of requests of the last minutes that failed, in percent.
    pub error_percent: Option<f64>,
    /// When it last answered.
    pub last_contact: Option<Timestamp>,
    /// Why no request can be sent, such as a missing key.
    pub unusable: Option<String>,
    /// Why it did not answer last.
    pub failure: Option<String>,
}

#[derive(Default)]
pub(super) struct Gateways {
    /// Which plane serves a workload; fixed for its life.
    planes: BTreeMap<String, Plane>,
    pods: BTreeMap<String, GatewayPod>,
    /// What runs that ended had counted.
    retired: BTreeMap<RowKey, CounterSums>,
    retired_minutes: BTreeMap<String, Minutes>,
    histories: BTreeMap<String, Arc<HourHistory>>,
    ended: Vec<Ended>,
    first_seen: BTreeMap<String, Timestamp>,
    wakes: BTreeMap<(String, String), Timestamp>,
    latencies: BTreeMap<(String, String), Slots>,
}

type Slots = VecDeque<(Instant, [u64; BUCKETS])>;

impl Gateways {
    /// The gateway pods that exist; runs of others are retired.
    pub fn set_pods<'a>(
        &mut self,
        pods: impl IntoIterator<Item = &'a Pod>,
    ) -> Vec<TelemetryChange> {
        let mut old = std::mem::take(&mut self.pods);
        let mut changed = [false; 2];
        for pod in pods {
            let Some((uid, mut now)) = pod::describe(pod) else {
                continue;
            };
            let before = old.remove(&uid);
            let same = before
                .as_ref()
                .is_some_and(|before| before.looks_like(&now));
            changed[now.plane as usize] |= !same;
            if let Some(before) = before {
                now.connected = before.connected;
                now.run = before.run;
            }
            self.pods.insert(uid, now);
        }
        for pod in old.into_values() {
            changed[pod.plane as usize] = true;
            if let Some(run) = pod.run {
                self.retire(run, pod.plane);
            }
        }
        [Plane::Local, Plane::Cloud]
            .into_iter()
            .filter(|plane| changed[*plane as usize])
            .map(TelemetryChange::Gateways)
            .collect()
    }

    pub fn connected(&mut self, pod_uid: &str, connected: bool) -> Vec<TelemetryChange> {
        let Some(pod) = self.pods.get_mut(pod_uid) else {
            return Vec::new();
        };
        let changed = pod.connected != connected;
        let live = pod.live().is_some();
        pod.connected = connected;
        if let Some(run) = &mut pod.run {
            if live {
                run.heard.reach(Timestamp::now().as_second());
            }
            run.synced = false;
        }
        let plane = pod.plane;
        let change = changed.then_some(TelemetryChange::Gateways(plane));
        change.into_iter().collect()
    }

    pub fn acknowledged(
        &self,
        plane: Plane,
        uid: &str,
        (generation, step): (i64, i64),
        all_pods: bool,
    ) -> Acknowledged {
        let of_plane = || self.pods.values().filter(move |pod| pod.plane == plane);
        let waiting: Vec<String> = of_plane()
            .filter(|pod| pod.ready || (all_pods && pod.serving))
            .filter(|pod| {
                let acked = pod.live().and_then(|run| run.acknowledged.get(uid));
                !acked.is_some_and(|ack| ack.generation >= generation && ack.step >= step)
            })
            .map(|pod| pod.name.clone())
            .collect();
        if waiting.is_empty() && of_plane().any(|pod| pod.ready) {
            return Acknowledged::All;
        }
        Acknowledged::Waiting(waiting)
    }

    /// When the last of the ready gateways of the plane that are not heard became ready.
    pub fn unheard_since(&self, plane: Plane) -> Option<Timestamp> {
        let unheard = self
            .pods
            .values()
            .filter(|pod| pod.plane == plane && pod.ready && pod.live().is_none());
        unheard.filter_map(|pod| pod.ready_since).max()
    }

    /// Whether every ready gateway accepts this key, by its hash in hexadecimal, as the workload's present one.
    pub fn key_acknowledged(&self, plane: Plane, uid: &str, sha256: &str) -> bool {
        let ready = || {
            let pods = self.pods.values();
            pods.filter(|pod| pod.plane == plane && pod.ready)
        };
        let has = |pod: &GatewayPod| {
            let known = pod.live().and_then(|run| run.acknowledged.get(uid));
            known.is_some_and(|known| known.key == sha256)
        };
        ready().next().is_some() && ready().all(has)
    }

    /// Ready gateways of the plane that say they have no engine of this target, by name. One that is not heard, or does
    /// not say, speaks against nothing.
    pub fn without_engine(&self, plane: Plane, uid: &str, target: &str) -> Vec<String> {
        let label = names::target_label(target);
        let of_plane = self.pods.values().filter(|pod| pod.plane == plane);
        of_plane
            .filter(|pod| pod.ready)
            .filter(|pod| {
                let known = pod.live().and_then(|run| run.acknowledged.get(uid));
                let reachable = known.and_then(|known| known.reachable.as_ref());
                reachable.is_some_and(|reachable| !reachable.contains(&label))
            })
            .map(|pod| pod.name.clone())
            .collect()
    }

    pub fn counters_since(&self, uid: &str, target: &str, step: i64) -> CounterSums {
        let mut sums = CounterSums::default();
        let from = (uid.to_owned(), target.to_owned(), step);
        let to = (uid.to_owned(), target.to_owned(), i64::MAX);
        for rows in self.all_rows() {
            for row in rows.range(from.clone()..=to.clone()) {
                sums.add(row.1);
            }
        }
        sums
    }

    pub fn in_flight(&self, plane: Plane, uid: &str, target: &str) -> Option<u64> {
        let mut sum = None;
        for pod in self.pods.values() {
            if pod.plane != plane || !pod.serving {
                continue;
            }
            let run = pod.live()?;
            let rows = run.rows.range(range_of(uid, target));
            let here: u64 = rows.map(|(_, sums)| sums.in_flight).sum();
            sum = Some(sum.unwrap_or(0) + here);
        }
        sum
    }

    pub fn ttft_p95(&self, uid: &str, target: &str, now: Instant) -> Option<Millis> {
        let slots = self.latencies.get(&(uid.to_owned(), target.to_owned()))?;
        let mut sum = [0; BUCKETS];
        for (start, buckets) in slots {
            if now - *start < LATENCY_WINDOW {
                for (a, b) in sum.iter_mut().zip(buckets) {
                    *a += b;
                }
            }
        }
        latency::p95(&sum)
    }

    pub fn wake_requested(&self, uid: &str, target: &str) -> Option<Timestamp> {
        self.wakes
            .get(&(uid.to_owned(), target.to_owned()))
            .copied()
    }

    pub fn usage(&self, uid: &str) -> Option<WorkloadUsage> {
        let since = *self.first_seen.get(uid)?;
        let first_minute = self.minutes(uid).keys().next().copied();
        let mut targets = BTreeMap::<String, CounterSums>::new();
        let from = (uid.to_owned(), String::new(), i64::MIN);
        for rows in self.all_rows() {
            for ((_, target, _), sums) in rows.range(from.clone()..).take_while(|(k, _)| k.0 == uid)
            {
                targets.entry(target.clone()).or_default().add(sums);
            }
        }
        let since = match first_minute.and_then(|second| Timestamp::from_second(second).ok()) {
            Some(minute) => since.min(minute),
            None => since,
        };
        Some(WorkloadUsage { since, targets })
    }

    pub fn demand(&self, uid: &str, now: Timestamp) -> Option<ObservedDemand> {
        let first_seen = *self.first_seen.get(uid)?;
        let mut minutes = self.minutes(uid);
        demand::prune(&mut minutes, now);
        Some(demand::observe(&minutes, first_seen, now))
    }

    pub fn last_request(&self, uid: &str) -> Option<Timestamp> {
        let minutes = self.minutes(uid);
        let mut latest = minutes.iter().rev().filter(|(_, sums)| sums.requests > 0);
        Timestamp::from_second(*latest.next()?.0).ok()
    }

    pub fn provider(&self, name: &str) -> Option<ProviderObservation> {
        let mut states: Vec<_> = self
            .pods
            .values()
            .filter(|pod| pod.plane == Plane::Cloud)
            .filter_map(GatewayPod::live)
            .filter_map(|run| run.providers.get(name))
            .collect();
        // One that has just started has no verdict, and speaks for the provider only where no other has.
        states.sort_by_key(|state| (state.circuit.is_some(), state.last_contact));
        let latest = states.last()?;
        let mean = |values: Vec<f64>| {
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        Some(ProviderObservation {
            circuit: latest.circuit,
            ttft_ms: mean(states.iter().filter_map(|s| s.ttft_ms).collect()),
            error_percent: mean(states.iter().filter_map(|s| s.error_percent).collect()),
            last_contact: latest.last_contact,
            unusable: states.iter().find_map(|state| state.unusable.clone()),
            failure: latest.failure.clone(),
        })
    }

    /// Learns which plane serves a workload: rows of the other one's gateways are not believed.
    pub fn set_plane(&mut self, uid: &str, plane: Plane) {
        if self.planes.get(uid) != Some(&plane) {
            self.planes.insert(uid.to_owned(), plane);
        }
    }

    pub fn retain(&mut self, exists: impl Fn(&str) -> bool) {
        self.planes.retain(|uid, _| exists(uid));
        self.retired.retain(|(uid, ..), _| exists(uid));
        counters::fold_old_steps(&mut self.retired);
        self.retired_minutes.retain(|uid, _| exists(uid));
        self.first_seen.retain(|uid, _| exists(uid));
        self.histories.retain(|uid, _| exists(uid));
        self.wakes.retain(|(uid, _), _| exists(uid));
        self.latencies.retain(|(uid, _), _| exists(uid));
        let now = Timestamp::now();
        for minutes in self.retired_minutes.values_mut() {
            demand::prune(minutes, now);
        }
        for run in self.pods.values_mut().filter_map(|pod| pod.run.as_mut()) {
            run.rows.retain(|(uid, ..), _| exists(uid));
            run.minutes.retain(|uid, _| exists(uid));
            for minutes in run.minutes.values_mut() {
                demand::prune(minutes, now);
            }
        }
    }

    /// Keeps what a run had counted; nothing of it is under way any more.
    fn retire(&mut self, run: Run, plane: Plane) {
        self.remember_ended(plane, run.heard, Timestamp::now().as_second());
        for (key, mut sums) in run.rows {
            sums.in_flight = 0;
            self.retired.entry(key).or_default().add(&sums);
        }
        for (uid, minutes) in run.minutes {
            let kept = self.retired_minutes.entry(uid).or_default();
            for (start, sums) in minutes {
                kept.entry(start).or_default().add(&sums);
            }
        }
    }

    fn all_rows(&self) -> impl Iterator<Item = &BTreeMap<RowKey, CounterSums>> {
        let runs = self.pods.values().filter_map(|pod| pod.run.as_ref());
        runs.map(|run| &run.rows)
            .chain(std::iter::once(&self.retired))
    }

    /// The workload's minutes over all runs.
    fn minutes(&self, uid: &str) -> Minutes {
        let mut merged = Minutes::new();
        let runs = self.pods.values().filter_map(|pod| pod.run.as_ref());
        let parts = runs
            .filter_map(|run| run.minutes.get(uid))
            .chain(self.retired_minutes.get(uid));
        for part in parts {
            for (start, sums) in part {
                merged.entry(*start).or_default().add(sums);
            }
        }
        merged
    }
}

fn range_of(uid: &str, target: &str) -> std::ops::RangeInclusive<RowKey> {
    (uid.to_owned(), target.to_owned(), i64::MIN)..=(uid.to_owned(), target.to_owned(), i64::MAX)
}

#[cfg(test)]
#[path = "gateways_tests.rs"]
mod tests;

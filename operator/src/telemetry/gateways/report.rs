//! Applying one report of a gateway: a row that makes no sense is dropped, the others count.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use tokio::time::Instant;
use weir_proto::{
    Acknowledgement, Circuit, Counters, GatewayReport, Minute, ProviderState, Reachable, WakeUp,
};

use super::hours::Heard;
use super::pod::{InForce, ProviderRow, Run};
use super::{Gateways, LATENCY_SLOT, LATENCY_WINDOW};
use crate::cli::Plane;
use crate::telemetry::counters::{CounterSums, sums_of};
use crate::telemetry::demand::{self, MinuteSums};
use crate::telemetry::latency::BUCKETS;
use crate::telemetry::streams::TelemetryChange;

/// Rows that one gateway may have; what exceeds it is dropped.
const MAX_ROWS: usize = 200_000;
const MAX_IN_FLIGHT: u64 = 1_000_000;
/// Targets of one workload that a gateway may name.
const MAX_TARGETS: usize = 256;
const MAX_UID: usize = 64;
const HASH_BYTES: usize = 32;
const MAX_NAME: usize = 253;
const MAX_TEXT: usize = 512;

type Dropped<'a> = &'a mut dyn FnMut(&'static str);

impl Gateways {
    pub fn report(
        &mut self,
        pod_uid: &str,
        mut report: GatewayReport,
        (now, wall): (Instant, Timestamp),
        dropped: Dropped<'_>,
    ) -> (bool, Vec<TelemetryChange>) {
        self.drop_foreign(pod_uid, &mut report, dropped);
        let Some(mut run) = self.accept(pod_uid, &report, wall, dropped) else {
            return (false, Vec::new());
        };
        let mut changes = BTreeSet::new();
        apply_acknowledgements(&mut run, report.acknowledgements, report.full, &mut changes);
        for uid in run.acknowledged.keys() {
            if !self.first_seen.contains_key(uid) {
                self.first_seen.insert(uid.clone(), wall);
            }
        }
        self.apply_counters(
            &mut run,
            (report.counters, report.full),
            now,
            &mut changes,
            dropped,
        );
        let rings = rings(&report.minutes);
        self.apply_minutes(&mut run, report.minutes, wall, dropped);
        if report.full {
            run.heard.full(&rings, wall.as_second());
        }
        self.apply_wake_ups(report.wake_ups, wall, &mut changes);
        apply_providers(
            &mut run,
            report.providers,
            report.full,
            &mut changes,
            dropped,
        );
        if let Some(pod) = self.pods.get_mut(pod_uid) {
            pod.run = Some(run);
        }
        (true, changes.into_iter().collect())
    }

    /// Leaves of a report what its gateway can know: rows of workloads that its plane serves. A workload that is not known
    /// here yet is in nobody's way: its UID cannot be guessed.
    fn drop_foreign(&self, pod_uid: &str, report: &mut GatewayReport, dropped: Dropped<'_>) {
        let Some(plane) = self.pods.get(pod_uid).map(|pod| pod.plane) else {
            return;
        };
        let mut ours = |uid: &str| {
            let foreign = self.planes.get(uid).is_some_and(|known| *known != plane);
            if foreign {
                dropped("other-plane");
            }
            !foreign
        };
        report.acknowledgements.retain(|row| ours(&row.uid));
        report.counters.retain(|row| ours(&row.uid));
        report.minutes.retain(|row| ours(&row.uid));
        report.wake_ups.retain(|row| ours(&row.uid));
        if plane == Plane::Local {
            for _ in report.providers.drain(..) {
                dropped("other-plane");
            }
        }
    }

    /// Takes the run that the report belongs to out of its pod, or begins a new one.
    fn accept(
        &mut self,
        pod_uid: &str,
        report: &GatewayReport,
        wall: Timestamp,
        dropped: Dropped<'_>,
    ) -> Option<Run> {
        if report.pod_uid != pod_uid {
            dropped("wrong-pod");
            return None;
        }
        let Some(pod) = self.pods.get_mut(pod_uid) else {
            dropped("unknown-pod");
            return None;
        };
        let same = pod.run.take_if(|run| run.boot_id == report.boot_id);
        let behind = same
            .as_ref()
            .is_some_and(|run| run.synced && report.seq <= run.seq);
        let not_full = !report.full && !same.as_ref().is_some_and(|run| run.synced);
        if behind || not_full {
            dropped(if behind { "not-monotonic" } else { "not-full" });
            pod.run = same.or_else(|| pod.run.take());
            return None;
        }
        let plane = pod.plane;
        let ended = pod.run.take();
        // A restart that is noticed here may not show in the pod yet.
        let started = pod.started.filter(|_| ended.is_none());
        let began = started.unwrap_or(wall.as_second()).min(wall.as_second());
        if let Some(ended) = ended {
            self.retire(ended, plane);
        }
        let mut run = same.unwrap_or_else(|| Run {
            boot_id: report.boot_id.clone(),
            seq: 0,
            heard: Heard::since(began),
            synced: false,
            acknowledged: HashMap::new(),
            rows: BTreeMap::new(),
            minutes: BTreeMap::new(),
            providers: BTreeMap::new(),
        });
        run.seq = report.seq;
        run.synced = true;
        Some(run)
    }

    fn apply_counters(
        &mut self,
        run: &mut Run,
        (rows, full): (Vec<Counters>, bool),
        now: Instant,
        changes: &mut BTreeSet<TelemetryChange>,
        dropped: Dropped<'_>,
    ) {
        let mut named = BTreeSet::new();
        for row in rows {
            let sums = sums_of(&row).filter(|sums| sums.in_flight <= MAX_IN_FLIGHT);
            let named_well = is_uid(&row.uid) && is_name(&row.target);
            let Some(sums) = sums.filter(|_| named_well) else {
                dropped("malformed-counters");
                continue;
            };
            let key = (row.uid, row.target, row.step);
            let before = run.rows.get(&key);
            if before.is_none() && run.rows.len() >= MAX_ROWS {
                dropped("too-many-rows");
                continue;
            }
            if before.is_some_and(|before| !sums.continues(before)) {
                dropped("counters-backwards");
                continue;
            }
            let idle = sums.in_flight == 0 && before.is_some_and(|b| b.in_flight > 0);
            if idle {
                changes.insert(TelemetryChange::Workload(key.0.clone()));
            }
            self.note_latency(&key.0, &key.1, before, &sums, now);
            if full {
                named.insert(key.clone());
            }
            run.rows.insert(key, sums);
        }
        if full {
            for (key, sums) in &mut run.rows {
                if !named.contains(key) {
                    sums.in_flight = 0;
                }
            }
        }
    }

    fn note_latency(
        &mut self,
        uid: &str,
        target: &str,
        before: Option<&CounterSums>,
        sums: &CounterSums,
        now: Instant,
    ) {
        let none = [0; BUCKETS];
        let before = before.map_or(&none, |before| &before.ttft_buckets);
        if *before == sums.ttft_buckets {
            return;
        }
        let slots = self
            .latencies
            .entry((uid.to_owned(), target.to_owned()))
            .or_default();
        while slots
            .front()
            .is_some_and(|(start, _)| now - *start >= LATENCY_WINDOW)
        {
            slots.pop_front();
        }
        if slots
            .back()
            .is_none_or(|(start, _)| now - *start >= LATENCY_SLOT)
        {
            slots.push_back((now, none));
        }
        let Some((_, slot)) = slots.back_mut() else {
            return;
        };
        for ((slot, now), then) in slot.iter_mut().zip(sums.ttft_buckets).zip(before) {
            *slot += now - then;
        }
    }

    fn apply_minutes(
        &mut self,
        run: &mut Run,
        minutes: Vec<Minute>,
        wall: Timestamp,
        dropped: Dropped<'_>,
    ) {
        for minute in minutes {
            if !is_uid(&minute.uid) || !demand::is_plausible(minute.start, wall) {
                dropped("malformed-minute");
                continue;
            }
            let sums = MinuteSums::of(&minute);
            self.first_seen.entry(minute.uid.clone()).or_insert(wall);
            run.minutes
                .entry(minute.uid)
                .or_default()
                .insert(minute.start, sums);
        }
    }

    fn apply_wake_ups(
        &mut self,
        wake_ups: Vec<WakeUp>,
        wall: Timestamp,
        changes: &mut BTreeSet<TelemetryChange>,
    ) {
        for WakeUp { uid, target } in wake_ups {
            if is_uid(&uid) && is_name(&target) && self.first_seen.contains_key(&uid) {
                changes.insert(TelemetryChange::Workload(uid.clone()));
                self.wakes.insert((uid, target), wall);
            }
        }
    }
}

/// How many minutes a report has of each workload, and the oldest of them.
fn rings(minutes: &[Minute]) -> BTreeMap<String, (usize, i64)> {
    let mut rings = BTreeMap::<String, (usize, i64)>::new();
    for minute in minutes {
        let (rows, oldest) = rings.entry(minute.uid.clone()).or_insert((0, i64::MAX));
        *rows += 1;
        *oldest = minute.start.min(*oldest);
    }
    rings
}

/// A hash in hexadecimal; none where it has another length.
fn key(hash: &[u8]) -> String {
    let is_hash = hash.len() == HASH_BYTES;
    if is_hash {
        hex::encode(hash)
    } else {
        String::new()
    }
}

fn apply_acknowledgements(
    run: &mut Run,
    rows: Vec<Acknowledgement>,
    full: bool,
    changes: &mut BTreeSet<TelemetryChange>,
) {
    let mut before = HashMap::new();
    if full {
        before = std::mem::take(&mut run.acknowledged);
    }
    for row in rows {
        if !is_uid(&row.uid) {
            continue;
        }
        let known = if full {
            before.remove(&row.uid)
        } else {
            run.acknowledged.remove(&row.uid)
        };
        let now = (!row.removed).then(|| InForce {
            generation: row.generation,
            step: row.step,
            decision_id: cut(row.decision_id),
            reachable: row.reachable.map(labels),
            key: key(&row.key),
        });
        if known != now {
            changes.insert(TelemetryChange::Workload(row.uid.clone()));
        }
        if let Some(now) = now {
            run.acknowledged.insert(row.uid, now);
        }
    }
    changes.extend(before.into_keys().map(TelemetryChange::Workload));
}

fn apply_providers(
    run: &mut Run,
    rows: Vec<ProviderState>,
    full: bool,
    changes: &mut BTreeSet<TelemetryChange>,
    dropped: Dropped<'_>,
) {
    let mut before = BTreeMap::new();
    if full {
        before = std::mem::take(&mut run.providers);
    }
    for row in rows {
        if !is_name(&row.provider) {
            dropped("malformed-provider");
            continue;
        }
        let circuit = match row.circuit() {
            Circuit::Unspecified => None,
            // A gateway of an earlier release tries whether it is back: until it is, it is not.
            Circuit::HalfOpen => Some(Circuit::Open),
            known => Some(known),
        };
        let mut within = |value: Option<f64>, max: f64| {
            let sane = value.filter(|v| v.is_finite() && (0.0..=max).contains(v));
            if sane.is_none() && value.is_some() {
                dropped("out-of-range");
            }
            sane
        };
        let now = ProviderRow {
            circuit,
            ttft_ms: within(row.ttft_ms, 86_400_000.0),
            error_percent: within(row.error_percent, 100.0),
            last_contact: row
                .last_contact
                .and_then(|second| Timestamp::from_second(second).ok()),
            unusable: (!row.unusable.is_empty()).then(|| cut(row.unusable)),
            failure: (!row.failure.is_empty()).then(|| cut(row.failure)),
        };
        let known = before
            .remove(&row.provider)
            .or_else(|| run.providers.remove(&row.provider));
        let same = known.is_some_and(|k| {
            k.circuit == now.circuit && k.unusable == now.unusable && k.failure == now.failure
        });
        if !same {
            changes.insert(TelemetryChange::Provider(row.provider.clone()));
        }
        run.providers.insert(row.provider, now);
    }
    changes.extend(before.into_keys().map(TelemetryChange::Provider));
}

fn labels(reachable: Reachable) -> BTreeSet<String> {
    let all = reachable.targets.into_iter();
    all.filter(|label| is_name(label))
        .take(MAX_TARGETS)
        .collect()
}

fn is_uid(text: &str) -> bool {
    (1..=MAX_UID).contains(&text.len())
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
}

fn cut(mut text: String) -> String {
    let end = (0..=text.len().min(MAX_TEXT))
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    text.truncate(end);
    text
}

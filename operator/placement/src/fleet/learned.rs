//! What was observed of a fleet, and how well each forecast did: the memory of the hourly policy, as a value.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::chain::Path;
use super::experts::{EXPERTS, Experts, HORIZON};
use super::series::{REMEMBERED_HOURS, Series};
use crate::snapshot::WorkloadId;

pub use super::series::HourDemand;

/// Hours ahead at which forecasts are checked; each stands for the hours from the previous one on.
const PROBES: [usize; 4] = [0, 2, 5, 11];

/// Share of a forecast's error that still counts an hour later: half of it is forgotten in a day.
const ERROR_MEMORY: f64 = 0.97;

/// A forecast whose squared error is a tenth lower than another's weighs 1.1 to this power as much.
const SHARPNESS: i32 = 6;

/// No forecast counts as more than a thousand times better than the average one.
const LEAST_RELATIVE_ERROR: f64 = 1e-3;

/// A workload's own history counts as much as the fleet's mean after this many known hours.
const PRIOR_HOURS: f64 = 1.0;

/// Discounted squared errors of one replica's forecasts, by probe.
type Errors = [[f64; EXPERTS]; PROBES.len()];

/// What was learned of a fleet. Keyed by the hour of observation: an hour that was observed changes nothing when it is
/// observed again. Bounded: a week and a half of hours per workload. Observing the same hours in turn builds the same value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Learned {
    max_replicas: u32,
    next_hour: Option<u64>,
    workloads: BTreeMap<WorkloadId, Track>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Track {
    series: Series,
    /// One for each replica that ever saved something.
    errors: Vec<Errors>,
}

impl Learned {
    /// Nothing learned yet, of workloads that hold at most `max_replicas` replicas each.
    pub fn new(max_replicas: u32) -> Self {
        Self {
            max_replicas,
            next_hour: None,
            workloads: BTreeMap::new(),
        }
    }

    /// Most replicas that a workload can hold.
    pub fn max_replicas(&self) -> u32 {
        self.max_replicas
    }

    /// Learns from `hour`, a number of hours since some midnight. A workload that is absent from `demand` is unknown in
    /// that hour, which is not zero; so are hours that were skipped. An hour that is not later than the last one
    /// observed changes nothing.
    pub fn observe(&mut self, hour: u64, demand: &BTreeMap<WorkloadId, HourDemand>) {
        let next = self.next_hour.unwrap_or(hour);
        let Some(skipped) = hour.checked_sub(next) else {
            return;
        };
        for _ in 0..skipped.min(REMEMBERED_HOURS as u64) {
            self.append(&BTreeMap::new());
        }
        self.append(demand);
        self.next_hour = Some(hour + 1);
    }

    fn append(&mut self, demand: &BTreeMap<WorkloadId, HourDemand>) {
        for id in demand.keys() {
            self.workloads.entry(id.clone()).or_default();
        }
        for (id, track) in &mut self.workloads {
            track.observe(demand.get(id).copied(), self.max_replicas);
        }
        self.workloads.retain(|_, track| track.series.known() > 0);
    }

    /// Forecast savings of every replica of `workloads`, in dollars: those of a workload follow each other, the first
    /// replica first, and never increase with the replica. A workload of which nothing is known attracts nothing.
    pub(super) fn forecasts<'a>(
        &self,
        workloads: impl Iterator<Item = &'a WorkloadId>,
    ) -> Vec<Path> {
        let prior = self.prior();
        let mut forecasts = Vec::new();
        for id in workloads {
            let track = self.workloads.get(id);
            let known = track.map_or(0, |track| track.series.known()) as f64;
            let mut least = [f64::INFINITY; HORIZON];
            for (replica, prior) in prior.iter().enumerate() {
                let own = track.map_or([0.0; HORIZON], |track| track.forecast(replica));
                let prior = if known > 0.0 { *prior } else { 0.0 };
                for (least, own) in least.iter_mut().zip(own) {
                    let blend = (known * own + PRIOR_HOURS * prior) / (known + PRIOR_HOURS);
                    *least = least.min(blend);
                }
                forecasts.push(least);
            }
        }
        forecasts
    }

    /// What each replica saves in the mean over all that is known: a guess for a workload of which little is.
    fn prior(&self) -> Vec<f64> {
        let tracks = self.workloads.values();
        let known: usize = tracks.map(|track| track.series.known()).sum();
        let mean = |replica: u32| {
            let sums = self.workloads.values().map(|track| {
                let savings = track.series.savings(replica);
                savings.into_iter().flatten().sum::<f64>()
            });
            sums.sum::<f64>() / known.max(1) as f64
        };
        (0..self.max_replicas).map(mean).collect()
    }
}

impl Track {
    fn observe(&mut self, demand: Option<HourDemand>, max_replicas: u32) {
        let useful =
            |replica: u32| demand.is_some_and(|demand| demand.saved_by_replica(replica) > 0.0);
        while self.errors.len() < max_replicas as usize && useful(self.errors.len() as u32) {
            self.errors.push(Errors::default());
        }
        for (replica, errors) in self.errors.iter_mut().enumerate() {
            let actual = demand.map(|demand| demand.saved_by_replica(replica as u32));
            judge(errors, &self.series.savings(replica as u32), actual);
        }
        self.series.push(demand);
    }

    fn forecast(&self, replica: usize) -> Path {
        let mut path = [0.0; HORIZON];
        let Some(errors) = self.errors.get(replica) else {
            return path;
        };
        let savings = self.series.savings(replica as u32);
        let Some(experts) = Experts::new(&savings) else {
            return path;
        };
        let weights = errors.map(|errors| weights(&errors));
        for (ahead, forecast) in path.iter_mut().enumerate() {
            let probe = PROBES.partition_point(|probe| *probe < ahead);
            let said = experts.forecast(ahead);
            *forecast = said.iter().zip(weights[probe]).map(|(a, b)| a * b).sum();
        }
        path
    }
}

/// Adds what `actual` says of the forecasts that were made of it, and lets older errors fade.
fn judge(errors: &mut Errors, history: &[Option<f64>], actual: Option<f64>) {
    for (errors, ahead) in errors.iter_mut().zip(PROBES) {
        for error in errors.iter_mut() {
            *error *= ERROR_MEMORY;
        }
        let made_then = history
            .len()
            .checked_sub(ahead)
            .and_then(|hours| Experts::new(&history[..hours]));
        let (Some(actual), Some(experts)) = (actual, made_then) else {
            continue;
        };
        for (error, said) in errors.iter_mut().zip(experts.forecast(ahead)) {
            *error += (said - actual) * (said - actual);
        }
    }
}

/// Weights that sum to one: the lower the error, the higher.
fn weights(errors: &[f64; EXPERTS]) -> [f64; EXPERTS] {
    let mean = errors.iter().sum::<f64>() / EXPERTS as f64;
    if mean <= 0.0 {
        return [1.0 / EXPERTS as f64; EXPERTS];
    }
    let weight = |error: f64| (error / mean).max(LEAST_RELATIVE_ERROR).powi(-SHARPNESS);
    let weights = errors.map(weight);
    let total: f64 = weights.iter().sum();
    weights.map(|weight| weight / total)
}

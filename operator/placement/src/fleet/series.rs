//! The last hours of one workload's demand, with gaps where nothing is known.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::quantity::NonNegative;

/// Hours that are remembered: a week for means and seasons, and the twelve hours that forecasts reach back over.
pub(super) const REMEMBERED_HOURS: usize = 7 * 24 + 12;

/// What one hour of a workload needed, and what it would cost in the cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HourDemand {
    /// Replicas that would have served all of it; a fraction is part of a replica's time.
    pub replicas_needed: NonNegative,
    /// Dollars that the cloud asks for all of it.
    pub cloud_usd: NonNegative,
}

impl HourDemand {
    /// Dollars that the replica at `index` (0 is the first) saves: the share of the demand that it adds to what is served.
    pub fn saved_by_replica(self, index: u32) -> f64 {
        let need = self.replicas_needed.get();
        if need <= 0.0 {
            return 0.0;
        }
        let served = |replicas: u32| (f64::from(replicas) / need).min(1.0);
        self.cloud_usd.get() * (served(index + 1) - served(index))
    }
}

/// Consecutive hours, the newest last; `None` is an hour of which nothing is known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Series {
    hours: VecDeque<Option<HourDemand>>,
}

impl Series {
    /// Appends an hour and forgets what is older than [`REMEMBERED_HOURS`].
    pub(super) fn push(&mut self, hour: Option<HourDemand>) {
        if self.hours.len() == REMEMBERED_HOURS {
            self.hours.pop_front();
        }
        self.hours.push_back(hour);
    }

    /// What the replica at `index` would have saved, hour by hour, the oldest first.
    pub(super) fn savings(&self, index: u32) -> Vec<Option<f64>> {
        let saved = |hour: &Option<HourDemand>| hour.map(|hour| hour.saved_by_replica(index));
        self.hours.iter().map(saved).collect()
    }

    /// How many of the hours are known.
    pub(super) fn known(&self) -> usize {
        self.hours.iter().flatten().count()
    }
}

//! What a bundle (format `weir-backtest/2`) holds: prices, offers and demand, step by step.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, de};
use weir_placement::{NonNegative, Timestamp};

/// The format that is read.
pub const FORMAT: &str = "weir-backtest/2";

/// A bundle is at most this long when unpacked; a fleet of ten thousand workloads for a month is a tenth of it.
const MAX_BYTES: u64 = 4 << 30;

/// Why a bundle cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file cannot be opened or unpacked.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The content is not what the format says.
    #[error("{path} is not a bundle")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The content contradicts itself.
    #[error("{path} is not a bundle: {reason}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The contradiction.
        reason: String,
    },
}

/// One scenario.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Bundle {
    /// One workload with its own prices.
    Workload(WorkloadBundle),
    /// Many workloads that share the devices of a fleet.
    Fleet(FleetBundle),
}

/// One workload: what is known beforehand, and what happened.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadBundle {
    /// The format's name.
    pub format: String,
    /// Whether tokens may leave the cluster.
    pub egress: Egress,
    /// Rent that a replica costs in addition when it is added, in hours.
    pub warm_hours: NonNegative,
    /// Cost of a change of cloud model, in dollars.
    pub qualification_usd: NonNegative,
    /// Most replicas that can be held.
    pub max_replicas: u32,
    /// What a replica does.
    pub capacity: Capacity,
    /// What the team expects.
    pub declared: Declared,
    /// What happened; one decision each.
    pub steps: Vec<Step>,
}

/// Whether tokens may leave the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Egress {
    /// They may.
    Allowed,
    /// They may not: no cloud model is ever named.
    Forbidden,
}

/// What a replica does in an hour.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// Output tokens that one replica serves in an hour.
    pub output_tokens_per_replica_hour: NonNegative,
    /// Work of an input token as a share of an output token's.
    pub input_token_weight: NonNegative,
}

/// What the team wrote into `spec.demand` beforehand.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Declared {
    /// Input tokens in a month of 730 hours.
    pub input_tokens_per_month: NonNegative,
    /// Output tokens in a month of 730 hours.
    pub output_tokens_per_month: NonNegative,
    /// How demand varies, such as `Steady`.
    #[serde(default)]
    pub pattern: String,
}

/// One step: a decision is held for all its hours.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// When the step begins.
    #[serde(deserialize_with = "time")]
    pub time: Timestamp,
    /// Dollars for one hour of one replica.
    pub local_usd_per_replica_hour: NonNegative,
    /// Models that are offered in this step.
    pub cloud: BTreeMap<String, CloudPrice>,
    /// Demand, hour by hour.
    pub hours: Vec<Hour>,
}

/// Price of a cloud model, in dollars for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloudPrice {
    /// Of the input.
    #[serde(rename = "inputUsdPerMTok")]
    pub input: NonNegative,
    /// Of the output.
    #[serde(rename = "outputUsdPerMTok")]
    pub output: NonNegative,
}

/// Demand of one hour.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hour {
    /// Replicas that would serve all of it.
    pub replicas_needed: NonNegative,
    /// Input tokens.
    pub input_tokens: NonNegative,
    /// Output tokens.
    pub output_tokens: NonNegative,
}

/// Many workloads that share the devices of a fleet.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetBundle {
    /// The format's name.
    pub format: String,
    /// Devices of the fleet; their cost is sunk.
    pub gpus: u32,
    /// Most replicas that one workload can hold.
    pub max_replicas_per_workload: u32,
    /// Share of its first hour that an added replica does not serve.
    pub warm_hours: NonNegative,
    /// The workloads, all with the same number of hours; hour 0 is hour 0 of a day.
    pub workloads: Vec<FleetWorkload>,
}

/// One workload of a fleet.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct FleetWorkload {
    /// Its name, unique in the fleet.
    pub name: String,
    /// What happened, hour by hour.
    pub hours: Vec<FleetHour>,
}

/// One hour of a workload of a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetHour {
    /// Replicas that would serve all of the demand.
    pub replicas_needed: NonNegative,
    /// What the hour's demand costs in the cloud, in dollars.
    pub cloud_usd: NonNegative,
}

/// A decision for one step of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkloadDecision {
    /// Replicas that are held.
    pub replicas: u32,
    /// The model that the overflow goes to.
    pub cloud: Option<String>,
}

impl Bundle {
    /// Reads a gzip-compressed file.
    pub fn read(path: &Path) -> Result<Self, BundleError> {
        let read = |source| BundleError::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(read)?;
        let mut text = String::new();
        GzDecoder::new(BufReader::new(file))
            .take(MAX_BYTES)
            .read_to_string(&mut text)
            .map_err(read)?;
        let bundle: Self = serde_json::from_str(&text).map_err(|source| BundleError::Parse {
            path: path.to_owned(),
            source,
        })?;
        bundle.check().map_err(|reason| BundleError::Invalid {
            path: path.to_owned(),
            reason,
        })?;
        Ok(bundle)
    }

    fn check(&self) -> Result<(), String> {
        let format = match self {
            Self::Workload(bundle) => &bundle.format,
            Self::Fleet(bundle) => &bundle.format,
        };
        if format != FORMAT {
            return Err(format!("its format is {format:?}, not {FORMAT:?}"));
        }
        match self {
            Self::Workload(bundle) => bundle.check(),
            Self::Fleet(bundle) => bundle.check(),
        }
    }
}

impl WorkloadBundle {
    fn check(&self) -> Result<(), String> {
        if self.capacity.output_tokens_per_replica_hour == NonNegative::ZERO {
            return Err("a replica serves no tokens".to_owned());
        }
        if let Some(step) = self.steps.iter().find(|step| step.hours.is_empty()) {
            return Err(format!("the step of {} has no hours", step.time));
        }
        let late = |pair: &&[Step]| pair[1].time <= pair[0].time;
        match self.steps.windows(2).find(late) {
            Some(pair) => Err(format!("the step after {} is not later", pair[0].time)),
            None => Ok(()),
        }
    }
}

impl FleetBundle {
    fn check(&self) -> Result<(), String> {
        let mut lengths = BTreeMap::new();
        for workload in &self.workloads {
            if lengths
                .insert(&workload.name, workload.hours.len())
                .is_some()
            {
                return Err(format!("two workloads are named {:?}", workload.name));
            }
        }
        let hours = lengths.values().next();
        match lengths.iter().find(|(_, length)| Some(*length) != hours) {
            Some((name, _)) => Err(format!("{name:?} has another number of hours")),
            None => Ok(()),
        }
    }
}

/// A time in UTC, to the minute (`2026-03-16T00:00Z`) or a day's first (`2026-03-16`).
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    let local: DateTime = match text.strip_suffix('Z') {
        Some(local) => local.parse(),
        None => Date::strptime("%Y-%m-%d", &text).map(|date| date.to_datetime(Time::midnight())),
    }
    .map_err(de::Error::custom)?;
    local
        .to_zoned(TimeZone::UTC)
        .map(|zoned| zoned.timestamp())
        .map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn step(time: &str) -> Result<Step, serde_json::Error> {
        serde_json::from_value(serde_json::json!({
            "time": time, "localUsdPerReplicaHour": 2.5, "cloud": {},
            "hours": [{"replicasNeeded": 1, "inputTokens": 2, "outputTokens": 3}],
        }))
    }

    #[rstest]
    #[case("2026-03-16T05:00Z", "2026-03-16T05:00:00Z")]
    #[case("2026-03-16", "2026-03-16T00:00:00Z")]
    fn a_step_begins_at_an_hour_or_a_day(#[case] text: &str, #[case] expected: &str) {
        let time = step(text).map(|step| step.time.to_string());
        assert_eq!(time.ok().as_deref(), Some(expected));
    }

    #[rstest]
    #[case("2026-03-16T05:00")]
    #[case("tomorrow")]
    fn a_time_without_a_zone_is_refused(#[case] text: &str) {
        assert!(step(text).is_err());
    }

    #[test]
    fn neither_name_nor_reference_is_needed() {
        let bundle: Result<Bundle, _> = serde_json::from_value(serde_json::json!({
            "format": FORMAT, "kind": "fleet", "gpus": 2, "maxReplicasPerWorkload": 3, "warmHours": 0.5,
            "workloads": [{"name": "a", "hours": [{"replicasNeeded": 0.5, "cloudUsd": 1.5}]}],
        }));
        assert!(matches!(bundle, Ok(Bundle::Fleet(fleet)) if fleet.workloads.len() == 1));
    }

    #[test]
    fn workloads_of_different_length_are_refused() {
        let hour = FleetHour {
            replicas_needed: NonNegative::ZERO,
            cloud_usd: NonNegative::ZERO,
        };
        let workload = |name: &str, hours| FleetWorkload {
            name: name.to_owned(),
            hours: vec![hour; hours],
        };
        let fleet = FleetBundle {
            format: FORMAT.to_owned(),
            gpus: 1,
            max_replicas_per_workload: 1,
            warm_hours: NonNegative::ZERO,
            workloads: vec![workload("a", 2), workload("b", 3)],
        };
        assert!(Bundle::Fleet(fleet).check().is_err());
    }
}

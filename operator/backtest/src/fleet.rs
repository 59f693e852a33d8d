//! Replays a fleet hour by hour: each decision knows the hours before it and nothing else.

use std::collections::BTreeMap;

use serde::Serialize;
use weir_placement::WorkloadId;
use weir_placement::fleet::hourly::{OwnedFleet, Replicas, decide_hour};
use weir_placement::fleet::learned::{HourDemand, Learned};

use crate::bundle::{FleetBundle, FleetHour};

/// A decision for one hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FleetDecision {
    /// Replicas by workload; one that holds none is absent.
    pub replicas: Replicas,
}

/// What a plan is worth under the format's accounting.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetAccounting {
    /// Dollars that the cloud did not get.
    pub saved_usd: f64,
}

/// A replayed fleet.
#[derive(Debug, Clone, PartialEq)]
pub struct FleetReplay {
    /// One decision for each hour.
    pub decisions: Vec<FleetDecision>,
    /// What they are worth.
    pub accounting: FleetAccounting,
}

/// Decides every hour of `bundle`, and only then looks at what the hour brought.
pub fn replay(bundle: &FleetBundle) -> FleetReplay {
    let fleet = OwnedFleet {
        gpus: bundle.gpus,
        warm_hours: bundle.warm_hours,
    };
    let ids: Vec<WorkloadId> = bundle
        .workloads
        .iter()
        .map(|workload| WorkloadId(workload.name.clone()))
        .collect();
    let hours = bundle
        .workloads
        .first()
        .map_or(0, |workload| workload.hours.len());
    let mut learned = Learned::new(bundle.max_replicas_per_workload);
    let mut held = Replicas::new();
    let mut decisions = Vec::with_capacity(hours);
    let mut saved_usd = 0.0;
    for hour in 0..hours {
        let replicas = decide_hour(&learned, fleet, &ids, &held);
        let demand: BTreeMap<WorkloadId, HourDemand> = ids
            .iter()
            .zip(&bundle.workloads)
            .map(|(id, workload)| (id.clone(), demand(workload.hours[hour])))
            .collect();
        saved_usd += saved(&replicas, &held, &demand, fleet);
        learned.observe(hour as u64, &demand);
        held.clone_from(&replicas);
        decisions.push(FleetDecision { replicas });
    }
    FleetReplay {
        decisions,
        accounting: FleetAccounting { saved_usd },
    }
}

fn demand(hour: FleetHour) -> HourDemand {
    HourDemand {
        replicas_needed: hour.replicas_needed,
        cloud_usd: hour.cloud_usd,
    }
}

/// Dollars that an hour's replicas save; those that were not held in the hour before lose the time of warming up.
fn saved(
    replicas: &Replicas,
    held: &Replicas,
    demand: &BTreeMap<WorkloadId, HourDemand>,
    fleet: OwnedFleet,
) -> f64 {
    let mut saved = 0.0;
    for (id, count) in replicas {
        let before = held.get(id).copied().unwrap_or(0);
        for replica in 0..*count {
            let warming = if replica < before {
                0.0
            } else {
                fleet.warm_hours.get()
            };
            saved += demand[id].saved_by_replica(replica) * (1.0 - warming);
        }
    }
    saved
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{FORMAT, FleetWorkload};
    use weir_placement::NonNegative;

    fn amount(value: f64) -> NonNegative {
        NonNegative::new(value).unwrap_or(NonNegative::ZERO)
    }

    fn bundle(hours: &[(f64, f64)]) -> FleetBundle {
        let hour = |(need, usd): &(f64, f64)| FleetHour {
            replicas_needed: amount(*need),
            cloud_usd: amount(*usd),
        };
        FleetBundle {
            format: FORMAT.to_owned(),
            gpus: 2,
            max_replicas_per_workload: 2,
            warm_hours: amount(0.25),
            workloads: vec![FleetWorkload {
                name: "a".to_owned(),
                hours: hours.iter().map(hour).collect(),
            }],
        }
    }

    #[test]
    fn a_replica_saves_less_in_its_first_hour() {
        let replay = replay(&bundle(&[(0.5, 8.0), (0.5, 8.0), (0.5, 8.0)]));
        let held: Vec<u32> = replay
            .decisions
            .iter()
            .map(|decision| decision.replicas.values().sum())
            .collect();
        assert_eq!(held, [0, 1, 1]);
        assert_eq!(replay.accounting.saved_usd, 6.0 + 8.0);
    }

    #[test]
    fn a_second_replica_saves_its_share_of_the_demand() {
        let replay = replay(&bundle(&[(1.5, 9.0), (1.5, 9.0), (1.5, 9.0)]));
        assert_eq!(replay.accounting.saved_usd, 0.75 * 9.0 + 9.0);
    }

    #[test]
    fn a_fleet_without_workloads_has_no_decisions() {
        let mut empty = bundle(&[]);
        empty.workloads.clear();
        assert_eq!(replay(&empty).decisions, []);
    }
}

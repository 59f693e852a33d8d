//! Pure: how much of a tier there is, how busy it is, and what it costs.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;
use weir_crds::condition::{ConditionStatus, Conditions, types};
use weir_crds::quantity::{self, QuantityError, decimal};
use weir_crds::tier::{GPUTierSpec, GPUTierStatus, TierCost};

/// Hours of a month, as everywhere in Weir: 365 × 24 / 12.
const HOURS_PER_MONTH: u64 = 730;

/// A node as tiers see it. Resource amounts are in thousandths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Name of the node.
    pub name: String,
    /// It is Ready and schedulable.
    pub usable: bool,
    /// Labels of the node.
    pub labels: BTreeMap<String, String>,
    /// What pods can be given.
    pub allocatable: BTreeMap<String, u64>,
    /// What the pods on it have requested.
    pub requested: BTreeMap<String, u64>,
}

/// What is counted on a tier's nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Usable nodes with the tier's labels and resource.
    pub nodes: u32,
    /// Replicas that fit if nothing else ran.
    pub devices: u64,
    /// Replicas that fit beside what runs.
    pub free: u64,
}

/// Whether the node belongs to the tier.
pub fn matches(spec: &GPUTierSpec, node: &NodeFacts) -> bool {
    spec.node_selector
        .iter()
        .all(|(key, value)| node.labels.get(key) == Some(value))
}

/// Counts a tier's devices.
///
/// # Errors
/// When `resource.count` is not a count above 0.
pub fn capacity(spec: &GPUTierSpec, nodes: &[NodeFacts]) -> Result<Capacity, QuantityError> {
    let count = quantity::milli_count(&spec.resource.count)?;
    if count == 0 {
        return Err(QuantityError::Count(spec.resource.count.clone()));
    }
    let mut capacity = Capacity::default();
    for node in nodes
        .iter()
        .filter(|node| node.usable && matches(spec, node))
    {
        let amount = |amounts: &BTreeMap<String, u64>| {
            amounts.get(&spec.resource.name).copied().unwrap_or(0)
        };
        let (allocatable, requested) = (amount(&node.allocatable), amount(&node.requested));
        let devices = allocatable / count;
        if devices == 0 {
            continue;
        }
        capacity.nodes += 1;
        capacity.devices += devices;
        capacity.free += allocatable.saturating_sub(requested) / count;
    }
    Ok(capacity)
}

/// Fully loaded cost of one replica in micro-USD an hour.
///
/// # Errors
/// When an amount cannot be read or comes to nothing.
pub fn hourly_cost(cost: &TierCost) -> Result<u64, QuantityError> {
    let hardware = match (&cost.owned, &cost.rented) {
        (Some(owned), None) => {
            let months = u64::try_from(owned.amortization_months).unwrap_or(0).max(1);
            let maintenance = owned
                .maintenance_usd_per_month
                .as_deref()
                .map_or(Ok(0), quantity::micros)?;
            (quantity::micros(&owned.purchase_usd)? / months + maintenance) / HOURS_PER_MONTH
        }
        (None, Some(rented)) => quantity::micros(&rented.usd_per_hour)?,
        _ => {
            return Err(QuantityError::Decimal(
                "cost needs exactly one of owned and rented".into(),
            ));
        }
    };
    Ok(hardware.saturating_add(power(cost)?.unwrap_or(0)))
}

/// What running one more replica adds, in micro-USD an hour, on hardware that is paid for anyway; `None` where nothing
/// is, and for owned hardware whose energy is unknown.
///
/// # Errors
/// When an amount cannot be read.
pub fn marginal_hourly_cost(cost: &TierCost) -> Result<Option<u64>, QuantityError> {
    let power = power(cost)?;
    Ok(match (&cost.owned, &cost.rented) {
        (Some(_), None) => power,
        // Without power of its own, it is part of the rent.
        (None, Some(rented)) if rented.committed => Some(power.unwrap_or(0)),
        _ => None,
    })
}

/// Energy of one replica in micro-USD an hour, where it is paid apart.
fn power(cost: &TierCost) -> Result<Option<u64>, QuantityError> {
    let Some(power) = &cost.power else {
        return Ok(None);
    };
    let per_kilowatt_hour = u128::from(quantity::micros(&power.usd_per_kilowatt_hour)?);
    let pue = power
        .pue
        .as_deref()
        .map_or(Ok(1_000_000), quantity::micros)?;
    let watts = u128::from(u64::try_from(power.watts).unwrap_or(0));
    let cost = per_kilowatt_hour * watts * u128::from(pue) / 1_000 / 1_000_000;
    Ok(Some(u64::try_from(cost).unwrap_or(u64::MAX)))
}

/// Utilization in steps of ten that does not flutter: the value before is kept until the reading is ten points away.
pub fn stepped(before: Option<i32>, reading: Option<f64>) -> Option<i32> {
    let reading = reading
        .filter(|reading| reading.is_finite())?
        .clamp(0.0, 100.0);
    match before {
        Some(before) if (reading - f64::from(before)).abs() < 10.0 => Some(before),
        _ => Some((reading / 10.0).round() as i32 * 10),
    }
}

/// The next status of a tier. `utilization` is what may be written now: already in steps.
pub fn status(
    spec: &GPUTierSpec,
    previous: &GPUTierStatus,
    nodes: &[NodeFacts],
    utilization: Option<i32>,
    (generation, now): (i64, Timestamp),
) -> GPUTierStatus {
    let counted = capacity(spec, nodes).and_then(|capacity| {
        let marginal = marginal_hourly_cost(&spec.cost)?;
        Ok((capacity, hourly_cost(&spec.cost)?, marginal))
    });
    let time = Time(now);
    let mut conditions = Conditions::default();
    let mut set = |condition: (&str, ConditionStatus, &str), message: String| {
        conditions.set(&previous.conditions, condition, message, generation, &time);
    };
    let (capacity, cost, marginal) = match counted {
        Ok((capacity, cost, marginal)) => {
            set(
                (types::ACCEPTED, ConditionStatus::True, "Accepted"),
                "the spec is consistent".into(),
            );
            (Some(capacity), Some(cost), marginal)
        }
        Err(error) => {
            set(
                (types::ACCEPTED, ConditionStatus::False, "InvalidSpec"),
                error.to_string(),
            );
            (None, None, None)
        }
    };
    let (fresh, reason, message) = match utilization {
        Some(_) => (
            ConditionStatus::True,
            "Reporting",
            "the agents of the tier's nodes report",
        ),
        None => (
            ConditionStatus::False,
            "NoTelemetry",
            "no agent of the tier's nodes has reported lately: utilization is unknown",
        ),
    };
    set((types::TELEMETRY_FRESH, fresh, reason), message.into());
    let ready = capacity.is_some_and(|capacity| capacity.devices > 0);
    let (reason, message) = match capacity {
        None => ("InvalidSpec", "see condition Accepted".to_owned()),
        Some(capacity) if ready => (
            "DevicesAvailable",
            format!(
                "{} nodes can run {} replicas",
                capacity.nodes, capacity.devices
            ),
        ),
        Some(_) => (
            "NoNodes",
            format!(
                "no usable node has the tier's labels and {} of {}",
                spec.resource.count, spec.resource.name
            ),
        ),
    };
    set((types::READY, ready.into(), reason), message);
    GPUTierStatus {
        observed_generation: Some(generation),
        nodes: capacity.and_then(|capacity| i32::try_from(capacity.nodes).ok()),
        devices: capacity.and_then(|capacity| i64::try_from(capacity.devices).ok()),
        free: capacity.and_then(|capacity| i64::try_from(capacity.free).ok()),
        utilization_percent: utilization,
        hourly_cost_usd: cost.map(decimal),
        marginal_hourly_cost_usd: marginal.map(decimal),
        conditions: conditions.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use weir_crds::tier::{OwnedCost, PowerCost, RentedCost, Sharing, TierResource};

    fn spec(resource: &str, count: &str) -> GPUTierSpec {
        GPUTierSpec {
            node_selector: BTreeMap::from([("gpu".into(), "l4".into())]),
            tolerations: vec![],
            resource: TierResource {
                name: resource.into(),
                count: count.into(),
            },
            sharing: Sharing::Exclusive,
            memory: "24Gi".into(),
            runtime_class_name: None,
            cost: TierCost {
                owned: None,
                rented: Some(RentedCost {
                    usd_per_hour: "0.5".into(),
                    committed: false,
                }),
                power: None,
            },
        }
    }

    fn node(allocatable: u64, requested: u64) -> NodeFacts {
        NodeFacts {
            name: "n".into(),
            usable: true,
            labels: BTreeMap::from([("gpu".into(), "l4".into()), ("zone".into(), "a".into())]),
            allocatable: BTreeMap::from([("nvidia.com/gpu".into(), allocatable)]),
            requested: BTreeMap::from([("nvidia.com/gpu".into(), requested)]),
        }
    }

    #[test]
    fn devices_are_counted_on_each_node_alone() {
        let nodes = [node(8_000, 3_000), node(8_000, 0)];
        let two = capacity(&spec("nvidia.com/gpu", "2"), &nodes).expect("a count");
        assert_eq!(
            two,
            Capacity {
                nodes: 2,
                devices: 8,
                free: 6
            }
        );
    }

    #[test]
    fn nodes_that_are_not_usable_or_lack_the_labels_do_not_count() {
        let mut broken = node(8_000, 0);
        broken.usable = false;
        let mut other = node(8_000, 0);
        other.labels.insert("gpu".into(), "t4".into());
        let none = capacity(&spec("nvidia.com/gpu", "1"), &[broken, other]).expect("a count");
        assert_eq!(none, Capacity::default());
    }

    #[test]
    fn more_requested_than_there_is_leaves_nothing_free() {
        let full = capacity(&spec("nvidia.com/gpu", "1"), &[node(2_000, 9_000)]).expect("a count");
        assert_eq!(full.free, 0);
    }

    #[test]
    fn owned_hardware_is_written_off_and_its_power_is_paid() {
        let cost = TierCost {
            owned: Some(OwnedCost {
                purchase_usd: "26280".into(),
                amortization_months: 36,
                maintenance_usd_per_month: Some("73".into()),
            }),
            rented: None,
            power: Some(PowerCost {
                usd_per_kilowatt_hour: "0.20".into(),
                watts: 500,
                pue: Some("1.5".into()),
            }),
        };
        // 26 280 / 36 / 730 = 1.00, 73 / 730 = 0.10, 0.5 kW × 1.5 × 0.20 = 0.15
        assert_eq!(hourly_cost(&cost), Ok(1_250_000));
        assert_eq!(marginal_hourly_cost(&cost), Ok(Some(150_000)));
    }

    #[test]
    fn only_hardware_that_is_paid_for_anyway_has_a_marginal_cost() {
        let rented = |committed, power| TierCost {
            owned: None,
            rented: Some(RentedCost {
                usd_per_hour: "2".into(),
                committed,
            }),
            power,
        };
        let power = || PowerCost {
            usd_per_kilowatt_hour: "0.20".into(),
            watts: 500,
            pue: None,
        };
        let marginal = |cost: &TierCost| marginal_hourly_cost(cost);
        assert_eq!(marginal(&rented(false, Some(power()))), Ok(None));
        assert_eq!(marginal(&rented(true, Some(power()))), Ok(Some(100_000)));
        assert_eq!(marginal(&rented(true, None)), Ok(Some(0)));
        let owned = TierCost {
            owned: Some(OwnedCost {
                purchase_usd: "30000".into(),
                amortization_months: 36,
                maintenance_usd_per_month: None,
            }),
            rented: None,
            power: None,
        };
        assert_eq!(marginal(&owned), Ok(None));
    }

    #[rstest]
    #[case(None, Some(37.0), Some(40))]
    #[case(Some(40), Some(31.0), Some(40))]
    #[case(Some(40), Some(49.9), Some(40))]
    #[case(Some(40), Some(50.0), Some(50))]
    #[case(Some(40), None, None)]
    #[case(Some(40), Some(f64::NAN), None)]
    #[case(None, Some(250.0), Some(100))]
    fn utilization_moves_in_steps(
        #[case] before: Option<i32>,
        #[case] reading: Option<f64>,
        #[case] after: Option<i32>,
    ) {
        assert_eq!(stepped(before, reading), after);
    }

    #[test]
    fn an_unchanged_world_gives_the_same_status() {
        let spec = spec("nvidia.com/gpu", "1");
        let at = |second| Timestamp::from_second(second).expect("in range");
        let first = status(
            &spec,
            &GPUTierStatus::default(),
            &[node(8_000, 0)],
            Some(10),
            (1, at(1)),
        );
        let second = status(&spec, &first, &[node(8_000, 0)], Some(10), (1, at(2)));
        assert_eq!(first, second);
    }
}

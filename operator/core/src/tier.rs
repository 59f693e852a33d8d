//! Pure: how much of a tier there is, how busy it is, and what it costs.

pub mod nodes;
pub mod utilization;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;
use weir_crds::condition::{ConditionStatus, Conditions, types};
use weir_crds::quantity::{self, QuantityError, decimal};
use weir_crds::tier::{GPUTierSpec, GPUTierStatus, SharedWith, TierCost};

use utilization::TierReading;

/// Hours of a month, as everywhere in Weir: 365 × 24 / 12.
const HOURS_PER_MONTH: u64 = 730;

/// A node as tiers see it. Resource amounts are in thousandths.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeFacts {
    /// Name of the node.
    pub name: String,
    /// It is Ready and schedulable.
    pub usable: bool,
    /// Labels of the node.
    pub labels: BTreeMap<String, String>,
    /// Taints that keep pods away.
    pub taints: Vec<Taint>,
    /// What pods can be given.
    pub allocatable: BTreeMap<String, u64>,
    /// What the pods on it have requested.
    pub requested: BTreeMap<String, u64>,
}

/// What is counted on a tier's nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Nodes that the tier has.
    pub nodes: u32,
    /// Replicas that fit if nothing else ran.
    pub devices: u64,
    /// Replicas that fit beside what runs.
    pub free: u64,
}

/// Replicas that a node runs, and of these how many could be added; `None` where the tier has no room on it at all: the
/// node is not usable, lacks the labels or the resource, or has a taint that the tier does not tolerate.
fn on_node(spec: &GPUTierSpec, count: u64, node: &NodeFacts) -> Option<(u64, u64)> {
    let selected = |(key, value): (&String, &String)| node.labels.get(key) == Some(value);
    let tolerated = |taint: &Taint| {
        let mut tolerations = spec.tolerations.iter();
        tolerations.any(|toleration| tolerates(toleration, taint))
    };
    let fits =
        node.usable && spec.node_selector.iter().all(selected) && node.taints.iter().all(tolerated);
    let amount =
        |amounts: &BTreeMap<String, u64>| amounts.get(&spec.resource.name).copied().unwrap_or(0);
    let (allocatable, requested) = (amount(&node.allocatable), amount(&node.requested));
    let devices = allocatable / count;
    (fits && devices > 0).then(|| (devices, allocatable.saturating_sub(requested) / count))
}

/// Whether the node is one of the tier's.
pub fn has(spec: &GPUTierSpec, node: &NodeFacts) -> bool {
    count(spec).is_ok_and(|count| on_node(spec, count, node).is_some())
}

/// As the scheduler matches them.
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let exists = toleration.operator.as_deref() == Some("Exists");
    let value = toleration.value.as_deref().unwrap_or_default();
    (effect.is_empty() || effect == taint.effect)
        && (key == taint.key || (key.is_empty() && exists))
        && (exists || value == taint.value.as_deref().unwrap_or_default())
}

/// What one replica takes of a node, in thousandths.
fn count(spec: &GPUTierSpec) -> Result<u64, QuantityError> {
    let count = quantity::milli_count(&spec.resource.count)?;
    if count == 0 {
        return Err(QuantityError::Count(spec.resource.count.clone()));
    }
    Ok(count)
}

/// Counts a tier's devices.
///
/// # Errors
/// When `resource.count` is not a count above 0.
pub fn capacity(spec: &GPUTierSpec, nodes: &[NodeFacts]) -> Result<Capacity, QuantityError> {
    let count = count(spec)?;
    let mut capacity = Capacity::default();
    for (devices, free) in nodes.iter().filter_map(|node| on_node(spec, count, node)) {
        capacity.nodes += 1;
        capacity.devices += devices;
        capacity.free += free;
    }
    Ok(capacity)
}

/// The other tiers that may take what is free here, by name: those that count the same resource on some of the nodes.
pub fn shared_with<'a>(
    spec: &GPUTierSpec,
    others: impl IntoIterator<Item = (&'a str, &'a GPUTierSpec)>,
    nodes: &[NodeFacts],
) -> Vec<SharedWith> {
    let Ok(own) = count(spec) else {
        return Vec::new();
    };
    let shared = |(name, other): (&str, &GPUTierSpec)| {
        let theirs = count(other).ok()?;
        let in_common = nodes
            .iter()
            .filter(|node| on_node(other, theirs, node).is_some());
        let free: u64 = in_common
            .filter_map(|node| on_node(spec, own, node))
            .map(|(_, free)| free)
            .sum();
        let counts = other.resource.name == spec.resource.name && free > 0;
        counts.then(|| SharedWith {
            tier: name.to_owned(),
            free: i64::try_from(free).unwrap_or(i64::MAX),
            each: i64::try_from(theirs.div_ceil(own)).unwrap_or(i64::MAX),
        })
    };
    let mut all: Vec<_> = others.into_iter().filter_map(shared).collect();
    all.sort_by(|a, b| a.tier.cmp(&b.tier));
    all
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

/// What is seen of a tier.
#[derive(Debug, Clone)]
pub struct Seen<'a> {
    /// Every node.
    pub nodes: &'a [NodeFacts],
    /// The other tiers that may take what is free here.
    pub shared_with: Vec<SharedWith>,
    /// How busy it is.
    pub reading: TierReading,
    /// Utilization as it may be written now: already in steps.
    pub utilization: Option<i32>,
    /// How full it is for the utilization band of policies, in the same way.
    pub occupancy: Option<i32>,
}

/// The next status of a tier.
pub fn status(
    spec: &GPUTierSpec,
    previous: &GPUTierStatus,
    seen: Seen<'_>,
    (generation, now): (i64, Timestamp),
) -> GPUTierStatus {
    let Seen {
        nodes,
        shared_with,
        reading,
        utilization,
        occupancy,
    } = seen;
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
    let (fresh, reason, message) = if reading.is_reported() {
        let message = "the agents of the tier's nodes report";
        (ConditionStatus::True, "Reporting", message)
    } else {
        let message = "no agent of the tier's nodes has reported lately: utilization is unknown";
        (ConditionStatus::False, "NoTelemetry", message)
    };
    set((types::TELEMETRY_FRESH, fresh, reason), message.into());
    let (known, reason, message) = reading.condition();
    set((types::UTILIZATION_KNOWN, known, reason), message);
    let to_come = capacity.map(|capacity| to_come(spec, capacity));
    let ready = capacity.is_some_and(|capacity| capacity.devices > 0);
    let can_come = to_come.filter(|devices| *devices > 0);
    let (reason, message) = match capacity {
        None => ("InvalidSpec", "see condition Accepted".to_owned()),
        Some(_) if !ready && can_come.is_some() => (
            "Provisionable",
            format!(
                "no node is there, and {} replicas can be provisioned",
                can_come.unwrap_or_default()
            ),
        ),
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
                "no usable node has the tier's labels, {} of {} and no taint that the tier does not tolerate",
                spec.resource.count, spec.resource.name
            ),
        ),
    };
    let ready = ready || can_come.is_some();
    set((types::READY, ready.into(), reason), message);
    GPUTierStatus {
        observed_generation: Some(generation),
        nodes: capacity.and_then(|capacity| i32::try_from(capacity.nodes).ok()),
        devices: capacity.and_then(|capacity| i64::try_from(capacity.devices).ok()),
        free: capacity.and_then(|capacity| i64::try_from(capacity.free).ok()),
        provisionable: to_come.filter(|_| spec.provisionable.is_some()),
        shared_with,
        utilization_percent: utilization,
        occupancy_percent: occupancy,
        hourly_cost_usd: cost.map(decimal),
        marginal_hourly_cost_usd: marginal.map(decimal),
        conditions: conditions.0,
    }
}

/// Replicas that could be added once nodes for them are provisioned.
fn to_come(spec: &GPUTierSpec, capacity: Capacity) -> i64 {
    let most = spec.provisionable.as_ref().map_or(0, |it| it.devices);
    let exist = i64::try_from(capacity.devices).unwrap_or(i64::MAX);
    most.saturating_sub(exist).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use weir_crds::tier::{
        OwnedCost, PowerCost, ProvisionableDevices, RentedCost, Sharing, TierResource,
    };

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
            provisionable: None,
            allowed_pod_template: None,
        }
    }

    fn node(allocatable: u64, requested: u64) -> NodeFacts {
        NodeFacts {
            name: "n".into(),
            usable: true,
            taints: Vec::new(),
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
        let nodes = [node(8_000, 0)];
        let seen = || Seen {
            nodes: &nodes,
            shared_with: Vec::new(),
            reading: TierReading::NotReported,
            utilization: Some(10),
            occupancy: Some(20),
        };
        let first = status(&spec, &GPUTierStatus::default(), seen(), (1, at(1)));
        let second = status(&spec, &first, seen(), (1, at(2)));
        assert_eq!(first, second);
    }

    #[test]
    fn a_taint_that_the_tier_does_not_tolerate_is_no_capacity() {
        let taint = |value: &str| Taint {
            key: "dedicated".into(),
            value: Some(value.into()),
            effect: "NoSchedule".into(),
            ..Taint::default()
        };
        let toleration = |key: Option<&str>, operator: &str, value: Option<&str>| Toleration {
            key: key.map(Into::into),
            operator: Some(operator.into()),
            value: value.map(Into::into),
            ..Toleration::default()
        };
        let tainted = NodeFacts {
            taints: vec![taint("team-a")],
            ..node(8_000, 0)
        };
        let free = |tolerations| {
            let spec = GPUTierSpec {
                tolerations,
                ..spec("nvidia.com/gpu", "1")
            };
            let counted = capacity(&spec, std::slice::from_ref(&tainted));
            counted.expect("a count").free
        };
        assert_eq!(free(vec![]), 0);
        let key = Some("dedicated");
        assert_eq!(free(vec![toleration(key, "Equal", Some("team-b"))]), 0);
        assert_eq!(free(vec![toleration(key, "Equal", Some("team-a"))]), 8);
        assert_eq!(free(vec![toleration(key, "Exists", None)]), 8);
        assert_eq!(free(vec![toleration(None, "Exists", None)]), 8);
    }

    #[test]
    fn tiers_over_the_same_nodes_say_so_with_what_one_takes_of_the_other() {
        let (small, large) = (spec("nvidia.com/gpu", "1"), spec("nvidia.com/gpu", "4"));
        let mut elsewhere = spec("nvidia.com/gpu", "1");
        elsewhere.node_selector.insert("zone".into(), "b".into());
        let nodes = [node(8_000, 1_000)];
        let others = [
            ("large", &large),
            ("elsewhere", &elsewhere),
            ("cpu", &spec("cpu", "1")),
        ];
        let shared = |tier: &str, free, each| SharedWith {
            tier: tier.to_owned(),
            free,
            each,
        };
        assert_eq!(shared_with(&small, others, &nodes), [shared("large", 7, 4)]);
        assert_eq!(
            shared_with(&large, [("small", &small)], &nodes),
            [shared("small", 1, 1)]
        );
    }

    #[test]
    fn a_tier_without_nodes_that_can_come_is_ready_and_says_what_can() {
        let mut spec = spec("nvidia.com/gpu", "1");
        spec.provisionable = Some(ProvisionableDevices {
            devices: 4,
            ready_after: "3m".into(),
            usd_per_hour: None,
        });
        let after = |nodes: &[NodeFacts]| {
            let seen = Seen {
                nodes,
                shared_with: Vec::new(),
                reading: TierReading::NotReported,
                utilization: None,
                occupancy: None,
            };
            let at = (1, Timestamp::UNIX_EPOCH);
            status(&spec, &GPUTierStatus::default(), seen, at)
        };
        let none = after(&[]);
        assert_eq!((none.devices, none.provisionable), (Some(0), Some(4)));
        let ready = |status: &GPUTierStatus| {
            let mut conditions = status.conditions.iter();
            let ready = conditions.find(|each| each.type_ == types::READY);
            ready.map(|each| (each.status.clone(), each.reason.clone()))
        };
        let is = |reason: &str| Some(("True".to_owned(), reason.to_owned()));
        assert_eq!(ready(&none), is("Provisionable"));
        let some = after(&[node(3_000, 0)]);
        assert_eq!((some.devices, some.provisionable), (Some(3), Some(1)));
        assert_eq!(ready(&some), is("DevicesAvailable"));
    }
}

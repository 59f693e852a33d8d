//! A large fleet that is the same every time: a hundred tiers in pairs, fifty providers of three models each.

use std::collections::{BTreeMap, BTreeSet};

use weir_placement::*;

pub(crate) const TIERS: u64 = 100;
pub(crate) const PROVIDERS: u64 = 50;
pub(crate) const MODELS: u64 = 3;

/// A number from 0 to `below` that looks random and is a function of `seed` (the mixer of SplitMix64).
fn number(seed: u64, below: u64) -> u64 {
    let mut mixed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % below
}

fn micro(value: u64) -> MicroUsdPerMillionTokens {
    MicroUsdPerMillionTokens::clamped(value.into())
}

fn model(name: String) -> ModelFacts {
    ModelFacts {
        name: Some(name),
        context: Some(Tokens::clamped(131_072)),
        capabilities: BTreeSet::from(["Tools".to_owned()]),
        ..ModelFacts::default()
    }
}

fn local(at: u64) -> Target {
    let pair = at % TIERS;
    let tiers = vec![format!("tier-{pair}"), format!("tier-{}", pair ^ 1)];
    let rate = MilliTokensPerSecond::from_whole(500 + number(at, 3_000)).expect("in range");
    let source = ThroughputSource::Measured;
    Target {
        name: "local".to_owned(),
        kind: TargetKind::Local(LocalTarget {
            model: model(format!("open-{}", at % 7)),
            memory: Some(Bytes::clamped(16 << 30)),
            throughput: tiers
                .iter()
                .map(|tier| (tier.clone(), Throughput { rate, source }))
                .collect(),
            tiers,
            ttft_p95: BTreeMap::new(),
            min_replicas: 0,
            max_replicas: 4,
        }),
    }
}

fn external(at: u64, which: u64) -> Target {
    let (provider, model_number) = (number(at + which, PROVIDERS), number(at ^ which, MODELS));
    let list = 100_000 + number(provider * MODELS + model_number, 2_000_000);
    Target {
        name: format!("cloud-{which}"),
        kind: TargetKind::External(ExternalTarget {
            provider: format!("provider-{provider}"),
            model: model(format!("model-{model_number}")),
            price: Some(Price {
                input: micro(list),
                cached_input: Some(micro(list / 10)),
                output: micro(list * 4),
                cache_write: None,
                reasoning: None,
                per_request: None,
                context_tiers: Vec::new(),
                book: PriceBookRef {
                    name: format!("book-{provider}"),
                    revision: "r1".to_owned(),
                    as_of: None,
                },
                state: PriceState::Fresh,
            }),
            jurisdiction: Some("EU".to_owned()),
            zero_retention: Some(true),
            namespace_allowed: true,
            ttft_p95: None,
            healthy: Some(true),
        }),
    }
}

/// From quiet hours to busy ones of up to sixteen times the mean.
fn load(at: u64) -> LoadCurve {
    let busiest = 200 + number(at ^ 9, 1_400);
    let shares = LoadCurve::SHARES as u64;
    let loads = (1..=shares).map(|share| LoadPercent::clamped((busiest * share / shares).into()));
    LoadCurve::new(&loads.collect::<Vec<_>>()).expect("they rise")
}

fn workload(at: u64) -> WorkloadInput {
    let count = |count: u64| Some(Tokens::clamped(count.into()));
    let requests = 1_000_u64 << number(at, 14);
    WorkloadInput {
        generation: 1,
        egress: if number(at, 20) == 0 {
            Egress::Forbidden
        } else {
            Egress::Allowed
        },
        allowed_jurisdictions: BTreeSet::from(["EU".to_owned()]),
        require_zero_retention: false,
        spills: number(at ^ 7, 2) == 0,
        demand: Demand {
            declared: DemandFigures {
                requests_per_month: Some(RequestsPerMonth::clamped(requests.into())),
                input_p50: count(200 + number(at ^ 3, 3_000)),
                input_p95: count(8_000),
                output_p50: count(20 + number(at ^ 5, 500)),
                output_p95: count(2_000),
                cached_input: Some(Percent::clamped(30)),
                load: Some(load(at)),
                ..DemandFigures::default()
            },
            ..Demand::default()
        },
        capability: Capability {
            required: BTreeSet::from(["Tools".to_owned()]),
            ..Capability::default()
        },
        slo_ttft: None,
        self_hosting: SelfHosting::Costed,
        max_moves_per_week: Some(2),
        maintenance_window: None,
        mode: Mode::Auto,
        suspend: false,
        policy: None,
        targets: vec![local(at), external(at, 1), external(at, 2)],
        substitutes: Vec::new(),
        current: None,
        moves: BTreeSet::new(),
    }
}

/// So many workloads over a thousand GPUs of a hundred tiers.
pub(crate) fn fleet(workloads: u64) -> FleetSnapshot {
    let tier = |at: u64| {
        let hourly = 300_000 + number(at, 3_000_000);
        let state = TierState {
            kind: DeviceKind::Gpu,
            nodes: 5,
            free_devices: Some(10),
            device_memory: Some(Bytes::clamped(24 << 30)),
            hourly_cost: Some(MicroUsdPerHour::clamped(hourly.into())),
            marginal_hourly_cost: Some(MicroUsdPerHour::clamped((hourly / 8).into())),
            cost_kind: if at.is_multiple_of(2) {
                CostKind::Owned
            } else {
                CostKind::Rented
            },
            utilization: Utilization::Known(Percent::clamped(50)),
            occupancy: None,
            shared: BTreeMap::new(),
            provisionable: None,
        };
        (format!("tier-{at}"), state)
    };
    FleetSnapshot {
        workloads: (0..workloads)
            .map(|at| (WorkloadId(format!("uid-{at:06}")), workload(at)))
            .collect(),
        tiers: (0..TIERS).map(tier).collect(),
        elsewhere: Vec::new(),
    }
}

/// Carries a plan out: every workload is where it was decided, long enough for cost to move it again.
pub(crate) fn carry_out(snapshot: &mut FleetSnapshot, plan: &Plan, since: Timestamp) {
    for (id, workload) in &mut snapshot.workloads {
        let decision = &plan.decisions[id];
        let Some(target) = &decision.target else {
            continue;
        };
        let wished = decision.weights.iter().find(|it| it.target == *target);
        let replicas = wished.and_then(|it| it.replicas);
        let mut current = CurrentPlacement {
            target: target.clone(),
            tier: decision.tier.clone(),
            since,
            replicas: replicas
                .map(|it| (target.clone(), it))
                .into_iter()
                .collect(),
            held: BTreeMap::new(),
            standby: BTreeMap::new(),
            pending: None,
        };
        if let (Some(tier), Some(replicas)) = (&decision.tier, replicas) {
            let free = &mut snapshot.tiers.get_mut(tier).expect("the tier").free_devices;
            let taken = replicas.min(free.unwrap_or(0));
            *free = free.map(|free| free - taken);
            current.held.insert(tier.clone(), taken);
        }
        workload.current = Some(current);
    }
}

/// Changes the price of a model of a provider, in percent of what it was.
pub(crate) fn reprice(snapshot: &mut FleetSnapshot, key: &PriceKey, percent: u64) {
    for workload in snapshot.workloads.values_mut() {
        for target in &mut workload.targets {
            if let TargetKind::External(external) = &mut target.kind
                && external.provider == key.provider
                && external.model.name.as_ref() == Some(&key.model)
                && let Some(price) = &mut external.price
            {
                price.input = micro(price.input.get() * percent / 100);
                price.output = micro(price.output.get() * percent / 100);
                price.book.revision = format!("r1-{percent}");
            }
        }
    }
}

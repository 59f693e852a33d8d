//! Fixtures: a workload, its targets and a fleet, with what a test does not care about filled in.

use std::collections::{BTreeMap, BTreeSet};

use weir_placement::*;

pub(crate) const UID: &str = "7a1f6c1e-0000-4000-8000-000000000001";
pub(crate) const LOCAL: &str = "local-8b";
pub(crate) const CLOUD: &str = "cloud-mini";
pub(crate) const TIER: &str = "l4";

/// `seconds` after the moment at which tests begin.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).expect("in range")
}

pub(crate) fn set(items: &[&str]) -> BTreeSet<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

pub(crate) fn model() -> ModelFacts {
    ModelFacts {
        name: None,
        equivalence_group: None,
        context: Some(Tokens::clamped(131_072)),
        capabilities: set(&["Tools"]),
        quality: BTreeMap::from([(
            "mmlu-pro".to_owned(),
            Score::parse_decimal("60").expect("a score"),
        )]),
    }
}

pub(crate) fn local() -> LocalTarget {
    LocalTarget {
        model: model(),
        memory: Some(Bytes::clamped(8 << 30)),
        tiers: vec![TIER.to_owned()],
        throughput: BTreeMap::from([(TIER.to_owned(), throughput(2_000))]),
        ttft_p95: BTreeMap::new(),
        min_replicas: 0,
        max_replicas: 4,
    }
}

pub(crate) fn throughput(tokens_per_second: u64) -> Throughput {
    Throughput {
        rate: MilliTokensPerSecond::from_whole(tokens_per_second).expect("in range"),
        source: ThroughputSource::Assumed,
    }
}

pub(crate) fn usd(dollars: &str) -> MicroUsdPerMillionTokens {
    MicroUsdPerMillionTokens::parse_decimal(dollars).expect("dollars")
}

pub(crate) fn price(input: &str, output: &str) -> Price {
    Price {
        input: usd(input),
        cached_input: None,
        cache_write: None,
        output: usd(output),
        reasoning: None,
        per_request: None,
        context_tiers: Vec::new(),
        book: PriceBookRef {
            name: "list".to_owned(),
            revision: "r1".to_owned(),
            as_of: None,
        },
        state: PriceState::Fresh,
    }
}

pub(crate) fn external() -> ExternalTarget {
    ExternalTarget {
        provider: "openai-eu".to_owned(),
        model: model(),
        price: Some(price("0.15", "0.60")),
        jurisdiction: Some("EU".to_owned()),
        zero_retention: Some(true),
        namespace_allowed: true,
        ttft_p95: None,
        healthy: Some(true),
    }
}

pub(crate) fn on_local(target: LocalTarget) -> Target {
    Target {
        name: LOCAL.to_owned(),
        kind: TargetKind::Local(target),
    }
}

pub(crate) fn on_cloud(target: ExternalTarget) -> Target {
    Target {
        name: CLOUD.to_owned(),
        kind: TargetKind::External(target),
    }
}

pub(crate) fn figures(requests: u64, input: u64, output: u64) -> DemandFigures {
    DemandFigures {
        requests_per_month: Some(RequestsPerMonth::clamped(requests.into())),
        input_p50: Some(Tokens::clamped(input.into())),
        input_p95: None,
        output_p50: Some(Tokens::clamped(output.into())),
        output_p95: None,
        cached_input: None,
        peak_to_mean: None,
        load: None,
        active_hours: None,
    }
}

/// Egress allowed, one local and one external target, declared demand.
pub(crate) fn hybrid(requests: u64) -> WorkloadInput {
    WorkloadInput {
        generation: 1,
        egress: Egress::Allowed,
        allowed_jurisdictions: BTreeSet::new(),
        require_zero_retention: false,
        spills: false,
        demand: Demand {
            source: DemandSource::Observed,
            pattern: Pattern::Interactive,
            declared: figures(requests, 900, 180),
            observed: None,
        },
        capability: Capability::default(),
        slo_ttft: None,
        self_hosting: SelfHosting::Costed,
        max_moves_per_week: Some(2),
        maintenance_window: None,
        mode: Mode::Auto,
        suspend: false,
        policy: None,
        targets: vec![on_local(local()), on_cloud(external())],
        substitutes: Vec::new(),
        current: None,
        moves: BTreeSet::new(),
    }
}

/// Egress forbidden, one local target.
pub(crate) fn private() -> WorkloadInput {
    WorkloadInput {
        egress: Egress::Forbidden,
        targets: vec![on_local(local())],
        ..hybrid(1_000)
    }
}

pub(crate) fn tier(hourly: &str) -> TierState {
    TierState {
        kind: DeviceKind::Gpu,
        nodes: 2,
        free_devices: Some(8),
        device_memory: Some(Bytes::clamped(24 << 30)),
        hourly_cost: Some(MicroUsdPerHour::parse_decimal(hourly).expect("dollars")),
        marginal_hourly_cost: None,
        cost_kind: CostKind::Rented,
        utilization: Utilization::Known(Percent::clamped(37)),
        occupancy: None,
        shared: BTreeMap::new(),
        provisionable: None,
    }
}

pub(crate) fn fleet(workload: WorkloadInput) -> FleetSnapshot {
    FleetSnapshot {
        workloads: BTreeMap::from([(WorkloadId::from(UID), workload)]),
        tiers: BTreeMap::from([(TIER.to_owned(), tier("0.50"))]),
        elsewhere: Vec::new(),
    }
}

pub(crate) fn placed(target: &str, since: Timestamp) -> CurrentPlacement {
    let local = target != CLOUD;
    CurrentPlacement {
        target: target.to_owned(),
        tier: local.then(|| TIER.to_owned()),
        since,
        replicas: BTreeMap::from([(LOCAL.to_owned(), u32::from(local))]),
        held: if local {
            BTreeMap::from([(TIER.to_owned(), 1)])
        } else {
            BTreeMap::new()
        },
        standby: BTreeMap::new(),
        pending: None,
    }
}

/// 15 % savings, a day of dwell, three days of observation, two confirmations five minutes apart, no cost of operation.
pub(crate) fn standard_policy() -> PlacementPolicy {
    PlacementPolicy {
        connectivity: Connectivity::Connected,
        min_savings_percent: Percent::clamped(15),
        min_dwell: Seconds::clamped(86_400),
        min_observation: Seconds::clamped(3 * 86_400),
        confirmation: ConfirmationRule {
            count: 2,
            interval: Seconds::clamped(300),
        },
        operations_cost_per_month: MicroUsd::MIN,
        local_cost_basis: LocalCostBasis::Auto,
        switching: free_switching(),
        move_budget: MoveBudget::default(),
        utilization_band: None,
    }
}

/// Moves that cost nothing.
pub(crate) fn free_switching() -> SwitchingRule {
    SwitchingRule {
        warm_up: Seconds::MIN,
        ..SwitchingRule::default()
    }
}

/// No dwell, no confirmation, 15 % savings.
pub(crate) fn prompt_policy() -> PlacementPolicy {
    PlacementPolicy {
        min_dwell: Seconds::MIN,
        confirmation: ConfirmationRule {
            count: 1,
            interval: Seconds::MIN,
        },
        ..standard_policy()
    }
}

/// The decision for the only workload, after nothing.
pub(crate) fn decide_one(
    snapshot: &FleetSnapshot,
    policy: PlacementPolicy,
    now: Timestamp,
) -> Decision {
    decide_after(snapshot, policy, &Plan::default(), now)
}

pub(crate) fn decide_after(
    snapshot: &FleetSnapshot,
    policy: PlacementPolicy,
    previous: &Plan,
    now: Timestamp,
) -> Decision {
    let mut plan = decide(snapshot, &Policy::of(policy), previous, now);
    plan.decisions.pop_first().expect("one workload").1
}

pub(crate) fn plan_of(decision: &Decision) -> Plan {
    Plan {
        decisions: BTreeMap::from([(WorkloadId::from(UID), decision.clone())]),
        ..Plan::default()
    }
}

pub(crate) fn only(snapshot: &mut FleetSnapshot) -> &mut WorkloadInput {
    snapshot
        .workloads
        .values_mut()
        .next()
        .expect("one workload")
}

/// Every target of a workload, substitutes among them.
pub(crate) fn places_mut(workload: &mut WorkloadInput) -> impl Iterator<Item = &mut Target> {
    let substitutes = workload.substitutes.iter_mut();
    let targets = workload.targets.iter_mut();
    targets.chain(substitutes.map(|substitute| &mut substitute.target))
}

/// The external target of a workload.
pub(crate) fn cloud_of(workload: &mut WorkloadInput) -> &mut ExternalTarget {
    workload
        .targets
        .iter_mut()
        .find_map(|target| match &mut target.kind {
            TargetKind::External(external) => Some(external),
            _ => None,
        })
        .expect("an external target")
}

/// The local target of a workload.
pub(crate) fn local_of(workload: &mut WorkloadInput) -> &mut LocalTarget {
    workload
        .targets
        .iter_mut()
        .find_map(|target| match &mut target.kind {
            TargetKind::Local(local) => Some(local),
            _ => None,
        })
        .expect("a local target")
}

pub(crate) fn candidate<'a>(decision: &'a Decision, name: &str) -> &'a Candidate {
    decision
        .candidates
        .iter()
        .find(|candidate| candidate.name == name)
        .expect("a candidate")
}

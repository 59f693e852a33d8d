//! Random fleets: everything that may be unknown sometimes is, and everything that may be inconsistent sometimes is.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use weir_placement::*;

use crate::builders::*;

pub(crate) const TIERS: [&str; 3] = ["cpu", TIER, "h100"];

pub(crate) fn any_price() -> impl Strategy<Value = Price> {
    let state = select(vec![
        PriceState::Fresh,
        PriceState::Fresh,
        PriceState::Fresh,
        PriceState::Held,
        PriceState::Stale,
    ]);
    (
        0..20_000_000_u128,
        option::of(0..20_000_000_u128),
        0..80_000_000_u128,
        state,
        option::of((0..25_000_000_u128, 0..90_000_000_u128)),
        option::of(0..20_000_000_000_u128),
        vec(any_context_tier(), 0..3),
    )
        .prop_map(
            |(input, cached, output, state, dearer, fee, mut tiers)| Price {
                input: MicroUsdPerMillionTokens::clamped(input),
                cached_input: cached.map(MicroUsdPerMillionTokens::clamped),
                cache_write: dearer.map(|(write, _)| MicroUsdPerMillionTokens::clamped(write)),
                output: MicroUsdPerMillionTokens::clamped(output),
                reasoning: dearer
                    .map(|(_, reasoning)| MicroUsdPerMillionTokens::clamped(reasoning)),
                per_request: fee.map(MicroUsdPerMillionRequests::clamped),
                context_tiers: {
                    tiers.sort_by_key(|tier| tier.above);
                    tiers
                },
                state,
                ..price("1", "1")
            },
        )
}

pub(crate) fn any_context_tier() -> impl Strategy<Value = ContextTier> {
    let price = || (0..40_000_000_u128).prop_map(MicroUsdPerMillionTokens::clamped);
    (0..20_000_u128, price(), option::of(price()), price()).prop_map(
        |(above, input, cached_input, output)| ContextTier {
            above: Tokens::clamped(above),
            input,
            cached_input,
            cache_write: None,
            output,
            reasoning: None,
        },
    )
}

pub(crate) fn any_pattern() -> impl Strategy<Value = Pattern> {
    select(vec![Pattern::Interactive, Pattern::Bursty, Pattern::Batch])
}

pub(crate) fn any_model() -> impl Strategy<Value = ModelFacts> {
    (
        option::weighted(0.9, 1_000..200_000_u128),
        btree_set(select(vec!["Tools", "Vision"]), 0..3),
        option::of(select(vec!["small", "large"])),
        option::of(select(vec!["chat", "code"])),
    )
        .prop_map(|(context, capabilities, name, group)| ModelFacts {
            name: name.map(str::to_owned),
            equivalence_group: group.map(str::to_owned),
            context: context.map(Tokens::clamped),
            capabilities: capabilities.into_iter().map(str::to_owned).collect(),
            quality: BTreeMap::new(),
        })
}

pub(crate) fn any_external() -> impl Strategy<Value = TargetKind> {
    (
        any_model(),
        option::weighted(0.8, any_price()),
        option::of(select(vec!["EU", "US"])),
        option::of(any::<bool>()),
        prop::bool::weighted(0.9),
        option::of(prop::bool::weighted(0.8)),
    )
        .prop_map(
            |(model, price, jurisdiction, zero_retention, namespace_allowed, healthy)| {
                TargetKind::External(ExternalTarget {
                    provider: "provider".to_owned(),
                    model,
                    price,
                    jurisdiction: jurisdiction.map(str::to_owned),
                    zero_retention,
                    namespace_allowed,
                    ttft_p95: None,
                    healthy,
                })
            },
        )
}

pub(crate) fn any_local() -> impl Strategy<Value = TargetKind> {
    let rates = option::weighted(0.8, 1_000..5_000_000_u128);
    (
        any_model(),
        option::of(1..40_u64),
        btree_set(select(TIERS.to_vec()), 1..3),
        rates,
        0..3_u32,
        1..5_u32,
    )
        .prop_map(|(model, gibibytes, tiers, rate, min, extra)| {
            let throughput = |tier: &&str| {
                let rate = MilliTokensPerSecond::clamped(rate?);
                let source = ThroughputSource::Measured;
                Some(((*tier).to_owned(), Throughput { rate, source }))
            };
            TargetKind::Local(LocalTarget {
                model,
                memory: gibibytes.map(|gibibytes| Bytes::clamped(u128::from(gibibytes) << 30)),
                throughput: tiers.iter().filter_map(throughput).collect(),
                tiers: tiers.into_iter().map(str::to_owned).collect(),
                ttft_p95: BTreeMap::new(),
                min_replicas: min,
                max_replicas: min + extra,
            })
        })
}

pub(crate) fn any_targets() -> impl Strategy<Value = Vec<Target>> {
    vec(prop_oneof![any_local(), any_external()], 1..5).prop_map(|kinds| {
        let named = |(at, kind)| Target {
            name: format!("t{at}"),
            kind,
        };
        kinds.into_iter().enumerate().map(named).collect()
    })
}

/// Other models at some of the targets, by the number of the target.
pub(crate) fn any_substitutes() -> impl Strategy<Value = Vec<(usize, TargetKind)>> {
    vec((0..5_usize, prop_oneof![any_local(), any_external()]), 0..8)
}

/// Those that are where their target is.
pub(crate) fn substitutes(targets: &[Target], kinds: Vec<(usize, TargetKind)>) -> Vec<Substitute> {
    let kinds = kinds.into_iter().enumerate();
    let substitute = |(at, (of, kind)): (usize, (usize, TargetKind))| {
        let target = targets.get(of)?;
        let fits = target.kind.location() == kind.location();
        fits.then(|| Substitute {
            of: target.name.clone(),
            target: Target {
                name: format!("{}@m{at}", target.name),
                kind,
            },
        })
    };
    kinds.filter_map(substitute).collect()
}

/// Twenty loads, the least first.
pub(crate) fn any_load() -> impl Strategy<Value = LoadCurve> {
    vec(prop_oneof![1..100_u128, 100..2_000_u128], LoadCurve::SHARES).prop_map(|mut loads| {
        loads.sort_unstable();
        let loads: Vec<LoadPercent> = loads.into_iter().map(LoadPercent::clamped).collect();
        LoadCurve::new(&loads).expect("as many, rising")
    })
}

pub(crate) fn any_figures() -> impl Strategy<Value = DemandFigures> {
    (
        option::weighted(0.9, 0..20_000_000_u64),
        0..4_000_u64,
        0..800_u64,
        option::of(0..=100_u128),
        option::of((100..10_000_u128, 1..=100_u128, any_load())),
    )
        .prop_map(|(requests, input, output, cached, shape)| DemandFigures {
            peak_to_mean: shape.as_ref().map(|(peak, ..)| PeakPercent::clamped(*peak)),
            active_hours: shape
                .as_ref()
                .map(|(_, active, _)| Percent::clamped(*active)),
            load: shape.map(|(.., load)| load),
            requests_per_month: requests.map(|requests| RequestsPerMonth::clamped(requests.into())),
            cached_input: cached.map(Percent::clamped),
            input_p95: Some(Tokens::clamped(u128::from(input) * 3)),
            ..figures(0, input, output)
        })
}

pub(crate) fn any_demand() -> impl Strategy<Value = Demand> {
    let observed = (any_figures(), 0..1_000_000_u128).prop_map(|(figures, span)| ObservedDemand {
        figures,
        span: Seconds::clamped(span),
    });
    (any_figures(), option::of(observed), any_pattern()).prop_map(
        |(declared, observed, pattern)| Demand {
            source: DemandSource::Observed,
            pattern,
            declared,
            observed,
        },
    )
}

/// Where a workload is: which target, for how long, moving or not.
pub(crate) fn any_current() -> impl Strategy<Value = Option<(usize, i64, Option<usize>)>> {
    option::of((
        0..5_usize,
        0..200_000_i64,
        option::weighted(0.2, 0..4_usize),
    ))
}

/// Open at some of the hours, or always.
pub(crate) fn any_window() -> impl Strategy<Value = Option<MaintenanceWindow>> {
    option::weighted(0.3, (0..24_u32, 1..24_u128)).prop_map(|window| {
        let (hour, hours) = window?;
        let schedule = format!("0 {hour} * * *");
        let duration = Seconds::clamped(hours * 3_600);
        MaintenanceWindow::parse(&schedule, duration, "Europe/Berlin").ok()
    })
}

prop_compose! {
    pub(crate) fn any_workload()(
        egress in select(vec![Egress::Forbidden, Egress::Allowed, Egress::Allowed]),
        jurisdictions in btree_set(select(vec!["EU", "US"]), 0..2),
        terms in (any::<bool>(), prop::bool::weighted(0.1), select(vec![0, 0, 0, 0, 0, 0, 0, 1, 2])),
        spills in any::<bool>(),
        demand in any_demand(),
        required in btree_set(select(vec!["Tools"]), 0..2),
        substitution in select(vec![Substitution::AnyCapable, Substitution::AnyCapable, Substitution::EquivalentOnly, Substitution::Forbidden]),
        window in any_window(),
        self_hosting in select(vec![SelfHosting::Costed, SelfHosting::Free, SelfHosting::Forbidden]),
        max_moves in option::of(0..4_u32),
        (targets, substitutes) in (any_targets(), any_substitutes()).prop_map(|(targets, kinds)| {
            let substitutes = substitutes(&targets, kinds);
            (targets, substitutes)
        }),
        current in any_current(),
        moves in btree_set(0..900_000_i64, 0..3),
    ) -> WorkloadInput {
        let (require_zero_retention, suspend, mode) = terms;
        let places: Vec<&Target> = targets.iter().chain(substitutes.iter().map(|it| &it.target)).collect();
        let place = |at: usize| places.get(at).map_or_else(|| "gone".to_owned(), |target| target.name.clone());
        let current = current.map(|(target, ago, pending)| CurrentPlacement {
            target: place(target),
            tier: match places.get(target).map(|target| &target.kind) {
                Some(TargetKind::Local(local)) => local.tiers.first().cloned(),
                _ => None,
            },
            since: at(-ago),
            replicas: BTreeMap::new(),
            held: BTreeMap::new(),
            standby: BTreeMap::new(),
            pending: pending.filter(|pending| *pending != target).map(|pending| PendingMove {
                to: place(pending),
                tier: None,
                decision_id: "d-00000000".to_owned(),
            }),
        });
        WorkloadInput {
            egress,
            allowed_jurisdictions: jurisdictions.into_iter().map(str::to_owned).collect(),
            require_zero_retention,
            demand,
            spills,
            capability: Capability { required: required.into_iter().map(str::to_owned).collect(), substitution, ..Capability::default() },
            self_hosting,
            max_moves_per_week: max_moves,
            maintenance_window: window,
            mode: match mode { 1 => Mode::Pinned(targets[0].name.clone()), 2 => Mode::Advisory, _ => Mode::Auto },
            suspend,
            targets,
            substitutes,
            current,
            moves: moves.into_iter().map(|ago| at(-ago)).collect::<BTreeSet<_>>(),
            ..hybrid(0)
        }
    }
}

pub(crate) fn any_tier() -> impl Strategy<Value = TierState> {
    let utilization = prop_oneof![
        Just(Utilization::NotReported),
        Just(Utilization::Lost),
        Just(Utilization::NotMeasurable),
        (0..=100_u128).prop_map(|percent| Utilization::Known(Percent::clamped(percent))),
    ];
    (
        0..3_u32,
        option::of(0..4_u32),
        option::of(1..80_u64),
        option::weighted(0.8, 0..5_000_000_u128),
        (
            option::of(0..500_000_u128),
            select(vec![CostKind::Owned, CostKind::Committed, CostKind::Rented]),
        ),
        utilization,
        option::weighted(0.2, any_provisionable()),
        option::of((0..=10_u128).prop_map(|tenths| Percent::clamped(tenths * 10))),
    )
        .prop_map(
            |(
                nodes,
                free_devices,
                gibibytes,
                hourly,
                (marginal, cost_kind),
                utilization,
                provisionable,
                occupancy,
            )| {
                TierState {
                    kind: DeviceKind::Gpu,
                    nodes,
                    free_devices,
                    device_memory: gibibytes
                        .map(|gibibytes| Bytes::clamped(u128::from(gibibytes) << 30)),
                    hourly_cost: hourly.map(MicroUsdPerHour::clamped),
                    marginal_hourly_cost: marginal.map(MicroUsdPerHour::clamped),
                    cost_kind,
                    utilization,
                    occupancy,
                    shared: BTreeMap::new(),
                    provisionable,
                }
            },
        )
}

/// Devices that can be had, at a price of their own or at that of the others.
fn any_provisionable() -> impl Strategy<Value = Provisionable> {
    (0..4_u32, 0..2_000_u128, option::of(0..6_000_000_u128)).prop_map(
        |(devices, ready_after, hourly)| Provisionable {
            devices,
            ready_after: Seconds::clamped(ready_after),
            hourly_cost: hourly.map(MicroUsdPerHour::clamped),
        },
    )
}

/// Of these tiers the first two have nodes in common, now and then.
fn tangled(mut tiers: Vec<TierState>, shared: Option<(u32, u32)>) -> Vec<TierState> {
    let Some((first, second)) = shared else {
        return tiers;
    };
    let free = |tier: &TierState, most: u32| most.min(tier.free_devices.unwrap_or(0));
    let shares = [
        (0, 1, free(&tiers[0], first)),
        (1, 0, free(&tiers[1], second)),
    ];
    for (at, other, free) in shares {
        let shared = SharedDevices { free, each: 1 };
        tiers[at].shared.insert(TIERS[other].to_owned(), shared);
    }
    tiers
}

pub(crate) fn any_fleet() -> impl Strategy<Value = FleetSnapshot> {
    let tiers = (
        vec(any_tier(), TIERS.len()),
        option::weighted(0.3, (0..4_u32, 0..4_u32)),
    );
    let tiers = tiers.prop_map(|(tiers, shared)| tangled(tiers, shared));
    (vec(any_workload(), 1..6), tiers).prop_map(|(workloads, tiers)| FleetSnapshot {
        workloads: workloads
            .into_iter()
            .enumerate()
            .map(|(n, it)| (WorkloadId(format!("uid-{n}")), it))
            .collect(),
        tiers: TIERS
            .iter()
            .map(|name| (*name).to_owned())
            .zip(tiers)
            .collect(),
        elsewhere: Vec::new(),
    })
}

pub(crate) fn any_switching() -> impl Strategy<Value = SwitchingRule> {
    (0..90_000_u128, 0..200_000_000_u128, 0..8_000_000_u128).prop_map(
        |(warm_up, requalification, pay_back)| SwitchingRule {
            warm_up: Seconds::clamped(warm_up),
            requalification: MicroUsd::clamped(requalification),
            pay_back: Seconds::clamped(pay_back),
        },
    )
}

pub(crate) fn any_move_budget() -> impl Strategy<Value = MoveBudget> {
    (
        option::weighted(0.3, 0..4_u32),
        option::weighted(0.3, 0..=100_u128),
    )
        .prop_map(|(per_hour, percent)| MoveBudget {
            per_hour,
            percent_per_hour: percent.map(Percent::clamped),
        })
}

pub(crate) fn any_band() -> impl Strategy<Value = Option<UtilizationBand>> {
    let band = (0..9_u128, 1..5_u128, 0..2_000_u128);
    let band = band.prop_map(|(below, gap, window)| UtilizationBand {
        spill_above: Percent::clamped((below + gap) * 10),
        pull_back_below: Percent::clamped(below * 10),
        window: Seconds::clamped(window),
    });
    option::weighted(0.3, band)
}

pub(crate) fn any_policy() -> impl Strategy<Value = PlacementPolicy> {
    (
        0..60_u128,
        0..100_000_u128,
        0..4_u32,
        0..600_u128,
        0..500_000_000_u128,
        prop::bool::weighted(0.1),
        select(vec![
            LocalCostBasis::Auto,
            LocalCostBasis::Marginal,
            LocalCostBasis::FullyLoaded,
        ]),
        any_switching(),
        (any_move_budget(), any_band()),
    )
        .prop_map(
            |(
                savings,
                dwell,
                count,
                interval,
                operations,
                disconnected,
                local_cost_basis,
                switching,
                (move_budget, utilization_band),
            )| {
                PlacementPolicy {
                    connectivity: if disconnected {
                        Connectivity::Disconnected
                    } else {
                        Connectivity::Connected
                    },
                    min_savings_percent: Percent::clamped(savings),
                    min_dwell: Seconds::clamped(dwell),
                    confirmation: ConfirmationRule {
                        count,
                        interval: Seconds::clamped(interval),
                    },
                    operations_cost_per_month: MicroUsd::clamped(operations),
                    local_cost_basis,
                    switching,
                    move_budget,
                    utilization_band,
                    min_observation: Seconds::clamped(3 * 86_400),
                }
            },
        )
}

/// A plan that an earlier evaluation of another snapshot of the same workloads left.
pub(crate) fn any_previous() -> impl Strategy<Value = (FleetSnapshot, i64)> {
    (any_fleet(), 0..2_000_i64)
}

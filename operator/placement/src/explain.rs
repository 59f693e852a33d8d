//! The sentences of a decision. Each names the numbers that were compared.

use jiff::Timestamp;

use crate::candidate::{Curve, Evaluated};
use crate::capacity::Devices;
use crate::cost::ExactCost;
use crate::demand::EffectiveDemand;
use crate::plan::{Candidate, CandidateCost, CostBasis, Doubt};
use crate::policy::{PlacementPolicy, UtilizationBand};
use crate::snapshot::{DemandFigures, Location};
use crate::units::MicroUsd;

/// `a $0.21 against b $0.48 per 1M tokens at 412000 requests/month`.
pub(crate) fn compared(chosen: &Evaluated, other: &Evaluated, figures: &DemandFigures) -> String {
    let (a, b) = (chosen.name(), other.name());
    let (Some(own), Some(others)) = (&chosen.candidate.cost, &other.candidate.cost) else {
        return format!("the cost of {a} or of {b} is unknown");
    };
    // Replicas follow the busy hour, unless the rest overflows.
    let sized_by_peak = |each: &Evaluated| {
        let local = each.candidate.location == Location::Local;
        local && !matches!(each.curve, Some(Curve::Mixed(_)))
    };
    let peak = if sized_by_peak(chosen) || sized_by_peak(other) {
        peak(figures)
    } else {
        String::new()
    };
    let volume = volume(figures) + &peak;
    let limits = limits(&chosen.candidate) + &limits(&other.candidate);
    match (own.per_million_tokens, others.per_million_tokens) {
        (Some(a_million), Some(b_million)) => format!(
            "{a} {a_million}{} against {b} {b_million}{} per 1M tokens{volume}{limits}",
            basis(own),
            basis(others)
        ),
        _ => format!(
            "{a} {}{} against {b} {}{} per month{volume}{limits}",
            own.monthly,
            basis(own),
            others.monthly,
            basis(others)
        ),
    }
}

/// A basis that people do not expect is named.
fn basis(cost: &CandidateCost) -> &'static str {
    match cost.basis {
        CostBasis::PerToken | CostBasis::FullyLoaded => "",
        CostBasis::Marginal => " (marginal)",
        CostBasis::Mixed => " (partly marginal)",
    }
}

fn volume(figures: &DemandFigures) -> String {
    figures
        .requests_per_month
        .map_or_else(String::new, |requests| {
            format!(" at {requests} requests/month")
        })
}

/// The busy hour, where it was observed.
fn peak(figures: &DemandFigures) -> String {
    figures.peak_to_mean.map_or_else(String::new, |peak| {
        format!(", the busy hour at {peak} of the mean")
    })
}

/// Where a target's cost is not that of its replicas for the whole of the work.
fn limits(candidate: &Candidate) -> String {
    let (Some(cost), Some(replicas)) = (&candidate.cost, candidate.replicas) else {
        return String::new();
    };
    let name = &candidate.name;
    let Some(overflow) = &cost.overflow else {
        return if cost.capacity_limited {
            format!("; the peak needs more than the {replicas} replicas that {name} may have")
        } else {
            String::new()
        };
    };
    let plural = if replicas == 1 { "" } else { "s" };
    let most = if cost.capacity_limited {
        ", the most that it may have,"
    } else {
        ""
    };
    let (target, share) = (&overflow.target, overflow.share);
    format!("; {name} with {replicas} replica{plural}{most} and {share} of the work on {target}")
}

/// `; b: why` for every target that cannot serve, apart from the chosen one and the one that was spoken of already.
pub(crate) fn others_failed(
    evaluated: &[Evaluated],
    chosen: usize,
    spoken_of: Option<usize>,
) -> String {
    let unnamed = |at: usize| at != chosen && Some(at) != spoken_of;
    let others = evaluated.iter().enumerate().filter(|(at, _)| unnamed(*at));
    others
        .filter_map(|(_, other)| first_failure(other))
        .map(|failure| format!("; {failure}"))
        .collect()
}

/// `b: the first gate's message`.
pub(crate) fn first_failure(evaluated: &Evaluated) -> Option<String> {
    let rejection = evaluated.candidate.rejected_by.first()?;
    Some(format!("{}: {}", evaluated.name(), rejection.message))
}

/// Every target with its first failure.
pub(crate) fn all_failed(evaluated: &[Evaluated]) -> String {
    if evaluated.is_empty() {
        return "the workload has 0 targets".to_owned();
    }
    let rejected = evaluated.iter().filter(|each| each.rejected()).count();
    let failures: Vec<_> = evaluated.iter().filter_map(first_failure).collect();
    // A substitute that could serve is no target of the spec, and not where a workload begins.
    let declared = evaluated
        .iter()
        .filter(|each| each.rejected() || !each.is_substitute);
    format!(
        "{rejected} of {} targets are rejected: {}",
        declared.count(),
        failures.join("; ")
    )
}

/// `x saves 4 %, less than the 15 % asked for: …`.
pub(crate) fn too_little(
    current: &Evaluated,
    rival: &Evaluated,
    policy: &PlacementPolicy,
    figures: &DemandFigures,
) -> String {
    let saving = saving_percent(current, rival).unwrap_or(0);
    format!(
        "{} would save {saving} %, less than the {} asked for: {}",
        rival.name(),
        policy.min_savings_percent,
        compared(current, rival, figures)
    )
}

/// `x would save $4.00 a month, and moving there costs $9.00, …`, where that alone speaks against the move.
pub(crate) fn not_paid_back(
    current: &Evaluated,
    rival: &Evaluated,
    policy: &PlacementPolicy,
    demand: &EffectiveDemand,
) -> Option<String> {
    let (own, other) = (current.exact?, rival.exact?);
    let hurdle = current.hurdle(rival, policy);
    if !hurdle.saves_enough(own.0, other.0) || hurdle.is_cleared(own.0, (other.0, rival.warm_up)) {
        return None;
    }
    let saving = ExactCost(own.0 - other.0).to_micro_usd();
    let once = MicroUsd::clamped(hurdle.once(rival.warm_up));
    let days = policy.switching.pay_back.get() / 86_400;
    Some(format!(
        "{} would save {saving} a month, which does not pay for the {once} of moving there within {days} days: {}",
        rival.name(),
        compared(current, rival, &demand.figures)
    ))
}

/// Whole percent of the incumbent's cost that `rival` saves, rounded down; negative when it costs more.
pub(crate) fn saving_percent(incumbent: &Evaluated, rival: &Evaluated) -> Option<i64> {
    let (Some(own), Some(other)) = (incumbent.exact, rival.exact) else {
        return None;
    };
    if own.0 == 0 {
        return None;
    }
    if other <= own {
        return i64::try_from((own.0 - other.0) * 100 / own.0).ok();
    }
    let more = (other.0 - own.0).checked_mul(100)?.div_ceil(own.0);
    Some(i64::try_from(more).ok()?.saturating_neg())
}

/// What a doubt says of a target.
pub(crate) fn doubted(evaluated: &Evaluated, doubt: Doubt) -> String {
    let name = evaluated.name();
    match doubt {
        Doubt::PriceMissing => format!("no price book has a price for {name}"),
        Doubt::PriceStale => format!("the price of {name} {}is too old", revision(evaluated)),
        Doubt::PriceHeld => format!(
            "a suspect new price of {name} is held back; the one {}stands",
            revision(evaluated)
        ),
        Doubt::OverflowPrice => format!(
            "the price of what takes the overflow of {name} is missing, too old or held back"
        ),
        Doubt::UtilizationUnknown => format!("telemetry of tier {} was lost", tier(evaluated)),
        Doubt::TierCostUnknown => format!("the hourly cost of tier {} is unknown", tier(evaluated)),
        Doubt::ThroughputUnknown => format!(
            "the throughput of {name} on tier {} is unknown",
            tier(evaluated)
        ),
        Doubt::DemandUnknown => "demand is unknown".to_owned(),
    }
}

fn tier(evaluated: &Evaluated) -> &str {
    evaluated.candidate.tier.as_deref().unwrap_or("none")
}

fn revision(evaluated: &Evaluated) -> String {
    let book = evaluated.candidate.price_book.as_ref();
    book.map_or_else(String::new, |book| format!("in price book {} ", book.name))
}

/// How a wish is held by the hour's moves of a policy's workloads.
pub(crate) fn held_by_fleet(to: &str, most: usize, frees: Option<Timestamp>) -> String {
    let until = frees.map_or_else(String::new, |frees| format!(" until {frees}"));
    format!("wishes for {to}, held by the policy's limit of {most} moves an hour{until}")
}

/// `tier l4 has 0 free devices on 2 nodes (2 free, 2 promised to others' starting pods)`.
pub(crate) fn too_few(tier: &str, nodes: u32, devices: &Devices, need: u32) -> String {
    let needed = if need > 1 {
        format!(", and {need} are needed")
    } else {
        String::new()
    };
    let (left, parts) = (devices.left, parts(devices));
    format!("tier {tier} has {left} free devices on {nodes} nodes{parts}{needed}")
}

/// `the 2 free devices of tier l4 go to workloads that save more there`.
pub(crate) fn lost_to_savings(tier: &str, devices: &Devices) -> String {
    let (left, parts) = (devices.left, parts(devices));
    format!("the {left} free devices of tier {tier}{parts} go to workloads that save more there")
}

/// `the 2 free devices of tier l4 go to other workloads that can only run here`.
pub(crate) fn lost_to_need(tier: &str, devices: &Devices) -> String {
    let (left, parts) = (devices.left, parts(devices));
    format!(
        "the {left} free devices of tier {tier}{parts} go to other workloads that can only run here"
    )
}

/// What makes the number that is left another than the one in the tier's status.
fn parts(devices: &Devices) -> String {
    let Devices {
        left,
        free,
        to_come,
    } = *devices;
    let promised = free.saturating_add(to_come).saturating_sub(left);
    let mut parts = Vec::new();
    if to_come > 0 {
        parts.push(format!("{to_come} to be provisioned"));
    }
    if promised > 0 {
        parts.push(format!("{promised} promised to others' starting pods"));
    }
    if parts.is_empty() {
        return String::new();
    }
    format!(" ({free} free, {})", parts.join(", "))
}

/// `tier l4 was used to 80 % or more for 600 s`.
pub(crate) fn above_band(tier: &str, band: UtilizationBand) -> String {
    let UtilizationBand {
        spill_above,
        window,
        ..
    } = band;
    format!("tier {tier} was used to {spill_above} or more for {window}")
}

/// `tier l4 was used above 80 %, and not yet to 40 % or less for 600 s`.
pub(crate) fn not_below_band(tier: &str, band: UtilizationBand) -> String {
    let UtilizationBand {
        spill_above,
        pull_back_below,
        window,
    } = band;
    format!(
        "tier {tier} was used to {spill_above} or more, and not yet to {pull_back_below} or less for {window}"
    )
}

/// How often a wish was seen.
pub(crate) fn seen(count: u32, needed: u32) -> String {
    format!("seen {count} of {needed} times")
}

//! Declared demand is a prior, observed demand overrides it, and neither is invented.

use weir_placement::*;

use crate::builders::*;

fn observed(requests: u64, span: u64) -> Option<ObservedDemand> {
    Some(ObservedDemand {
        figures: figures(requests, 900, 180),
        span: Seconds::clamped(span.into()),
    })
}

const DAY: u64 = 86_400;

fn requests(decision: &Decision) -> Option<u64> {
    decision
        .inputs
        .demand
        .requests_per_month
        .map(RequestsPerMonth::get)
}

#[test]
fn declared_demand_counts_until_enough_is_observed() {
    let mut snapshot = fleet(hybrid(20_000));
    only(&mut snapshot).demand.observed = observed(3_000_000, 3 * DAY - 1);
    let prior = decide_one(&snapshot, prompt_policy(), at(0));
    assert_eq!(
        (requests(&prior), prior.inputs.demand_source),
        (Some(20_000), DemandOrigin::Declared)
    );
    assert_eq!(prior.target.as_deref(), Some(CLOUD));

    only(&mut snapshot).current = Some(placed(CLOUD, at(0)));
    only(&mut snapshot).demand.observed = observed(3_000_000, 3 * DAY);
    let seen = decide_after(&snapshot, prompt_policy(), &plan_of(&prior), at(1));
    assert_eq!(
        (requests(&seen), seen.inputs.demand_source),
        (Some(3_000_000), DemandOrigin::Observed)
    );
    assert_eq!(seen.inputs.demand_confidence, Some(Confidence::Medium));
    assert_eq!(
        (seen.outcome, seen.trigger),
        (Outcome::Move, Trigger::DemandChanged)
    );
}

#[test]
fn a_week_of_observation_gives_high_confidence_and_no_new_decision() {
    let mut snapshot = fleet(hybrid(20_000));
    only(&mut snapshot).demand.observed = observed(3_000_000, 3 * DAY);
    let medium = decide_one(&snapshot, prompt_policy(), at(0));
    only(&mut snapshot).demand.observed = observed(3_000_000, 7 * DAY);
    let high = decide_after(&snapshot, prompt_policy(), &plan_of(&medium), at(0));
    assert_eq!(high.inputs.demand_confidence, Some(Confidence::High));
    assert_eq!(high.id, medium.id);
}

#[test]
fn declared_demand_stays_where_the_spec_says_so() {
    let mut snapshot = fleet(hybrid(20_000));
    only(&mut snapshot).demand.source = DemandSource::Declared;
    only(&mut snapshot).demand.observed = observed(3_000_000, 30 * DAY);
    assert_eq!(
        requests(&decide_one(&snapshot, prompt_policy(), at(0))),
        Some(20_000)
    );
}

#[test]
fn noise_within_a_tenth_changes_nothing() {
    let mut snapshot = fleet(hybrid(20_000));
    only(&mut snapshot).demand.observed = observed(400_000, 4 * DAY);
    let first = decide_one(&snapshot, prompt_policy(), at(0));
    for noisy in [360_000, 440_000, 412_345] {
        only(&mut snapshot).demand.observed = observed(noisy, 4 * DAY);
        assert_eq!(
            decide_after(&snapshot, prompt_policy(), &plan_of(&first), at(1)),
            first
        );
    }
    only(&mut snapshot).demand.observed = observed(440_001, 4 * DAY);
    let changed = decide_after(&snapshot, prompt_policy(), &plan_of(&first), at(1));
    assert_eq!(
        (requests(&changed), changed.trigger),
        (Some(440_001), Trigger::DemandChanged)
    );
}

#[test]
fn no_traffic_is_zero_and_not_unknown() {
    let mut snapshot = fleet(hybrid(3_000_000));
    only(&mut snapshot).current = Some(placed(LOCAL, at(0)));
    only(&mut snapshot).demand.observed = Some(ObservedDemand {
        figures: DemandFigures {
            requests_per_month: Some(RequestsPerMonth::MIN),
            ..DemandFigures::default()
        },
        span: Seconds::clamped((4 * DAY).into()),
    });
    let decision = decide_one(&snapshot, prompt_policy(), at(1));
    assert_eq!(
        (decision.outcome, decision.target.as_deref()),
        (Outcome::Move, Some(CLOUD))
    );
    let cloud = candidate(&decision, CLOUD).cost.as_ref().expect("a cost");
    assert_eq!(
        (cloud.monthly, cloud.per_million_tokens),
        (MicroUsd::MIN, None)
    );
}

#[test]
fn unknown_demand_places_by_order_and_moves_nothing() {
    let mut snapshot = fleet(hybrid(0));
    only(&mut snapshot).demand.declared = DemandFigures::default();
    let first = decide_one(&snapshot, prompt_policy(), at(0));
    assert_eq!(
        (first.target.as_deref(), first.reason),
        (Some(LOCAL), Reason::TargetOrder)
    );
    assert_eq!(
        (first.break_even, first.inputs.demand_source),
        (None, DemandOrigin::Unknown)
    );
    only(&mut snapshot).current = Some(placed(CLOUD, at(0)));
    let held = decide_one(&snapshot, prompt_policy(), at(1));
    assert_eq!(
        (held.outcome, held.reason),
        (Outcome::Hold, Reason::DemandUnknown)
    );
    assert_eq!(held.target.as_deref(), Some(CLOUD));
}

#[test]
fn lost_metering_does_not_bring_the_prior_back() {
    let mut snapshot = fleet(hybrid(20_000));
    only(&mut snapshot).demand.observed = observed(3_000_000, 4 * DAY);
    let before = decide_one(&snapshot, prompt_policy(), at(0));
    only(&mut snapshot).current = Some(placed(LOCAL, at(0)));
    for lost in [None, observed(5, 60)] {
        only(&mut snapshot).demand.observed = lost;
        let after = decide_after(&snapshot, prompt_policy(), &plan_of(&before), at(9));
        assert_eq!(
            (requests(&after), after.inputs.demand_confidence),
            (Some(3_000_000), Some(Confidence::Low))
        );
        assert_eq!(
            (after.outcome, after.target.as_deref()),
            (Outcome::Keep, Some(LOCAL))
        );
        assert_eq!(after.id, before.id);
    }
}

#[test]
fn what_the_record_lacks_of_carried_demand_comes_from_the_prior() {
    let mut snapshot = fleet(hybrid(20_000));
    only(&mut snapshot).demand.observed = observed(3_000_000, 4 * DAY);
    let mut recalled = decide_one(&snapshot, prompt_policy(), at(0));
    recalled.inputs.demand.input_p95 = None;
    let workload = only(&mut snapshot);
    workload.demand.observed = None;
    workload.demand.declared.input_p95 = Some(Tokens::clamped(140_000));
    let decision = decide_after(&snapshot, prompt_policy(), &plan_of(&recalled), at(9));
    assert_eq!(requests(&decision), Some(3_000_000));
    assert_eq!(decision.outcome, Outcome::Infeasible);
}

#[test]
fn cached_prompts_cost_what_the_cache_costs() {
    let monthly = |share: Option<u64>, cached: Option<&str>| {
        let mut workload = hybrid(1_000_000);
        workload.demand.declared.cached_input = share.map(|share| Percent::clamped(share.into()));
        let mut price = price("1", "0");
        price.cached_input = cached.map(usd);
        cloud_of(&mut workload).price = Some(price);
        let decision = decide_one(&fleet(workload), prompt_policy(), at(0));
        candidate(&decision, CLOUD)
            .cost
            .as_ref()
            .expect("a cost")
            .monthly
            .to_decimal()
    };
    assert_eq!(monthly(None, Some("0.1")), "900");
    assert_eq!(monthly(Some(50), None), "900");
    assert_eq!(monthly(Some(50), Some("0.1")), "495");
    assert_eq!(monthly(Some(100), Some("0.1")), "90");
}

fn observed_shape(requests: u64, peak: u64) -> Option<ObservedDemand> {
    let mut observed = observed(requests, 7 * DAY);
    if let Some(observed) = &mut observed {
        observed.figures.peak_to_mean = Some(PeakPercent::clamped(peak.into()));
        observed.figures.active_hours = Some(Percent::clamped((10_000 / peak).into()));
    }
    observed
}

#[test]
fn a_bursty_profile_needs_more_replicas_than_a_flat_one_of_equal_volume() {
    let replicas = |peak: u64, pattern: Pattern| {
        let mut snapshot = fleet(hybrid(20_000));
        only(&mut snapshot).demand.pattern = pattern;
        only(&mut snapshot).demand.observed = observed_shape(10_000_000, peak);
        let decision = decide_one(&snapshot, prompt_policy(), at(0));
        candidate(&decision, LOCAL).replicas
    };
    let flat = replicas(100, Pattern::Interactive);
    assert_eq!(
        (flat, replicas(300, Pattern::Interactive)),
        (Some(1), Some(3))
    );
    // What was observed counts, whatever the pattern expects; batches wait for room.
    assert_eq!(replicas(100, Pattern::Bursty), flat);
    assert_eq!(replicas(300, Pattern::Batch), flat);
}

#[test]
fn a_bursty_profile_flips_to_the_cloud_at_equal_volume() {
    let decide = |peak: u64| {
        let mut snapshot = fleet(hybrid(20_000));
        only(&mut snapshot).demand.observed = observed_shape(3_000_000, peak);
        decide_one(&snapshot, prompt_policy(), at(0))
    };
    let (flat, bursty) = (decide(100), decide(400));
    assert_eq!(flat.target.as_deref(), Some(LOCAL));
    assert!(flat.message.contains("the busy hour at 100 % of the mean"));
    assert_eq!(
        bursty.inputs.demand.active_hours,
        Some(Percent::clamped(25))
    );
    assert_eq!(bursty.target.as_deref(), Some(CLOUD), "{}", bursty.message);
}

#[test]
fn a_recorded_shape_stands_within_a_tenth_and_when_metering_is_lost() {
    let mut snapshot = fleet(hybrid(20_000));
    only(&mut snapshot).demand.observed = observed_shape(3_000_000, 300);
    let first = decide_one(&snapshot, prompt_policy(), at(0));
    let peak = |decision: &Decision| decision.inputs.demand.peak_to_mean.map(PeakPercent::get);
    for near in [270, 330] {
        only(&mut snapshot).demand.observed = observed_shape(3_000_000, near);
        let again = decide_after(&snapshot, prompt_policy(), &plan_of(&first), at(1));
        assert_eq!(again, first);
    }
    for lost in [None, observed(3_000_000, 4 * DAY)] {
        only(&mut snapshot).demand.observed = lost;
        let carried = decide_after(&snapshot, prompt_policy(), &plan_of(&first), at(1));
        assert_eq!((peak(&carried), &carried.id), (Some(300), &first.id));
    }
    only(&mut snapshot).demand.observed = observed_shape(3_000_000, 331);
    let changed = decide_after(&snapshot, prompt_policy(), &plan_of(&first), at(1));
    assert_eq!(
        (peak(&changed), changed.trigger),
        (Some(331), Trigger::DemandChanged)
    );
}

//! Single cases that must come out right.

use rstest::rstest;
use weir_placement::{
    Egress, HourTokens, Learned, NonNegative, ObservedStep, ReplicaCapacity, Split, StepHours,
    StepMarket,
};

use crate::builders::{Replay, TOKENS, amount, market, need, terms, time};

const MINI: &[(&str, f64)] = &[("mini", 2.5)];

/// A day with an idle night and working hours that need two replicas, for so many days.
fn office(days: usize) -> impl Iterator<Item = f64> {
    (0..24 * days).map(|hour| {
        if (8..18).contains(&(hour % 24)) {
            2.0
        } else {
            0.05
        }
    })
}

#[rstest]
#[case::cheap_cloud_serves_all(0.8, 0.9, 0)]
#[case::a_replica_pays_beyond_its_break_even(0.6, 2.5, 1)]
#[case::the_second_replica_is_too_idle(1.3, 2.5, 1)]
#[case::base_load_is_local_and_the_rest_overflows(2.2, 2.5, 2)]
#[case::no_more_than_the_most(9.0, 2.5, 3)]
fn the_first_step_follows_the_declared_demand(
    #[case] declared: f64,
    #[case] usd: f64,
    #[case] replicas: u32,
) {
    let replay = Replay::new(terms(declared));
    let decided = replay.decide(&market(0, &[("mini", usd)]));
    let model = Some("mini".to_owned());
    assert_eq!(decided, Split { replicas, model });
}

#[test]
fn observation_overrides_what_was_declared_within_the_hour() {
    let mut replay = Replay::new(terms(2.0));
    replay.run(MINI, [0.0]);
    assert_eq!(replay.decide(&market(1, MINI)).replicas, 0);
}

#[test]
fn a_daily_rise_is_met_before_it_is_seen() {
    let mut replay = Replay::new(terms(0.8));
    replay.run(MINI, office(4));
    replay.run(MINI, office(1).take(8));
    assert_eq!(replay.held.replicas, 0, "the night needs none");
    assert_eq!(replay.decide(&market(4 * 24 + 8, MINI)).replicas, 2);
}

#[test]
fn work_that_may_not_leave_gets_replicas_that_the_cloud_would_not_pay_for() {
    let mut local = terms(1.2);
    local.egress = Egress::Forbidden;
    let decided = Replay::new(local).decide(&market(0, MINI));
    let replicas = 2;
    assert_eq!(
        decided,
        Split {
            replicas,
            model: None
        }
    );
    assert_eq!(Replay::new(terms(1.2)).decide(&market(0, MINI)).replicas, 1);
}

#[test]
fn a_step_that_was_not_observed_holds_what_runs() {
    let mut replay = Replay::new(terms(1.0));
    replay.run(MINI, std::iter::repeat_n(2.0, 30));
    assert_eq!(replay.held.replicas, 2);
    for held in [0, 1, 3] {
        replay.held.replicas = held;
        assert_eq!(replay.decide(&market(31, MINI)).replicas, held);
    }
    replay.held.replicas = 5;
    assert_eq!(
        replay.decide(&market(31, MINI)).replicas,
        3,
        "within the most"
    );
}

#[test]
fn an_unknown_hour_is_not_a_zero() {
    let mut replay = Replay::new(terms(1.0));
    replay.run(MINI, std::iter::repeat_n(2.0, 30));
    let before = replay.learned.clone();
    let unknown = ObservedStep {
        market: market(30, MINI),
        held: replay.held.clone(),
        demand: Vec::new(),
    };
    replay
        .learned
        .observe(&replay.terms, &replay.parameters, &unknown);
    assert_eq!(replay.learned, before);
}

#[test]
fn after_a_gap_demand_is_known_again() {
    let mut replay = Replay::new(terms(1.0));
    replay.run(MINI, std::iter::repeat_n(2.0, 30));
    replay.held.replicas = 0;
    replay.step(&market(40, MINI), need(2.0));
    assert_eq!(replay.held.replicas, 0, "demand is unknown");
    assert_eq!(replay.decide(&market(41, MINI)).replicas, 2);
}

#[test]
fn a_cheaper_model_is_changed_to_when_the_savings_forgone_equal_the_fee() {
    let mut replay = Replay::new(terms(2.0));
    let offers: &[(&str, f64)] = &[("mini", 0.9), ("nano", 0.4)];
    replay.run(&[("mini", 0.9)], [2.0]);
    // One dollar is saved in each hour, and the fee is 25 dollars.
    replay.run(offers, std::iter::repeat_n(2.0, 25));
    assert_eq!(replay.held.model.as_deref(), Some("mini"));
    replay.run(offers, [2.0]);
    assert_eq!(replay.held.model.as_deref(), Some("nano"));
}

#[test]
fn a_model_is_not_changed_where_replicas_serve_the_load() {
    let mut replay = Replay::new(terms(2.0));
    replay.run(&[("mini", 2.5)], [2.0]);
    replay.run(
        &[("mini", 2.5), ("nano", 1.5)],
        std::iter::repeat_n(2.0, 200),
    );
    let model = Some("mini".to_owned());
    assert_eq!(replay.held, Split { replicas: 2, model });
}

#[test]
fn a_change_that_does_not_pay_back_within_a_month_is_not_made() {
    let mut replay = Replay::new(terms(0.03));
    replay.run(&[("mini", 2.5)], [0.03]);
    // Three cents an hour are 21.6 dollars in 720 hours: less than the fee, however much was forgone.
    replay.run(
        &[("mini", 2.5), ("nano", 1.5)],
        std::iter::repeat_n(0.03, 1_200),
    );
    assert_eq!(replay.held.model.as_deref(), Some("mini"));
}

#[test]
fn a_model_that_is_withdrawn_is_left_for_the_cheapest() {
    let mut replay = Replay::new(terms(0.5));
    replay.run(&[("large", 0.9), ("mini", 0.5)], [0.5, 0.5]);
    let decided = replay.decide(&market(2, &[("large", 0.9), ("nano", 0.7)]));
    assert_eq!(decided.model.as_deref(), Some("nano"));
}

#[test]
fn the_first_model_is_the_cheapest_for_the_declared_mix() {
    let mut declared = terms(0.0);
    declared.declared.input_per_month = amount(9e8);
    declared.declared.output_per_month = amount(1e8);
    let mut step = market(0, &[("input-cheap", 0.0), ("output-cheap", 0.0)]);
    for (name, input, output) in [("input-cheap", 0.1, 2.0), ("output-cheap", 0.5, 0.5)] {
        let price = step.offers.get_mut(name).expect("an offer");
        (price.input, price.output) = (amount(input), amount(output));
    }
    let decided = Replay::new(declared).decide(&step);
    assert_eq!(decided.model.as_deref(), Some("input-cheap"));
}

#[test]
fn a_daily_decision_weighs_each_hour_of_the_day() {
    // Ten hours at 1.9 replicas and a bare night: the mean of 0.79 does not fill a replica, the day's hours pay for none.
    let mut replay = Replay::new(terms(0.8));
    let day = |index: usize| StepMarket {
        time: time(24 * index),
        hours: StepHours::new(24).expect("a day"),
        ..market(0, &[("mini", 2.2)])
    };
    let demand: Vec<HourTokens> = (0..24)
        .map(|hour| need(if (8..18).contains(&hour) { 1.9 } else { 0.0 }))
        .collect();
    assert_eq!(replay.decide(&day(0)).replicas, 1, "flat until known");
    for index in 0..5 {
        let step = ObservedStep {
            market: day(index),
            held: replay.held.clone(),
            demand: demand.clone(),
        };
        replay
            .learned
            .observe(&replay.terms, &replay.parameters, &step);
    }
    assert_eq!(replay.decide(&day(5)).replicas, 0);
}

#[test]
fn what_is_learned_is_bounded() {
    let mut replay = Replay::new(terms(0.8));
    let size = |learned: &Learned| serde_json::to_vec(learned).expect("it serializes").len();
    replay.run(MINI, office(20));
    let month = size(&replay.learned);
    replay.run(MINI, office(80));
    let quarter = size(&replay.learned);
    assert!(quarter < month + 500, "{month} bytes grew to {quarter}");
}

#[test]
fn the_order_of_observation_is_that_of_time() {
    let mut replay = Replay::new(terms(0.8));
    replay.run(MINI, [1.0, 2.0]);
    let before = replay.learned.clone();
    let late = ObservedStep {
        market: market(0, MINI),
        held: Split::default(),
        demand: vec![need(3.0)],
    };
    replay
        .learned
        .observe(&replay.terms, &replay.parameters, &late);
    assert_eq!(replay.learned, before);
}

#[test]
fn absurd_demand_and_prices_stay_within_the_most_and_leave_nothing_behind() {
    let mut absurd = terms(0.8);
    absurd.warm_hours = amount(f64::MAX);
    let mut replay = Replay::new(absurd);
    for index in 0..40 {
        let tokens = if index % 2 == 0 { f64::MAX } else { 0.0 };
        let mut market = market(index, &[("mini", f64::MAX), ("nano", 1e-300)]);
        market.replica_usd_per_hour = amount(if index % 3 == 0 { f64::MAX } else { 1e-300 });
        let demand = HourTokens {
            input: amount(tokens),
            output: amount(tokens),
        };
        assert!(replay.step(&market, demand).replicas <= 3);
    }
    let text = serde_json::to_string(&replay.learned).expect("it serializes");
    let read = serde_json::from_str::<Learned>(&text);
    assert_eq!(
        read.ok(),
        Some(replay.learned.clone()),
        "every number is finite"
    );
    replay.run(MINI, std::iter::repeat_n(0.0, 200));
    assert_eq!(replay.held.replicas, 0, "and it is overcome");
}

#[rstest]
#[case(0.0)]
#[case(0.5)]
fn a_replica_that_serves_nothing_is_refused(#[case] tokens: f64) {
    assert!(ReplicaCapacity::new(amount(tokens), NonNegative::ZERO).is_err());
    assert!(ReplicaCapacity::new(amount(TOKENS), NonNegative::ZERO).is_ok());
}

#[rstest]
#[case(0)]
#[case(25)]
fn a_step_is_an_hour_to_a_day(#[case] hours: u32) {
    assert!(StepHours::new(hours).is_err());
}

//! What was recorded reproduces what was decided.

use weir_placement::*;

use crate::builders::*;

#[test]
fn recorded_inputs_reproduce_the_recorded_decision() {
    let mut snapshot = fleet(hybrid(412_000));
    only(&mut snapshot).current = Some(placed(LOCAL, at(-1_000_000)));
    let policy = Policy::of(standard_policy());
    let before = decide(&snapshot, &policy, &Plan::default(), at(0));
    let plan = decide(&snapshot, &policy, &before, at(400));
    let recorded =
        serde_json::to_string(&(&snapshot, &policy, &before, at(400), &plan)).expect("JSON");
    let (snapshot, policy, before, now, plan): (FleetSnapshot, Policy, Plan, Timestamp, Plan) =
        serde_json::from_str(&recorded).expect("the same types");
    assert_eq!(decide(&snapshot, &policy, &before, now), plan);
}

#[test]
fn the_costs_on_record_follow_from_the_inputs_on_record() {
    let mut workload = hybrid(412_000);
    workload.demand.declared.cached_input = Some(Percent::clamped(30));
    let mut listed = price("0.15", "0.60");
    listed.cached_input = Some(usd("0.075"));
    cloud_of(&mut workload).price = Some(listed);
    let decision = decide_one(&fleet(workload), standard_policy(), at(0));
    // 412000 × (630 × 0.15 + 270 × 0.075 + 180 × 0.60) / 1e6 dollars, and 0.50 × 730.
    let monthly = |name| {
        candidate(&decision, name)
            .cost
            .as_ref()
            .expect("a cost")
            .monthly
            .to_decimal()
    };
    assert_eq!(
        (monthly(CLOUD).as_str(), monthly(LOCAL).as_str()),
        ("91.773", "365")
    );
    // 365 / 0.00022275
    assert_eq!(
        decision.break_even.map(RequestsPerMonth::get),
        Some(1_638_609)
    );
}

#[test]
fn out_of_range_and_unknown_fields_do_not_parse() {
    let json = serde_json::to_value(hybrid(1)).expect("JSON");
    let mut negative = json.clone();
    negative["demand"]["declared"]["requestsPerMonth"] = (-1).into();
    assert!(serde_json::from_value::<WorkloadInput>(negative).is_err());
    let mut unknown = json.clone();
    unknown["egres"] = "Allowed".into();
    assert!(serde_json::from_value::<WorkloadInput>(unknown).is_err());
    assert_eq!(
        serde_json::from_value::<WorkloadInput>(json).ok(),
        Some(hybrid(1))
    );
}

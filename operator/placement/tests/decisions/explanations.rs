//! What people read: whole decisions, as snapshots.

use weir_placement::*;

use crate::builders::*;

#[test]
fn a_first_placement_names_both_costs_and_what_would_flip_it() {
    insta::assert_yaml_snapshot!(decide_one(
        &fleet(hybrid(412_000)),
        standard_policy(),
        at(0)
    ));
}

#[test]
fn a_private_workload_names_the_gate() {
    let mut snapshot = fleet(hybrid(412_000));
    only(&mut snapshot).egress = Egress::Forbidden;
    insta::assert_yaml_snapshot!(decide_one(&snapshot, standard_policy(), at(0)));
}

#[test]
fn a_held_wish_names_what_holds_it() {
    let mut snapshot = fleet(hybrid(412_000));
    only(&mut snapshot).current = Some(placed(LOCAL, at(0)));
    insta::assert_yaml_snapshot!(decide_one(&snapshot, standard_policy(), at(60)));
}

/// Every sentence in one place, so that a change of wording is seen.
#[test]
fn messages_read_well() {
    let base = |change: fn(&mut FleetSnapshot)| {
        let mut snapshot = fleet(hybrid(412_000));
        only(&mut snapshot).current = Some(placed(LOCAL, at(0)));
        change(&mut snapshot);
        let decision = decide_one(&snapshot, standard_policy(), at(100_000));
        format!(
            "{:?} {:?}: {}",
            decision.outcome, decision.reason, decision.message
        )
    };
    let cases: [fn(&mut FleetSnapshot); 14] = [
        |_| {},
        |s| only(s).suspend = true,
        |s| only(s).mode = Mode::Pinned(LOCAL.to_owned()),
        |s| only(s).policy = Some("absent".to_owned()),
        |s| cloud_of(only(s)).price = None,
        |s| cloud_of(only(s)).price.as_mut().expect("a price").state = PriceState::Stale,
        |s| cloud_of(only(s)).price.as_mut().expect("a price").state = PriceState::Held,
        |s| cloud_of(only(s)).price = Some(price("1", "4")),
        |s| {
            s.tiers
                .values_mut()
                .for_each(|tier| tier.hourly_cost = None)
        },
        |s| {
            s.tiers
                .values_mut()
                .for_each(|tier| tier.utilization = Utilization::Lost)
        },
        |s| only(s).moves.extend([at(1), at(2)]),
        |s| only(s).capability.required = set(&["Vision"]),
        |s| local_of(only(s)).model.capabilities = set(&[]),
        |s| {
            local_of(only(s)).model.context = Some(Tokens::clamped(4_096));
            only(s).capability.min_context = Some(Tokens::clamped(16_384));
        },
    ];
    insta::assert_snapshot!(cases.map(base).join("\n"));
}

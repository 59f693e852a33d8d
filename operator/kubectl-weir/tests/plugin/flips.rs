//! A what-if flips where the break-even says, by one request, for any price.

use std::path::PathBuf;
use std::sync::LazyLock;

use kubectl_weir::files;
use kubectl_weir::objects::Objects;
use kubectl_weir::plan::{Planned, WhatIf, plan};
use kubectl_weir::prices::PriceOverride;
use proptest::prelude::*;

use super::support::{EXAMPLES, now};

/// Read once: checking the schema's rules takes longer than planning.
static EXAMPLE_OBJECTS: LazyLock<Objects> =
    LazyLock::new(|| files::objects(&[PathBuf::from(EXAMPLES)]).expect("readable"));

fn hybrid(objects: &Objects, (input, output): (u64, u64), requests: u64) -> Planned {
    let what_if = WhatIf {
        requests: Some(requests),
        prices: vec![PriceOverride {
            model: "acme-small".to_owned(),
            input,
            output: Some(output),
        }],
        namespace: "default".to_owned(),
        ..WhatIf::default()
    };
    let workload = objects.workload("hybrid", None).expect("an example");
    plan(objects, workload, &what_if, now()).expect("plans")
}

fn target(planned: &Planned) -> &str {
    planned.decision.target.as_deref().unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn one_request_below_the_break_even_is_the_cloud_and_at_it_the_cluster(
        input in 10_000u64..20_000_000,
        output in 10_000u64..60_000_000,
        elsewhere in 1u64..100_000_000,
    ) {
        let objects = &*EXAMPLE_OBJECTS;
        let price = (input, output);
        let planned = hybrid(objects, price, elsewhere);
        let even = planned.decision.break_even_requests_per_month.expect("both sides are costed");
        let even = u64::try_from(even).expect("positive");
        prop_assert_eq!(target(&planned), if elsewhere < even { "cloud" } else { "local" });
        let below = hybrid(objects, price, even - 1);
        let at = hybrid(objects, price, even);
        let above = hybrid(objects, price, even + 1);
        prop_assert_eq!(target(&below), "cloud");
        prop_assert_eq!(target(&at), "local");
        prop_assert_eq!(target(&above), "local");
        // Demand moves no curve: the break-even is where it was.
        for planned in [&below, &at, &above] {
            prop_assert_eq!(planned.decision.break_even_requests_per_month, i64::try_from(even).ok());
        }
    }

    #[test]
    fn the_curve_crosses_at_the_break_even(
        input in 10_000u64..20_000_000,
        output in 10_000u64..60_000_000,
    ) {
        let planned = hybrid(&EXAMPLE_OBJECTS, (input, output), 300_000);
        let curve = planned.curve.expect("both sides are costed");
        let even = curve.break_even_requests_per_month.expect("they cross");
        for point in &curve.points {
            let (Some(local), Some(external)) = (point.local_micro_usd, point.external_micro_usd) else {
                return Err(TestCaseError::fail(format!("{point:?} lacks a side")));
            };
            // Costs are rounded to the micro-USD, so next to the crossing they may be equal.
            let right = if point.requests_per_month < even { local >= external } else { local <= external };
            prop_assert!(right, "{point:?} with break-even {even}");
        }
    }
}

//! Steps from recorded hours.

use proptest::prelude::*;
use weir_placement::{
    Hour, HourHistory, HourSums, Learned, Split, SplitParameters, StepHours, StepMarket, Timestamp,
};

use crate::builders::{market, terms};

fn step_market(time: Timestamp, hours: u32) -> StepMarket {
    StepMarket {
        time,
        hours: StepHours::new(hours).expect("hours"),
        ..market(0, &[("mini", 2.5)])
    }
}

fn recorded(hours: &[Option<u64>]) -> HourHistory {
    let mut history = HourHistory::default();
    for (number, output) in (480_000..).zip(hours) {
        if let (Some(output_tokens), Some(hour)) = (*output, Hour::new(number)) {
            let sums = HourSums {
                requests: 1,
                output_tokens,
                ..HourSums::default()
            };
            history.record(hour, sums);
        }
    }
    history
}

proptest! {
    #[test]
    fn relearned_from_recorded_hours_equals_learned_step_by_step(
        hours in proptest::collection::vec(proptest::option::weighted(0.9, 0..3_000_000_u64), 0..200),
        length in prop_oneof![Just(1_u32), Just(2), Just(4), Just(24)],
    ) {
        let (terms, parameters) = (terms(1.0), SplitParameters::default());
        let history = recorded(&hours);
        let at = |time| Some((step_market(time, length), Split::default()));
        let steps = history.steps(StepHours::new(length).expect("hours"), at);
        // 480000 is a multiple of every length: chunks are steps.
        let known = hours.chunks_exact(length as usize).filter(|chunk| chunk.iter().all(Option::is_some));
        prop_assert_eq!(steps.len(), known.count());
        let mut learned = Learned::default();
        for step in &steps {
            learned.observe(&terms, &parameters, step);
        }
        let json = serde_json::to_string(&history).expect("JSON");
        let restored: HourHistory = serde_json::from_str(&json).expect("a history");
        let again = restored.steps(StepHours::new(length).expect("hours"), at);
        prop_assert_eq!(Learned::from_steps(&terms, &parameters, &again), learned);
    }
}

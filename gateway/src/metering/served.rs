//! What served a workload's requests.

use crate::metering::outcome::Observation;
use crate::upstream::place::{Location, Reason};

/// Answers of a workload by location, reason and class of status; what `/metrics` counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServedBy {
    counts: [[[u64; 6]; Reason::ALL.len()]; 2],
}

impl ServedBy {
    /// Adds one request.
    pub(crate) fn add(&mut self, observation: &Observation) {
        let class = usize::from(observation.status / 100).min(5);
        self.counts[observation.location as usize][observation.reason as usize][class] += 1;
    }

    /// All counts that are not 0; the class is `none` where there was no answer.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Location, Reason, &'static str, u64)> {
        const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
        [Location::Local, Location::External]
            .into_iter()
            .flat_map(move |location| {
                Reason::ALL.into_iter().flat_map(move |reason| {
                    (0..CLASSES.len())
                        .map(move |class| {
                            (
                                location,
                                reason,
                                CLASSES[class],
                                self.counts[location as usize][reason as usize][class],
                            )
                        })
                        .filter(|(_, _, _, count)| *count > 0)
                })
            })
    }
}

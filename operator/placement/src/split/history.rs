//! Demand of the last steps, one slot a step, unknown where a step was not observed.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::quantity::NonNegative;

/// Slots that are kept: a week of hours, the hour before it, and a day.
pub(super) const MOST_SLOTS: usize = 193;

/// One step that is over.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Slot {
    /// Replicas that its mean hour needed.
    pub(super) need: NonNegative,
    /// What had been forecast.
    pub(super) forecast: Option<NonNegative>,
}

/// The last steps; newest last.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct History {
    slots: VecDeque<Option<Slot>>,
}

impl History {
    pub(super) fn push(&mut self, slot: Option<Slot>) {
        while self.slots.len() >= MOST_SLOTS {
            self.slots.pop_front();
        }
        self.slots.push_back(slot);
    }

    /// Slots of which nothing is known.
    pub(super) fn skip(&mut self, steps: u64) {
        let steps = usize::try_from(steps).unwrap_or(MOST_SLOTS);
        for _ in 0..steps.min(MOST_SLOTS) {
            self.push(None);
        }
    }

    /// The step `ago` steps before the next one; 1 is the newest.
    pub(super) fn slot(&self, ago: usize) -> Option<Slot> {
        let index = self.slots.len().checked_sub(ago)?;
        self.slots.get(index).copied().flatten()
    }

    /// Need of the step `ago` steps before the next one.
    pub(super) fn need(&self, ago: usize) -> Option<f64> {
        self.slot(ago).map(|slot| slot.need.get())
    }

    /// The newest `most` slots with their age in steps, 1 first.
    pub(super) fn newest(&self, most: usize) -> impl Iterator<Item = (usize, Slot)> {
        let known = |(index, slot): (usize, &Option<Slot>)| Some((index + 1, (*slot)?));
        self.slots
            .iter()
            .rev()
            .take(most)
            .enumerate()
            .filter_map(known)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}

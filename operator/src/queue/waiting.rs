//! Keys that wait: those whose time has not come by time, those that are due in two lanes, in each in turn by namespace.

use std::collections::{BTreeSet, HashMap};

use tokio::time::Instant;

use super::Key;
use crate::fair::Fair;

/// So many prompt keys are taken before one of the bulk is.
const PROMPT_IN_A_ROW: u32 = 8;

/// How soon a key is to be reconciled once it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Before all that came in bulk.
    Prompt,
    /// One of many that one change made due.
    Bulk,
}

#[derive(Default)]
pub(super) struct Waiting {
    /// When each key that waits is due, or has been since, and in which lane.
    times: HashMap<Key, (Instant, Lane)>,
    delayed: BTreeSet<(Instant, Key)>,
    prompt: Fair<Key>,
    bulk: Fair<Key>,
    /// Keys in the bulk's line that were taken over by the prompt lane.
    moved: usize,
    in_a_row: u32,
}

impl Waiting {
    /// Due at `at`, or earlier if it was already; prompt if either says so.
    pub fn schedule(&mut self, key: Key, at: Instant, lane: Lane) {
        let Some((known, known_lane)) = self.times.get(&key).copied() else {
            self.delay(key, at, lane);
            return;
        };
        let lane = match (known_lane, lane) {
            (Lane::Bulk, Lane::Bulk) => Lane::Bulk,
            _ => Lane::Prompt,
        };
        if self.delayed.remove(&(known, key.clone())) {
            self.delay(key, known.min(at), lane);
        } else if known_lane != lane {
            self.moved += 1;
            self.times.insert(key.clone(), (known, lane));
            push(&mut self.prompt, key);
        }
    }

    fn delay(&mut self, key: Key, at: Instant, lane: Lane) {
        self.times.insert(key.clone(), (at, lane));
        self.delayed.insert((at, key));
    }

    /// Lines up what is due by now.
    pub fn advance(&mut self, now: Instant) {
        while self.delayed.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.delayed.pop_first() else {
                return;
            };
            match self.times.get(&key) {
                Some((_, Lane::Bulk)) => push(&mut self.bulk, key),
                _ => push(&mut self.prompt, key),
            }
        }
    }

    /// The next key of those that are due.
    pub fn pop(&mut self) -> Option<Key> {
        let bulk_first = self.in_a_row >= PROMPT_IN_A_ROW;
        let key = if bulk_first {
            self.pop_bulk().or_else(|| self.pop_prompt())
        } else {
            self.pop_prompt().or_else(|| self.pop_bulk())
        }?;
        self.times.remove(&key);
        Some(key)
    }

    fn pop_prompt(&mut self) -> Option<Key> {
        let key = self.prompt.pop()?;
        self.in_a_row = self.in_a_row.saturating_add(1);
        Some(key)
    }

    fn pop_bulk(&mut self) -> Option<Key> {
        self.in_a_row = 0;
        loop {
            let key = self.bulk.pop()?;
            if matches!(self.times.get(&key), Some((_, Lane::Bulk))) {
                return Some(key);
            }
            self.moved = self.moved.saturating_sub(1);
        }
    }

    /// When the first of those that are not due will be.
    pub fn next_time(&self) -> Option<Instant> {
        self.delayed.first().map(|(at, _)| *at)
    }

    /// How many are due, and how many are not.
    pub fn counts(&self) -> (usize, usize) {
        let due = self.prompt.len() + self.bulk.len();
        (due.saturating_sub(self.moved), self.delayed.len())
    }

    /// Since when the one that has been due the longest is.
    pub fn oldest(&self) -> Option<Instant> {
        let fronts = self.prompt.fronts().chain(self.bulk.fronts());
        let times = fronts.filter_map(|key| self.times.get(key));
        times.map(|(at, _)| *at).min()
    }
}

fn push(line: &mut Fair<Key>, key: Key) {
    let namespace = key.namespace.clone().unwrap_or_default();
    line.push(&namespace, key);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(name: &str) -> Key {
        Key::cluster(name)
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_and_for_the_earliest_of_its_times() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut waiting = Waiting::default();
        let schedule = |waiting: &mut Waiting, name, seconds| {
            waiting.schedule(key(name), at(seconds), Lane::Prompt);
        };
        schedule(&mut waiting, "a", 10);
        schedule(&mut waiting, "a", 20);
        schedule(&mut waiting, "a", 5);
        schedule(&mut waiting, "b", 7);
        assert_eq!((waiting.counts(), waiting.oldest()), ((0, 2), None));
        assert_eq!(waiting.next_time(), Some(at(5)));
        waiting.advance(at(6));
        schedule(&mut waiting, "a", 6);
        assert_eq!((waiting.counts(), waiting.oldest()), ((1, 1), Some(at(5))));
        assert_eq!((waiting.pop(), waiting.pop()), (Some(key("a")), None));
        schedule(&mut waiting, "a", 8);
        waiting.advance(at(9));
        assert_eq!(waiting.oldest(), Some(at(7)));
        assert_eq!(
            (waiting.pop(), waiting.pop()),
            (Some(key("b")), Some(key("a")))
        );
        assert_eq!(waiting.counts(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_in_bulk_waits_for_the_others_but_not_for_ever() {
        let now = Instant::now();
        let mut waiting = Waiting::default();
        for at in 0..4 {
            waiting.schedule(key(&format!("bulk{at}")), now, Lane::Bulk);
        }
        for at in 0..20 {
            waiting.schedule(key(&format!("prompt{at:02}")), now, Lane::Prompt);
        }
        waiting.advance(now);
        let names: Vec<String> = std::iter::from_fn(|| waiting.pop())
            .map(|key| key.name)
            .collect();
        assert_eq!(names.len(), 24);
        let places: Vec<usize> = (0..24)
            .filter(|at| names[*at].starts_with("bulk"))
            .collect();
        assert_eq!(places, [8, 17, 22, 23]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_the_bulk_that_becomes_prompt_is_taken_once() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut waiting = Waiting::default();
        for name in ["a", "b", "c"] {
            waiting.schedule(key(name), now, Lane::Bulk);
        }
        waiting.schedule(key("d"), later, Lane::Prompt);
        waiting.schedule(key("d"), now, Lane::Bulk);
        waiting.advance(now);
        waiting.schedule(key("c"), later, Lane::Prompt);
        waiting.schedule(key("c"), later, Lane::Prompt);
        assert_eq!((waiting.counts(), waiting.oldest()), ((4, 0), Some(now)));
        let taken: Vec<Key> = std::iter::from_fn(|| waiting.pop()).collect();
        assert_eq!(taken, ["d", "c", "a", "b"].map(key));
        assert_eq!(waiting.counts(), (0, 0));
    }
}

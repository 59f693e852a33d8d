//! Keys that wait: those whose time has not come by time, those that are due in turn by namespace.

use std::collections::{BTreeSet, HashMap};

use tokio::time::Instant;

use super::Key;
use crate::fair::Fair;

#[derive(Default)]
pub(super) struct Waiting {
    /// When each key that waits is due, or has been since.
    times: HashMap<Key, Instant>,
    delayed: BTreeSet<(Instant, Key)>,
    due: Fair<Key>,
}

impl Waiting {
    /// Due at `at`, or earlier if it was already.
    pub fn schedule(&mut self, key: Key, at: Instant) {
        if let Some(before) = self.times.get(&key) {
            let is_delayed = *before > at && self.delayed.remove(&(*before, key.clone()));
            if !is_delayed {
                return;
            }
        }
        self.times.insert(key.clone(), at);
        self.delayed.insert((at, key));
    }

    /// Lines up what is due by now.
    pub fn advance(&mut self, now: Instant) {
        while self.delayed.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.delayed.pop_first() {
                let namespace = key.namespace.clone().unwrap_or_default();
                self.due.push(&namespace, key);
            }
        }
    }

    /// The next key of those that are due.
    pub fn pop(&mut self) -> Option<Key> {
        let key = self.due.pop()?;
        self.times.remove(&key);
        Some(key)
    }

    /// When the first of those that are not due will be.
    pub fn next_time(&self) -> Option<Instant> {
        self.delayed.first().map(|(at, _)| *at)
    }

    /// How many are due, and how many are not.
    pub fn counts(&self) -> (usize, usize) {
        (self.due.len(), self.delayed.len())
    }

    /// Since when the one that has been due the longest is.
    pub fn oldest(&self) -> Option<Instant> {
        let fronts = self.due.fronts();
        fronts.filter_map(|key| self.times.get(key)).min().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_and_for_the_earliest_of_its_times() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let key = |name: &str| Key::cluster(name);
        let mut waiting = Waiting::default();
        waiting.schedule(key("a"), at(10));
        waiting.schedule(key("a"), at(20));
        waiting.schedule(key("a"), at(5));
        waiting.schedule(key("b"), at(7));
        assert_eq!((waiting.counts(), waiting.oldest()), ((0, 2), None));
        assert_eq!(waiting.next_time(), Some(at(5)));
        waiting.advance(at(6));
        waiting.schedule(key("a"), at(6));
        assert_eq!((waiting.counts(), waiting.oldest()), ((1, 1), Some(at(5))));
        assert_eq!((waiting.pop(), waiting.pop()), (Some(key("a")), None));
        waiting.schedule(key("a"), at(8));
        waiting.advance(at(9));
        assert_eq!(waiting.oldest(), Some(at(7)));
        assert_eq!(
            (waiting.pop(), waiting.pop()),
            (Some(key("b")), Some(key("a")))
        );
        assert_eq!(waiting.counts(), (0, 0));
    }
}

//! Statuses in which numbers alone changed, such as costs after a change of prices, wait for room in the budget of writes:
//! what changes a placement or a condition goes first, and does not wait behind them in a slot of the queue.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::client::Budget;
use crate::fair::Fair;
use crate::queue::Key;

/// Workloads whose numbers wait to be written.
pub(super) struct Numbers {
    budget: Budget,
    state: Mutex<State>,
    waits: Notify,
}

#[derive(Default)]
struct State {
    line: Fair<Key>,
    waiting: HashSet<Key>,
    /// Their turn has come.
    called: HashSet<Key>,
}

impl Numbers {
    pub fn new(budget: Budget) -> Self {
        Self {
            budget,
            state: Mutex::default(),
            waits: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether they may be written now. If not, [`Self::next_turn`] gives the key when they may.
    pub fn may_be_written(&self, key: &Key) -> bool {
        let mut state = self.state();
        if state.called.remove(key) || (state.line.len() == 0 && self.budget.has_room()) {
            return true;
        }
        if state.waiting.insert(key.clone()) {
            let namespace = key.namespace.clone().unwrap_or_default();
            state.line.push(&namespace, key.clone());
            self.budget.want_more(true);
            self.waits.notify_one();
        }
        false
    }

    /// The next workload whose turn it is: as many a second as the budget allows, while nothing urgent waits for it.
    pub async fn next_turn(&self) -> Key {
        loop {
            if self.state().line.len() == 0 {
                self.waits.notified().await;
            }
            sleep(self.budget.pace()).await;
            if !self.budget.has_room() {
                continue;
            }
            let mut state = self.state();
            let key = state.line.pop();
            self.budget.want_more(state.line.len() > 0);
            if let Some(key) = key {
                state.waiting.remove(&key);
                state.called.insert(key.clone());
                return key;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::metrics::Metrics;

    #[tokio::test(start_paused = true)]
    async fn numbers_are_written_at_once_where_there_is_room_and_else_in_turn() {
        let budget = Budget::start(10, 10, Arc::new(Metrics::new()));
        let numbers = Numbers::new(budget.clone());
        let key = |name: &str| Key::cluster(name);
        assert!(numbers.may_be_written(&key("a")));
        // The burst is spent.
        while budget.has_room() {
            budget.spend().await;
        }
        for name in ["a", "b", "a"] {
            assert!(!numbers.may_be_written(&key(name)));
        }
        let began = tokio::time::Instant::now();
        assert_eq!(numbers.next_turn().await, key("a"));
        assert!(numbers.may_be_written(&key("a")));
        assert!(!numbers.may_be_written(&key("a")));
        assert_eq!(numbers.next_turn().await, key("b"));
        assert_eq!(numbers.next_turn().await, key("a"));
        let took = began.elapsed();
        assert!((300..=500).contains(&took.as_millis()), "{took:?}");
        let none = tokio::time::timeout(Duration::from_secs(60), numbers.next_turn());
        assert!(none.await.is_err());
    }
}

//! Nodes and what their pods request, counted once for all tiers, however many pods change meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use weir_operator_core::tier::NodeFacts;

/// All pods of a cluster are not counted more often than this.
const EVERY: Duration = Duration::from_secs(1);

/// The last count.
#[derive(Default)]
pub(super) struct Snapshot {
    changes: AtomicU64,
    last: Mutex<Option<Counted>>,
}

struct Counted {
    /// Changes that it has seen.
    changes: u64,
    at: Instant,
    nodes: Arc<Vec<NodeFacts>>,
}

impl Snapshot {
    /// Notes that a node or a pod changed.
    pub fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Nodes with every change so far; counted by `count` when there was one.
    ///
    /// # Errors
    /// How long to wait, when they were counted a moment ago.
    pub fn nodes(
        &self,
        count: impl FnOnce() -> Vec<NodeFacts>,
    ) -> Result<Arc<Vec<NodeFacts>>, Duration> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = self.changes.load(Ordering::Acquire);
        if let Some(last) = last.as_ref() {
            if last.changes == changes {
                return Ok(Arc::clone(&last.nodes));
            }
            let age = last.at.elapsed();
            if age < EVERY {
                return Err(EVERY - age);
            }
        }
        let nodes = Arc::new(count());
        *last = Some(Counted {
            changes,
            at: Instant::now(),
            nodes: Arc::clone(&nodes),
        });
        Ok(nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_tiers_share_a_count_and_a_change_is_counted_within_a_second() {
        let snapshot = Snapshot::default();
        let mut counts = 0;
        let mut look = || {
            let nodes = snapshot.nodes(|| {
                counts += 1;
                Vec::new()
            });
            (nodes.map(drop), counts)
        };
        for _tier in 0..20 {
            assert_eq!(look(), (Ok(()), 1));
        }
        snapshot.changed();
        tokio::time::advance(Duration::from_millis(300)).await;
        assert_eq!(look(), (Err(Duration::from_millis(700)), 1));
        snapshot.changed();
        tokio::time::advance(Duration::from_millis(700)).await;
        assert_eq!(look(), (Ok(()), 2));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(look(), (Ok(()), 2));
    }
}

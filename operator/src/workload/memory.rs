//! What a reconciler remembers to spare requests. All of it can be lost: the cluster and status restore it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;
use weir_crds::InferenceWorkload;
use weir_crds::usage::Usage;

/// A Secret that was deleted comes back within this time.
pub(super) const SECRET_INTERVAL: Duration = Duration::from_secs(600);
/// A watch that lags behind our own writes for longer than this is not waited for: the version check guards writes.
const OWN_WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// A record of demand that could not be written is tried again after this.
const DEMAND_AGAIN: Duration = Duration::from_secs(60);

/// A move that was decided is seen in the store within this time, or was not written.
const MOVE_PATIENCE: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct Memory {
    workloads: Mutex<HashMap<String, OfWorkload>>,
    /// Workloads under a move budget that were just told to move.
    told_to_move: Mutex<HashMap<String, Instant>>,
}

#[derive(Default)]
struct OfWorkload {
    secret: Option<(String, Instant)>,
    written: Option<(u64, Instant)>,
    usage_base: Option<Usage>,
    /// Since when a turn to write the record of demand counts: the last one, or the first look.
    demand_since: Option<Timestamp>,
    demand_failed: Option<Timestamp>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, OfWorkload>> {
        self.workloads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a workload that is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// Forgets every workload that does not exist.
    pub fn retain(&self, exists: impl Fn(&str) -> bool) {
        self.lock().retain(|uid, _| exists(uid));
    }

    /// Whether the Secret has to be written, or written again.
    pub fn secret_is_due(&self, uid: &str, name: &str) -> bool {
        let known = self.lock();
        let written = known.get(uid).and_then(|known| known.secret.as_ref());
        written.is_none_or(|(written, at)| written != name || at.elapsed() >= SECRET_INTERVAL)
    }

    pub fn secret_written(&self, uid: &str, name: &str) {
        let secret = Some((name.to_owned(), Instant::now()));
        self.lock().entry(uid.to_owned()).or_default().secret = secret;
    }

    /// Decides about a workload while none other under a move budget is decided, for each could take the last move.
    /// `decide` is given who was told to move and may not be seen moving yet, and says whether this one is told to.
    pub fn one_at_a_time<T>(
        &self,
        uid: &str,
        decide: impl FnOnce(&BTreeSet<String>) -> (T, bool),
    ) -> T {
        let mut told = self
            .told_to_move
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at| at.elapsed() < MOVE_PATIENCE);
        let others = told.keys().filter(|told| *told != uid).cloned().collect();
        let (decided, moves) = decide(&others);
        if moves {
            told.insert(uid.to_owned(), Instant::now());
        }
        decided
    }

    /// When the record of demand is due: at the first turn after the last one, or after the first look. One that could
    /// not be written is due a little later.
    pub fn demand_due(
        &self,
        uid: &str,
        now: Timestamp,
        turn_after: impl FnOnce(Timestamp) -> Timestamp,
    ) -> Timestamp {
        let mut known = self.lock();
        let known = known.entry(uid.to_owned()).or_default();
        let since = *known.demand_since.get_or_insert(now);
        // A clock that was set back would otherwise be waited for.
        match known.demand_failed {
            Some(failed) => failed.min(now) + DEMAND_AGAIN,
            None => turn_after(since.min(now)),
        }
    }

    /// Notes that the turn was taken, whether there was something to write or not.
    pub fn demand_done(&self, uid: &str, now: Timestamp) {
        let mut known = self.lock();
        let known = known.entry(uid.to_owned()).or_default();
        (known.demand_since, known.demand_failed) = (Some(now), None);
    }

    /// Notes that the record could not be written.
    pub fn demand_failed(&self, uid: &str, now: Timestamp) {
        self.lock().entry(uid.to_owned()).or_default().demand_failed = Some(now);
    }

    /// Notes the version that our write gave.
    pub fn wrote(&self, uid: &str, workload: &InferenceWorkload) {
        let Some(version) = version(workload) else {
            return;
        };
        let written = Some((version, Instant::now()));
        self.lock().entry(uid.to_owned()).or_default().written = written;
    }

    /// Whether what the store has is from before our last write.
    pub fn is_older_than_own_write(&self, uid: &str, workload: &InferenceWorkload) -> bool {
        let known = self.lock();
        let written = known.get(uid).and_then(|known| known.written);
        match (written, version(workload)) {
            (Some((written, at)), Some(seen)) => {
                seen < written && at.elapsed() < OWN_WRITE_PATIENCE
            }
            _ => false,
        }
    }

    /// What status had beyond the gateways' own counts when this process first looked.
    pub fn usage_base(&self, uid: &str, first: impl FnOnce() -> Usage) -> Usage {
        self.lock()
            .entry(uid.to_owned())
            .or_default()
            .usage_base
            .get_or_insert_with(first)
            .clone()
    }
}

/// Versions of one kind can be compared since Kubernetes 1.35; elsewhere what is no number is not compared.
fn version(workload: &InferenceWorkload) -> Option<u64> {
    workload.resource_version()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_was_told_to_move_is_known_to_the_next_until_it_is_seen() {
        let memory = Memory::default();
        let others = |uid: &str, moves| memory.one_at_a_time(uid, |told| (told.len(), moves));
        assert_eq!(others("a", true), 0);
        assert_eq!(others("a", true), 0);
        assert_eq!(others("b", false), 1);
        assert_eq!(others("c", false), 1);
        tokio::time::advance(MOVE_PATIENCE).await;
        assert_eq!(others("b", false), 0);
    }

    #[test]
    fn a_record_of_demand_is_due_once_a_turn_and_a_minute_after_a_failure() {
        let memory = Memory::default();
        let at = |second| Timestamp::from_second(second).expect("a time");
        let turn = |since: Timestamp| at(since.as_second() / 100 * 100 + 100);
        let due = |now| memory.demand_due("u", at(now), turn).as_second();
        assert_eq!((due(50), due(70), due(130)), (100, 100, 100));
        memory.demand_failed("u", at(130));
        assert_eq!((due(140), due(195)), (190, 190));
        memory.demand_done("u", at(195));
        assert_eq!(due(196), 200);
        // The clock was set back by a minute.
        assert_eq!(due(136), 200);
        assert_eq!(due(36), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_is_written_once_and_again_after_ten_minutes_or_a_rotation() {
        let memory = Memory::default();
        assert!(memory.secret_is_due("u", "a-key"));
        memory.secret_written("u", "a-key");
        assert!(!memory.secret_is_due("u", "a-key"));
        assert!(memory.secret_is_due("u", "a-key-1"));
        tokio::time::advance(SECRET_INTERVAL).await;
        assert!(memory.secret_is_due("u", "a-key"));
    }
}

//! What a reconciler remembers to spare requests. All of it can be lost: the cluster and status restore it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;
use weir_crds::usage::Usage;
use weir_crds::{InferenceWorkload, names};

/// Secrets that stand in status may have been lost before this process began. It tries to create each once, not before this
/// time, for what is to be done at once comes first, ...
const SECRETS_AFTER: Duration = Duration::from_secs(60);
/// ... and spread over this one. The same holds for those of a namespace in which something of ours was lost.
const SECRETS_WITHIN: Duration = Duration::from_secs(600);
/// A watch that lags behind our own writes for longer than this is not waited for: the version check guards writes.
const OWN_WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// A record of demand that could not be written is tried again after this.
const DEMAND_AGAIN: Duration = Duration::from_secs(60);

/// A move that was decided is seen in the store within this time, or was not written.
const MOVE_PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Memory {
    begun: Instant,
    workloads: Mutex<HashMap<String, OfWorkload>>,
    /// Workloads under a move budget that were just told to move.
    told_to_move: tokio::sync::Mutex<HashMap<String, Instant>>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            workloads: Mutex::default(),
            told_to_move: tokio::sync::Mutex::default(),
        }
    }
}

/// What is known of a Secret, which nobody may read.
#[derive(Clone, Copy)]
enum Secret {
    /// It is there, for since then it was created, or found when it was to be.
    There(Instant),
    /// It may be missing, and is to be created then.
    Due(Instant),
}

#[derive(Default)]
struct OfWorkload {
    secrets: BTreeMap<String, Secret>,
    /// The workload as its owner last wrote it.
    edition: Option<u64>,
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

    /// Whether this Secret of the workload is to be created now. One that `stands` in status is tried once in a process's
    /// life, at a moment that the UID tells; others at once.
    pub fn secret_is_due(&self, uid: &str, name: &str, stands: bool) -> bool {
        let now = Instant::now();
        let first = if stands {
            self.begun + SECRETS_AFTER + spread(uid)
        } else {
            now
        };
        let mut known = self.lock();
        let secrets = &mut known.entry(uid.to_owned()).or_default().secrets;
        let secret = secrets.entry(name.to_owned());
        matches!(secret.or_insert(Secret::Due(first)), Secret::Due(at) if *at <= now)
    }

    /// Notes that the Secret is there.
    pub fn secret_written(&self, uid: &str, name: &str) {
        let mut known = self.lock();
        let secrets = &mut known.entry(uid.to_owned()).or_default().secrets;
        secrets.insert(name.to_owned(), Secret::There(Instant::now()));
    }

    /// Notes what the owner of the workload wrote. After an edit its Secrets are looked after at once: whoever misses one
    /// gets it by an annotation.
    pub fn edited(&self, uid: &str, workload: &InferenceWorkload) {
        let edition = edition(workload);
        let mut known = self.lock();
        let known = known.entry(uid.to_owned()).or_default();
        if known
            .edition
            .replace(edition)
            .is_some_and(|before| before != edition)
        {
            let now = Instant::now();
            for secret in known.secrets.values_mut() {
                *secret = Secret::Due(now);
            }
        }
    }

    /// Notes that something of ours was lost in the workload's namespace: its Secrets may have been too. Those that were
    /// there a short time ago are believed to be.
    pub fn namespace_touched(&self, uid: &str) {
        let now = Instant::now();
        let mut known = self.lock();
        let secrets = &mut known.entry(uid.to_owned()).or_default().secrets;
        for secret in secrets.values_mut() {
            if matches!(secret, Secret::There(since) if now - *since >= SECRETS_WITHIN) {
                *secret = Secret::Due(now + spread(uid));
            }
        }
    }

    /// In how long a Secret of the workload is to be created; `None` while all are there.
    pub fn secret_due_in(&self, uid: &str) -> Option<Duration> {
        let known = self.lock();
        let secrets = known.get(uid)?.secrets.values();
        let due = secrets.filter_map(|secret| match secret {
            Secret::There(_) => None,
            Secret::Due(at) => Some(*at),
        });
        Some(due.min()?.saturating_duration_since(Instant::now()))
    }

    /// Decides about a workload while none other under a move budget is decided, for each could take the last move.
    /// `decide` is given who was told to move and may not be seen moving yet, and says whether this one is told to.
    /// Others wait without holding a thread.
    pub async fn one_at_a_time<T>(
        &self,
        uid: &str,
        decide: impl FnOnce(&BTreeSet<String>) -> (T, bool),
    ) -> T {
        let mut told = self.told_to_move.lock().await;
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

fn spread(uid: &str) -> Duration {
    SECRETS_WITHIN.mul_f64(share_of(uid))
}

/// A number from 0 to 1 that is a workload's own, so that a fleet does things one after the other.
pub(super) fn share_of(uid: &str) -> f64 {
    let number = u32::from_str_radix(&names::uid8(uid), 16).unwrap_or_default();
    f64::from(number) / f64::from(u32::MAX)
}

/// What the owner of a workload writes: all but status, and what comes with it.
fn edition(workload: &InferenceWorkload) -> u64 {
    let meta = &workload.metadata;
    let mut hasher = DefaultHasher::new();
    (meta.generation, &meta.labels, &meta.annotations).hash(&mut hasher);
    hasher.finish()
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
        let others = async |uid: &str, moves| {
            let decide = |told: &BTreeSet<String>| (told.len(), moves);
            memory.one_at_a_time(uid, decide).await
        };
        assert_eq!(others("a", true).await, 0);
        assert_eq!(others("a", true).await, 0);
        assert_eq!(others("b", false).await, 1);
        assert_eq!(others("c", false).await, 1);
        tokio::time::advance(MOVE_PATIENCE).await;
        assert_eq!(others("b", false).await, 0);
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

    const UID: &str = "80000000-55aa-4c11-9d21-0123456789ab";

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_was_created_is_not_created_again() {
        let memory = Memory::default();
        assert!(memory.secret_is_due(UID, "a-key", false));
        memory.secret_written(UID, "a-key");
        assert!(memory.secret_is_due(UID, "a-key-1", false));
        memory.secret_written(UID, "a-key-1");
        tokio::time::advance(Duration::from_secs(86_400)).await;
        assert!(!memory.secret_is_due(UID, "a-key", false));
        assert_eq!(memory.secret_due_in(UID), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_that_stands_in_status_is_tried_once_at_a_time_of_its_own() {
        let memory = Memory::default();
        assert!(!memory.secret_is_due(UID, "a-key", true));
        let due = memory.secret_due_in(UID).expect("a time");
        assert_eq!(due.as_secs(), 360);
        let early = memory.secret_is_due("00000000-1", "a-key", true);
        let other = memory.secret_due_in("00000000-1").expect("a time");
        assert_eq!((early, other.as_secs()), (false, 60));
        tokio::time::advance(due).await;
        assert!(memory.secret_is_due(UID, "a-key", true));
        memory.secret_written(UID, "a-key");
        assert!(!memory.secret_is_due(UID, "a-key", true));
    }

    #[tokio::test(start_paused = true)]
    async fn an_edit_looks_after_the_secret_at_once_and_a_status_does_not() {
        let memory = Memory::default();
        let mut workload = InferenceWorkload::new("w", serde_json::from_value(
            serde_json::json!({"targets": [{"name": "here", "local": {"modelRef": {"name": "m"}, "tiers": ["t"]}}]}),
        ).expect("a spec"));
        memory.edited(UID, &workload);
        memory.secret_written(UID, "a-key");
        workload.metadata.resource_version = Some("2".into());
        workload.status = Some(weir_crds::InferenceWorkloadStatus::default());
        memory.edited(UID, &workload);
        assert!(!memory.secret_is_due(UID, "a-key", true));
        workload.metadata.annotations = Some([("please".to_owned(), "again".to_owned())].into());
        memory.edited(UID, &workload);
        assert!(memory.secret_is_due(UID, "a-key", true));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_lost_in_a_namespace_looks_after_its_secrets_at_most_once_in_ten_minutes() {
        let memory = Memory::default();
        memory.secret_written(UID, "a-key");
        memory.namespace_touched(UID);
        assert_eq!(memory.secret_due_in(UID), None);
        tokio::time::advance(SECRETS_WITHIN).await;
        memory.namespace_touched(UID);
        assert_eq!(
            memory.secret_due_in(UID).map(|due| due.as_secs()),
            Some(300)
        );
    }
}

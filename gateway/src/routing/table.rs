//! The routing table: what one request sees, whole and unchanging.

#[cfg(feature = "cloud")]
use crate::external::permit::ExternalPermit;
use crate::policy::TrafficPolicy;
use crate::routing::closed::Closed;
use crate::routing::engines::Engines;
pub(crate) use crate::routing::keys::{KeyHash, Keys};
use crate::routing::target_state::TargetState;
use crate::routing::workload_state::WorkloadState;
use crate::upstream::place::Location;
use std::collections::HashMap;
use std::sync::Arc;

/// UID of a workload.
pub(crate) type Uid = Arc<str>;

/// Every workload of this plane, by UID and by key.
#[derive(Debug, Default)]
pub struct RouteTable {
    by_uid: HashMap<Uid, Arc<Workload>>,
    by_key: HashMap<KeyHash, Arc<Workload>>,
}

impl RouteTable {
    /// A table of these workloads. A key hash of two workloads (which only a forged status can bring about) opens neither.
    pub fn new(workloads: Vec<Arc<Workload>>) -> Self {
        let mut table = Self::default();
        let mut ambiguous = Vec::new();
        for workload in workloads {
            for key in workload.keys.all() {
                let before = table.by_key.insert(key, Arc::clone(&workload));
                if before.is_some_and(|before| before.uid != workload.uid) {
                    ambiguous.push(key);
                }
            }
            table.by_uid.insert(Arc::clone(&workload.uid), workload);
        }
        for key in ambiguous {
            table.by_key.remove(&key);
        }
        table
    }

    /// The workload with a UID.
    pub fn by_uid(&self, uid: &str) -> Option<&Arc<Workload>> {
        self.by_uid.get(uid)
    }

    /// The workload with a key.
    pub fn by_key(&self, key: &KeyHash) -> Option<&Arc<Workload>> {
        self.by_key.get(key)
    }

    /// All workloads.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.by_uid.values()
    }
}

/// How one workload's requests are routed.
#[derive(Debug)]
pub struct Workload {
    /// UID of the object.
    pub uid: Uid,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Generation of the spec that this was made from.
    pub generation: i64,
    /// What clients put into `model`.
    pub model: String,
    /// When the object was made, in Unix seconds.
    pub created: u64,
    /// The keys that clients may present.
    pub keys: Keys,
    /// The decision that ordered the weights.
    pub decision_id: Arc<str>,
    /// The step of the placement; 0 before the first.
    pub step: i64,
    /// The feasible targets, and no others.
    pub targets: Vec<RouteTarget>,
    /// Why a target that the placement names has no route; the first of them.
    pub closed: Option<Closed>,
    /// Labels of the local targets that have a ready engine, whether traffic goes to them or not.
    pub reachable: Vec<Arc<str>>,
    /// When requests leave a target.
    pub traffic: TrafficPolicy,
    /// What lasts longer than a table: counters and the targets' standing.
    pub state: Arc<WorkloadState>,
}

/// One feasible target.
#[derive(Debug)]
pub struct RouteTarget {
    /// Name in the spec.
    pub name: Arc<str>,
    /// Share of the traffic; 0 means spill and failover only.
    pub weight: u32,
    /// A local target that is asleep by order.
    pub asleep: bool,
    /// Where requests go.
    pub target: Target,
    /// Its standing, which outlives the table.
    pub state: Arc<TargetState>,
}

/// Where requests go. In the local plane's build there is one variant, and none that could name another place.
#[derive(Debug)]
pub enum Target {
    /// Engines of this cluster, those that are ready.
    Local(Engines),
    /// A provider's API; only a proof that egress is allowed makes one.
    #[cfg(feature = "cloud")]
    External(ExternalPermit),
}

impl Target {
    /// The engines of a local target.
    pub fn engines(&self) -> Option<&Engines> {
        match self {
            Self::Local(engines) => Some(engines),
            #[cfg(feature = "cloud")]
            Self::External(_) => None,
        }
    }

    /// Where it is.
    pub fn location(&self) -> Location {
        match self {
            Self::Local(_) => Location::Local,
            #[cfg(feature = "cloud")]
            Self::External(_) => Location::External,
        }
    }
}

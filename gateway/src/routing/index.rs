//! Objects of the cluster, as they are learned, made into a routing table. No I/O: watches feed it, tables come out.

mod entry;
#[cfg(feature = "cloud")]
mod external;
pub(crate) mod input;
mod named;

#[cfg(feature = "cloud")]
use crate::external::provider::Providers;
use crate::routing::closed::Closed;
use crate::routing::endpoints::{Endpoints, TargetKey};
use crate::routing::table::{RouteTable, RouteTarget, Target, Uid, Workload};
use crate::routing::target_state::TargetState;
use crate::upstream::place::Location;
use entry::Entry;
use input::{TargetKind, Undecodable, WeightInput, WorkloadInput};
use named::Named;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use weir_crds::names;

/// Deleted UIDs that are remembered.
const TOMBSTONES_KEPT: usize = 4096;

/// Everything that this plane knows of the cluster.
#[derive(Debug)]
#[cfg_attr(not(feature = "cloud"), derive(Default))]
pub struct Index {
    entries: BTreeMap<Uid, Entry>,
    deleted: BTreeSet<Uid>,
    deleted_order: VecDeque<Uid>,
    /// Addresses of engines.
    pub endpoints: Endpoints,
    /// Providers and their keys.
    #[cfg(feature = "cloud")]
    pub providers: Providers,
    /// No target at a provider has a route, because the API server was not heard for too long.
    pub external_closed: bool,
}

/// What a complete list had that was older than what was known: the cluster was restored to an earlier state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Workloads of an older generation than before.
    pub older: usize,
    /// Workloads that were deleted before.
    pub deleted: usize,
}

impl Index {
    /// An empty index.
    pub fn new(#[cfg(feature = "cloud")] providers: Providers) -> Self {
        Self {
            endpoints: Endpoints::default(),
            entries: BTreeMap::new(),
            deleted: BTreeSet::new(),
            deleted_order: VecDeque::new(),
            #[cfg(feature = "cloud")]
            providers,
            external_closed: false,
        }
    }

    /// Learns a workload. What is older than what is known, or deleted, is ignored; true when something changed.
    pub fn apply(&mut self, object: Result<WorkloadInput, Undecodable>) -> bool {
        let (uid, version) = identity(&object);
        if self.deleted.contains(&uid) {
            return false;
        }
        let entry = self.entry(uid, version);
        if entry.is_newer_than(version.0, version.1) {
            return false;
        }
        entry.take(object, version);
        true
    }

    /// A complete list came: it is the present state, also where it is older than what is known, and everything else is
    /// deleted. What is deleted stays so, and what a newer generation closed stays closed.
    pub fn list(&mut self, objects: Vec<Result<WorkloadInput, Undecodable>>) -> Restored {
        let mut restored = Restored::default();
        let mut listed = BTreeSet::new();
        for object in objects {
            let (uid, version) = identity(&object);
            listed.insert(Arc::clone(&uid));
            if self.deleted.contains(&uid) {
                restored.deleted += 1;
                continue;
            }
            let entry = self.entry(uid, version);
            restored.older += usize::from(entry.has_newer_generation(version.0));
            entry.take(object, version);
        }
        self.retain(&listed);
        restored
    }

    fn entry(&mut self, uid: Uid, (generation, resource_version): Version) -> &mut Entry {
        let new = || Entry::new(generation, resource_version);
        self.entries.entry(uid).or_insert_with(new)
    }

    /// Forgets a workload for good.
    pub fn delete(&mut self, uid: &str) -> bool {
        let uid: Uid = uid.into();
        if self.deleted.insert(Arc::clone(&uid)) {
            self.deleted_order.push_back(Arc::clone(&uid));
            if self.deleted_order.len() > TOMBSTONES_KEPT
                && let Some(oldest) = self.deleted_order.pop_front()
            {
                self.deleted.remove(&oldest);
            }
        }
        self.entries.remove(&uid).is_some()
    }

    /// Forgets for good what is not among these; true when something was.
    pub fn retain(&mut self, listed: &BTreeSet<Uid>) -> bool {
        let gone: Vec<Uid> = self
            .entries
            .keys()
            .filter(|uid| !listed.contains(*uid))
            .cloned()
            .collect();
        for uid in &gone {
            self.delete(uid);
        }
        !gone.is_empty()
    }

    /// The routing table of what is known.
    pub fn build(&mut self) -> RouteTable {
        let entries = std::mem::take(&mut self.entries);
        let workloads = entries
            .values()
            .filter_map(|entry| self.workload(entry))
            .map(Arc::new)
            .collect();
        self.entries = entries;
        RouteTable::new(workloads)
    }

    fn workload(&mut self, entry: &Entry) -> Option<Workload> {
        let input = entry
            .input
            .as_ref()
            .filter(|input| input.egress.is_of_this_plane())?;
        let weights = input
            .placement
            .as_ref()
            .map(|placement| placement.weights.as_slice())
            .unwrap_or_default();
        let (targets, closed) = self.targets(entry, input, weights);
        Some(Workload {
            uid: Arc::clone(&input.uid),
            namespace: Arc::clone(&input.namespace),
            name: Arc::clone(&input.name),
            generation: input.generation,
            model: input.model.clone(),
            created: input.created,
            keys: input.keys.clone(),
            decision_id: input
                .placement
                .as_ref()
                .map_or_else(|| "".into(), |placement| Arc::clone(&placement.decision_id)),
            step: input
                .placement
                .as_ref()
                .map_or(0, |placement| placement.step),
            targets,
            closed,
            reachable: self.endpoints.ready(&input.namespace, &input.uid),
            traffic: input.traffic.clone(),
            state: Arc::clone(&entry.state),
        })
    }

    /// The targets that have a route, and why the first of the others has none. What a weight gives to a model that its
    /// provider has just withdrawn goes to the target of the spec, where that may serve, until the operator has decided
    /// anew.
    fn targets(
        &mut self,
        entry: &Entry,
        input: &WorkloadInput,
        weights: &[WeightInput],
    ) -> (Vec<RouteTarget>, Option<Closed>) {
        let mut targets = Vec::with_capacity(weights.len());
        let mut left = Vec::new();
        let mut closed = None;
        for weight in weights {
            match self.target(entry, input, weight) {
                Ok(target) => targets.push(target),
                Err(reason) => {
                    closed = closed.or(Some(reason));
                    if names::substitute_of(&weight.target).is_some() {
                        left.push(weight);
                    }
                }
            }
        }
        for weight in left {
            let declared = names::declared_target(&weight.target);
            let mut listed = targets.iter_mut();
            if let Some(target) = listed.find(|target| *target.name == *declared) {
                target.weight = target.weight.saturating_add(weight.weight);
            }
        }
        (targets, closed)
    }

    /// A weight becomes a target when the spec has a target of that name, or one that it is derived from.
    fn target(
        &mut self,
        entry: &Entry,
        input: &WorkloadInput,
        weight: &WeightInput,
    ) -> Result<RouteTarget, Closed> {
        let named = Named::of(input, &weight.target).ok_or(Closed::NotServed)?;
        let state = entry.state.target(&weight.target);
        let target = match named.declared.kind {
            TargetKind::Local if weight.decided_for.is_some() => return Err(Closed::Undecided),
            TargetKind::Local => self.local(input, &named, &state),
            #[cfg(feature = "cloud")]
            TargetKind::External { .. } => Target::External(external::permit(
                &mut self.providers,
                self.external_closed,
                external::Claim {
                    entry,
                    input,
                    weight,
                    named: &named,
                },
            )?),
            #[cfg(not(feature = "cloud"))]
            TargetKind::External { .. } => return Err(Closed::NotServed),
        };
        let asleep = weight.asleep && target.location() == Location::Local;
        if asleep && state.has_answered() {
            state.record_sleep();
        }
        Ok(RouteTarget {
            name: Arc::clone(&weight.target),
            weight: weight.weight,
            asleep,
            target,
            state,
        })
    }

    fn local(&self, input: &WorkloadInput, named: &Named<'_>, state: &TargetState) -> Target {
        let key = TargetKey {
            namespace: Arc::clone(&input.namespace),
            uid: Arc::clone(&input.uid),
            label: names::target_label(named.name).into(),
        };
        let addresses = self.endpoints.of(&key);
        Target::Local(state.engines_at(&addresses))
    }
}

/// Generation and version of an object.
type Version = (i64, Option<u64>);

fn identity(object: &Result<WorkloadInput, Undecodable>) -> (Uid, Version) {
    match object {
        Ok(input) => (
            Arc::clone(&input.uid),
            (input.generation, input.resource_version),
        ),
        Err(broken) => (
            Arc::clone(&broken.uid),
            (broken.generation, broken.resource_version),
        ),
    }
}

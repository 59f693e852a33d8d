//! Objects of the cluster, as they are learned, made into a routing table. No I/O: watches feed it, tables come out.

mod named;

use crate::choose::Location;
use crate::endpoints::{Endpoints, TargetKey};
#[cfg(feature = "cloud")]
use crate::external::{EgressAllowed, ExternalPermit, Providers};
use crate::state::{TargetState, WorkloadState};
use crate::table::{KeyHash, RouteTable, RouteTarget, Target, TrafficPolicy, Uid, Workload};
use named::Named;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use weir_crds::names;

/// Deleted UIDs that are remembered.
const TOMBSTONES_KEPT: usize = 4096;

/// Whether a workload's data may leave the cluster; fixed for its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Egress {
    /// It may not.
    Forbidden,
    /// It may.
    Allowed,
}

impl Egress {
    /// Whether this build serves such workloads.
    pub fn is_of_this_plane(self) -> bool {
        (self == Self::Allowed) == cfg!(feature = "cloud")
    }
}

/// A workload as the API server has it.
#[derive(Clone, Debug)]
pub struct WorkloadInput {
    /// UID of the object.
    pub uid: Uid,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Generation of the spec.
    pub generation: i64,
    /// Version of the object, where it is a number.
    pub resource_version: Option<u64>,
    /// When the object was made, in Unix seconds.
    pub created: u64,
    /// Whether its data may leave.
    pub egress: Egress,
    /// The served model's name.
    pub model: String,
    /// SHA-256 of the client key.
    pub key: Option<KeyHash>,
    /// Targets of the spec.
    pub targets: Vec<TargetInput>,
    /// What the operator ordered.
    pub placement: Option<PlacementInput>,
    /// When requests leave a target.
    pub traffic: TrafficPolicy,
}

/// A target of the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetInput {
    /// Its name.
    pub name: Arc<str>,
    /// What it is.
    pub kind: TargetKind,
}

/// What a target is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// A Deployment of this cluster.
    Local,
    /// A model of a provider.
    External {
        /// Name of the InferenceProvider.
        provider: Arc<str>,
        /// The provider's name of the model.
        model: Arc<str>,
    },
}

/// What the operator ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacementInput {
    /// The decision.
    pub decision_id: Arc<str>,
    /// The step.
    pub step: i64,
    /// The generation that it was decided for.
    pub generation: i64,
    /// The feasible targets.
    pub weights: Vec<WeightInput>,
}

/// A feasible target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightInput {
    /// Its name.
    pub target: Arc<str>,
    /// Its share.
    pub weight: u32,
    /// It has no replica, by order.
    pub asleep: bool,
}

/// An object that cannot be decoded: it has no route.
#[derive(Clone, Debug)]
pub struct Undecodable {
    /// UID of the object.
    pub uid: Uid,
    /// Generation of the spec.
    pub generation: i64,
    /// Version of the object, where it is a number.
    pub resource_version: Option<u64>,
}

#[derive(Debug)]
struct Entry {
    generation: i64,
    resource_version: Option<u64>,
    input: Option<WorkloadInput>,
    /// What the first version that could be read said.
    egress: Option<Egress>,
    /// A later version said something else: there is no route for this UID any more.
    contradicted: bool,
    /// Definitions of targets that a placement of the same generation named.
    decided: BTreeMap<Arc<str>, TargetKind>,
    state: Arc<WorkloadState>,
}

impl Entry {
    fn is_newer_than(&self, generation: i64, resource_version: Option<u64>) -> bool {
        let older_version = matches!((self.resource_version, resource_version), (Some(held), Some(new)) if new < held);
        generation < self.generation || older_version
    }

    fn remember_decided(&mut self) {
        let Some((input, placement)) = self
            .input
            .as_ref()
            .and_then(|input| Some((input, input.placement.as_ref()?)))
        else {
            return;
        };
        if placement.generation == input.generation {
            self.decided = input
                .targets
                .iter()
                .map(|target| (Arc::clone(&target.name), target.kind.clone()))
                .collect();
        }
    }
}

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
        }
    }

    /// Learns a workload. What is older than what is known, or deleted, is ignored; true when something changed.
    pub fn apply(&mut self, object: Result<WorkloadInput, Undecodable>) -> bool {
        let (uid, generation, resource_version) = match &object {
            Ok(input) => (&input.uid, input.generation, input.resource_version),
            Err(broken) => (&broken.uid, broken.generation, broken.resource_version),
        };
        if self.deleted.contains(uid) {
            return false;
        }
        let entry = self
            .entries
            .entry(Arc::clone(uid))
            .or_insert_with(|| Entry {
                generation,
                resource_version,
                input: None,
                egress: None,
                contradicted: false,
                decided: BTreeMap::new(),
                state: Arc::default(),
            });
        if entry.is_newer_than(generation, resource_version) {
            return false;
        }
        entry.generation = generation;
        entry.resource_version = resource_version.or(entry.resource_version);
        // Egress is immutable: an object that says another one than before is not the one that the key was given for.
        entry.contradicted |=
            matches!((entry.egress, &object), (Some(first), Ok(input)) if input.egress != first);
        entry.input = object.ok().filter(|_| !entry.contradicted);
        entry.egress = entry
            .egress
            .or(entry.input.as_ref().map(|input| input.egress));
        entry.remember_decided();
        true
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

    /// A complete list came: everything else is deleted.
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
        let targets = self.targets(entry, input, weights);
        Some(Workload {
            uid: Arc::clone(&input.uid),
            namespace: Arc::clone(&input.namespace),
            name: Arc::clone(&input.name),
            generation: input.generation,
            model: input.model.clone(),
            created: input.created,
            key: input.key,
            decision_id: input
                .placement
                .as_ref()
                .map_or_else(|| "".into(), |placement| Arc::clone(&placement.decision_id)),
            step: input
                .placement
                .as_ref()
                .map_or(0, |placement| placement.step),
            targets,
            reachable: self.endpoints.ready(&input.namespace, &input.uid),
            traffic: input.traffic.clone(),
            state: Arc::clone(&entry.state),
        })
    }

    /// What a weight gives to a model that its provider has just withdrawn goes to the target of the spec, where that may
    /// serve, until the operator has decided anew.
    fn targets(
        &mut self,
        entry: &Entry,
        input: &WorkloadInput,
        weights: &[WeightInput],
    ) -> Vec<RouteTarget> {
        let mut targets = Vec::with_capacity(weights.len());
        let mut left = Vec::new();
        for weight in weights {
            match self.target(entry, input, weight) {
                Some(target) => targets.push(target),
                None if names::substitute_of(&weight.target).is_some() => left.push(weight),
                None => {}
            }
        }
        for weight in left {
            let declared = names::declared_target(&weight.target);
            let mut listed = targets.iter_mut();
            if let Some(target) = listed.find(|target| *target.name == *declared) {
                target.weight = target.weight.saturating_add(weight.weight);
            }
        }
        targets
    }

    /// A weight becomes a target when the spec has a target of that name, or one that it is derived from.
    fn target(
        &mut self,
        entry: &Entry,
        input: &WorkloadInput,
        weight: &WeightInput,
    ) -> Option<RouteTarget> {
        let named = Named::of(input, &weight.target)?;
        let state = entry.state.target(&weight.target);
        let target = self.resolve(entry, input, &named, &state)?;
        let asleep = weight.asleep && target.location() == Location::Local;
        if asleep && state.has_answered() {
            state.fell_asleep();
        }
        Some(RouteTarget {
            name: Arc::clone(&weight.target),
            weight: weight.weight,
            asleep,
            target,
            state,
        })
    }

    #[cfg_attr(not(feature = "cloud"), allow(clippy::unused_self))]
    fn resolve(
        &mut self,
        entry: &Entry,
        input: &WorkloadInput,
        named: &Named<'_>,
        state: &TargetState,
    ) -> Option<Target> {
        let declared = named.declared;
        match &declared.kind {
            TargetKind::Local => {
                let key = TargetKey {
                    namespace: Arc::clone(&input.namespace),
                    uid: Arc::clone(&input.uid),
                    label: names::target_label(named.name).into(),
                };
                let addresses = self.endpoints.of(&key);
                Some(Target::Local(state.engines_at(&addresses)))
            }
            #[cfg(feature = "cloud")]
            TargetKind::External { provider, model } => {
                // The spec gave the name to another model since the gates were passed: wait for the next decision.
                let decided = entry.decided.get(&declared.name);
                if decided.is_some_and(|decided| named.differs_from(decided)) {
                    return None;
                }
                let model = match &named.substitute {
                    None => Arc::clone(model),
                    Some(other) if self.providers.offers(provider, other) => other.as_str().into(),
                    Some(_) => return None,
                };
                let proof = EgressAllowed::prove(input.egress)?;
                let handle = self.providers.resolve(provider)?;
                Some(Target::External(ExternalPermit::new(proof, handle, model)))
            }
            #[cfg(not(feature = "cloud"))]
            TargetKind::External { .. } => {
                let _ = entry;
                None
            }
        }
    }
}

//! What is known of one workload: its present state, and what may not come back.

use crate::policy::Egress;
use crate::routing::index::input::{Undecodable, WorkloadInput};
use crate::routing::workload_state::WorkloadState;
use std::sync::Arc;

/// What is known of one UID.
#[derive(Debug)]
pub(super) struct Entry {
    generation: i64,
    resource_version: Option<u64>,
    pub(super) input: Option<WorkloadInput>,
    /// What the first version that could be read said.
    egress: Option<Egress>,
    /// A later version said something else: there is no route for this UID any more.
    contradicted: bool,
    /// The newest generation, where a list brought an older one back.
    pub(super) floor: Option<Floor>,
    pub(super) state: Arc<WorkloadState>,
}

/// A generation that was known before the present one, which is older: what it closed stays closed.
#[derive(Debug)]
pub(super) struct Floor {
    generation: i64,
    /// `None` where it could not be read: it had no route at all.
    #[cfg_attr(not(feature = "cloud"), allow(dead_code))]
    pub(super) input: Option<WorkloadInput>,
}

impl Entry {
    pub(super) fn new(generation: i64, resource_version: Option<u64>) -> Self {
        Self {
            generation,
            resource_version,
            input: None,
            egress: None,
            contradicted: false,
            floor: None,
            state: Arc::default(),
        }
    }

    pub(super) fn is_newer_than(&self, generation: i64, resource_version: Option<u64>) -> bool {
        let older_version = matches!((self.resource_version, resource_version), (Some(held), Some(new)) if new < held);
        self.has_newer_generation(generation) || older_version
    }

    pub(super) fn has_newer_generation(&self, generation: i64) -> bool {
        generation < self.generation
    }

    /// Takes this version as the present one.
    pub(super) fn take(
        &mut self,
        object: Result<WorkloadInput, Undecodable>,
        (generation, resource_version): (i64, Option<u64>),
    ) {
        if self.has_newer_generation(generation) {
            let newest = Floor {
                generation: self.generation,
                input: self.input.take(),
            };
            self.floor.get_or_insert(newest);
        }
        self.floor = self
            .floor
            .take()
            .filter(|floor| generation < floor.generation);
        self.generation = generation;
        self.resource_version = resource_version.or(self.resource_version);
        // Egress is immutable: an object that says another one than before is not the one that the key was given for.
        self.contradicted |=
            matches!((self.egress, &object), (Some(first), Ok(input)) if input.egress != first);
        self.input = object.ok().filter(|_| !self.contradicted);
        self.egress = self
            .egress
            .or(self.input.as_ref().map(|input| input.egress));
    }
}

//! Replays of recorded bundles. The environment names their folder: they are no part of the repository.

mod fleets;
mod folder;
mod workloads;

//! Replays of recorded bundles. The environment names their folder: they are no part of the repository.

mod folder;
mod workloads;

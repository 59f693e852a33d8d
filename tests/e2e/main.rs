//! Scenarios on a real control plane: `make test-e2e`. They fail, never skip, when it cannot start.
//!
//! All but `schema` share one cluster with Weir on it; each leaves it as it found it.

mod children;
mod crash;
mod demo;
mod fleet;
mod identity;
mod look;
mod malformed;
mod market;
mod named;
mod outage;
mod recreate;
mod rollback;
mod schema;
mod upgrade;
mod world;

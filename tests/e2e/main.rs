//! Scenarios on a real control plane: `make test-e2e`. They fail, never skip, when it cannot start.
//!
//! All but `schema` take turns on clusters with Weir on them; each leaves its cluster as it found it.

mod band;
mod children;
mod crash;
mod demo;
mod engine_key;
mod fleet;
mod gates;
mod identity;
mod look;
mod malformed;
mod market;
mod named;
mod outage;
mod policies;
mod prices;
mod recreate;
mod rights;
mod rollback;
mod schema;
mod upgrade;
mod world;

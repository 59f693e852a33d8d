//! Fleets from outside: assignment of scarce tiers and hourly replicas on owned GPUs.

mod assignment;
mod exact;
mod generators;
mod hourly;

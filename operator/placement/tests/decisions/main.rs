//! Decisions from outside: scenarios, gates, governance, properties and explanations.

mod builders;
mod capacity;
mod demand;
mod explanations;
mod gates;
mod generators;
mod governance;
mod moves;
mod properties;
mod recorded;
mod scenarios;

//! Decisions from outside: scenarios, gates, governance, properties and explanations.

mod builders;
mod capacity;
mod competition;
mod costs;
mod demand;
mod explanations;
mod fleet_budget;
mod gates;
mod generators;
mod governance;
mod hourly;
mod identity;
mod large;
mod locality;
mod mix;
mod modes;
mod moves;
mod properties;
mod recorded;
mod scenarios;
mod scenarios_mixed;
mod substitutes;
mod switching;

//! Workloads on a simulated API server: placed, moved, failing, interrupted at every write, and quiet in between.

#[path = "workload/accelerators.rs"]
mod accelerators;
#[path = "workload/arrivals.rs"]
mod arrivals;
#[path = "workload/borders.rs"]
mod borders;
#[path = "workload/clocks.rs"]
mod clocks;
#[path = "workload/crashes.rs"]
mod crashes;
#[path = "workload/demand_records.rs"]
mod demand_records;
#[path = "workload/figures.rs"]
mod figures;
#[path = "workload/fixtures.rs"]
mod fixtures;
#[path = "workload/gates.rs"]
mod gates;
#[path = "workload/health.rs"]
mod health;
#[path = "workload/isolation.rs"]
mod isolation;
#[path = "workload/keys.rs"]
mod keys;
#[path = "workload/lives.rs"]
mod lives;
#[path = "workload/quiet.rs"]
mod quiet;
#[path = "workload/refusals.rs"]
mod refusals;
#[path = "workload/rivals.rs"]
mod rivals;
#[path = "workload/upgrades.rs"]
mod upgrades;
#[path = "workload/utilization.rs"]
mod utilization;

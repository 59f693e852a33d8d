//! The split of one workload: what holds for every workload, and what single cases must come to.

mod builders;
mod cases;
mod properties;
mod recorded;

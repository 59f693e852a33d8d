//! Where each workload of a fleet runs, and why. Pure: values in, values out; no clock, no I/O, no logging.
#![forbid(unsafe_code)]

mod band;
mod break_even;
mod candidate;
mod capacity;
mod choose;
mod cost;
mod decide;
mod demand;
mod explain;
pub mod fleet;
mod flips;
mod gates;
mod governance;
mod hours;
mod hurdle;
mod plan;
mod policy;
mod quantity;
mod record;
mod snapshot;
mod split;
mod units;
mod window;

pub use decide::{Changed, PriceKey, decide, decide_changed, devices_taken, whole_seconds};
pub use gates::may_stand_in;
pub use hours::{HOURS_KEPT, Hour, HourHistory, HourSums, LEAST_KNOWN_HOURS};
pub use jiff::Timestamp;
pub use plan::*;
pub use policy::*;
pub use quantity::*;
pub use snapshot::*;
pub use split::*;
pub use units::*;
pub use window::{MaintenanceWindow, Schedule, ScheduleError, WindowError, WindowState};

//! The time of day, for what is reported and signed. A leaf.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since the Unix epoch.
pub(crate) fn unix_now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Minutes since the Unix epoch.
pub(crate) fn unix_minute() -> u64 {
    unix_now().as_secs() / 60
}

//! Time that this thread had a core for, so that what else runs on the machine does not count.

use std::time::{Duration, Instant};

/// The system counts in steps of some milliseconds, so short work is repeated for this long.
const LEAST: Duration = Duration::from_millis(300);

/// Runs `work`, again and again while it is short, and says how long it takes in the mean.
pub fn mean<T>(work: impl Fn() -> T) -> (Duration, T) {
    let (mut total, mut result) = timed(&work);
    let mut runs = 1;
    while total < LEAST {
        let (elapsed, again) = timed(&work);
        (total, result, runs) = (total + elapsed, again, runs + 1);
    }
    (total / runs, result)
}

/// How long `work` takes, on the core where the system tells and by the clock where it does not.
fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let (clock, core) = (Instant::now(), on_core());
    let result = work();
    let elapsed = match (core, on_core()) {
        (Some(before), Some(after)) => after - before,
        _ => clock.elapsed(),
    };
    (elapsed, result)
}

/// First field of Linux' `schedstat`: nanoseconds on a core.
fn on_core() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

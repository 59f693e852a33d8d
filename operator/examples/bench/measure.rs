//! What the kernel says of this process and its machine.

use std::fs;

/// Ticks of the kernel's accounting in a second.
const TICKS: f64 = 100.0;

/// Name of the processor.
pub fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    name.map_or("a processor without a name".into(), |name| {
        name.trim_start_matches([' ', '\t', ':']).to_owned()
    })
}

/// Memory in use, in MiB.
pub fn resident_mib() -> u64 {
    mib("VmRSS:")
}

/// The most memory that was in use, in MiB.
pub fn peak_mib() -> u64 {
    mib("VmHWM:")
}

fn mib(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

/// Processor time from a moment on.
pub struct Load {
    used: f64,
}

impl Load {
    /// From now on.
    pub fn now() -> Self {
        Self { used: used() }
    }

    /// Seconds of one core.
    pub fn seconds(&self) -> f64 {
        used() - self.used
    }
}

fn used() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in brackets, may have spaces.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: f64 = ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    ticks / TICKS
}

//! Readings of the host's processors and memory from the proc file system.

use std::fs;
use std::path::{Path, PathBuf};

use super::source::{CpuValues, Reading, Source};

/// Larger than any genuine file read here.
const MAX_FILE_BYTES: usize = 8 << 20;

/// Reads `/proc/stat`, `/proc/meminfo`, `/proc/loadavg` and, once, `/proc/cpuinfo`.
pub struct CpuSource {
    root: PathBuf,
    before: Option<Ticks>,
    model: Option<String>,
}

/// Processor time since boot, in the kernel's ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    idle: u64,
    total: u64,
}

impl CpuSource {
    /// A source over the proc file system at `root`.
    pub fn new(root: &Path) -> Self {
        let root = root.to_owned();
        let model = read(&root, "cpuinfo").as_deref().and_then(model_name);
        Self {
            root,
            before: None,
            model,
        }
    }

    fn utilization(&mut self, now: Option<Ticks>) -> Option<f64> {
        let before = std::mem::replace(&mut self.before, now);
        let (before, now) = (before?, now?);
        let total = now.total.checked_sub(before.total).filter(|d| *d > 0)?;
        let idle = now.idle.checked_sub(before.idle)?;
        let busy = total.checked_sub(idle)?;
        Some(100.0 * busy as f64 / total as f64)
    }
}

impl Source for CpuSource {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn read(&mut self) -> Reading {
        let stat = read(&self.root, "stat");
        let memory = read(&self.root, "meminfo").unwrap_or_default();
        let load = read(&self.root, "loadavg");
        let values = CpuValues {
            model: self.model.clone(),
            logical_processors: stat.as_deref().and_then(processors),
            utilization_percent: self.utilization(stat.as_deref().and_then(ticks)),
            memory_total_bytes: memory_bytes(&memory, "MemTotal:"),
            memory_available_bytes: memory_bytes(&memory, "MemAvailable:"),
            load_1m: load.as_deref().and_then(first_number),
        };
        Reading {
            cpu: (values != CpuValues::default()).then_some(values),
            ..Reading::default()
        }
    }
}

fn read(root: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(root.join(name)).ok()?;
    (text.len() <= MAX_FILE_BYTES).then_some(text)
}

/// The `cpu` line: user nice system idle iowait irq softirq steal guest guest_nice; guests are part of user and nice.
fn ticks(stat: &str) -> Option<Ticks> {
    let line = stat.lines().find(|line| line.starts_with("cpu "))?;
    let fields = line
        .split_ascii_whitespace()
        .skip(1)
        .take(8)
        .map(|field| field.parse::<u64>().ok())
        .collect::<Option<Vec<_>>>()?;
    let idle = fields.get(3)?.checked_add(*fields.get(4).unwrap_or(&0))?;
    let total = fields.iter().try_fold(0u64, |sum, f| sum.checked_add(*f))?;
    Some(Ticks { idle, total })
}

fn processors(stat: &str) -> Option<u32> {
    let count = stat
        .lines()
        .filter_map(|line| line.strip_prefix("cpu"))
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        .count();
    u32::try_from(count).ok().filter(|count| *count > 0)
}

fn memory_bytes(meminfo: &str, key: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes = value.trim().strip_suffix("kB")?.trim().parse::<u64>();
    kibibytes.ok()?.checked_mul(1024)
}

fn first_number(loadavg: &str) -> Option<f64> {
    loadavg.split_ascii_whitespace().next()?.parse().ok()
}

fn model_name(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    let name = line.split_once(':')?.1.trim();
    (!name.is_empty()).then(|| name.chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn fixture(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn cpu(source: &mut CpuSource) -> CpuValues {
        source.read().cpu.unwrap()
    }

    #[test]
    fn utilization_is_the_difference_of_two_readings() {
        let dir = fixture(&[
            (
                "stat",
                "cpu  100 0 50 800 50 0 0 0 40 0\ncpu0 1 1 1 1\ncpu1 1 1 1 1\nintr 5\n",
            ),
            (
                "meminfo",
                "MemTotal:       16384 kB\nMemFree: 1 kB\nMemAvailable:    8192 kB\n",
            ),
            ("loadavg", "1.25 0.5 0.1 2/100 999\n"),
            ("cpuinfo", "processor\t: 0\nmodel name\t: Example 9000\n"),
        ]);
        let mut source = CpuSource::new(dir.path());
        let first = cpu(&mut source);
        assert_eq!(first.utilization_percent, None);
        assert_eq!(first.logical_processors, Some(2));
        assert_eq!(first.memory_total_bytes, Some(16 << 20));
        assert_eq!(first.memory_available_bytes, Some(8 << 20));
        assert_eq!(first.load_1m, Some(1.25));
        assert_eq!(first.model.as_deref(), Some("Example 9000"));
        fs::write(dir.path().join("stat"), "cpu  125 0 50 850 75 0 0 0 65 0\n").unwrap();
        assert_eq!(cpu(&mut source).utilization_percent, Some(25.0));
    }

    #[rstest]
    #[case::unchanged("cpu  100 0 50 800 50 0 0 0 0 0\n")]
    #[case::backwards("cpu  90 0 50 800 50 0 0 0 0 0\n")]
    #[case::idle_backwards("cpu  900 0 50 700 50 0 0 0 0 0\n")]
    #[case::garbage("cpu  x y z\n")]
    #[case::negative("cpu  -1 0 50 900 50 0 0 0\n")]
    #[case::empty("")]
    fn clock_that_stands_or_runs_backwards_gives_no_utilization(#[case] second: &str) {
        let dir = fixture(&[
            ("stat", "cpu  100 0 50 800 50 0 0 0 0 0\n"),
            ("meminfo", "MemTotal: 1 kB\n"),
        ]);
        let mut source = CpuSource::new(dir.path());
        source.read();
        fs::write(dir.path().join("stat"), second).unwrap();
        assert_eq!(cpu(&mut source).utilization_percent, None);
    }

    #[test]
    fn missing_files_give_absent_values() {
        let dir = fixture(&[]);
        assert_eq!(CpuSource::new(dir.path()).read(), Reading::default());
    }

    #[test]
    fn this_machine_can_be_read() {
        let mut source = CpuSource::new(Path::new("/proc"));
        let values = cpu(&mut source);
        let processors = std::thread::available_parallelism().unwrap().get();
        assert!(values.logical_processors.unwrap() as usize >= processors);
        let total = values.memory_total_bytes.unwrap();
        assert!(values.memory_available_bytes.unwrap() <= total);
    }
}

//! The fake of NVIDIA's management library, compiled for one test, and a tree of devices beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use weir_node_agent::telemetry::gpu::GpuSource;

const SOURCE: &str = include_str!("fake_nvml.c");

/// A library whose state the test sets.
pub struct FakeNvml {
    folder: TempDir,
}

impl FakeNvml {
    /// Compiled for this test alone: libraries of one name would be one to the loader.
    pub fn new(mode: &str) -> Self {
        let fake = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fake.set(mode);
        let source = fake.folder.path().join("fake_nvml.c");
        fs::write(&source, SOURCE).unwrap();
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(fake.library())
            .arg(format!("-DMODE_FILE=\"{}\"", fake.mode_file().display()))
            .arg(&source)
            .status()
            .expect("cc is on PATH");
        assert!(compiled.success(), "the fake does not compile");
        fake
    }

    /// From now on the library is in this state.
    pub fn set(&self, mode: &str) {
        let next = self.folder.path().join("next");
        fs::write(&next, mode).unwrap();
        fs::rename(next, self.mode_file()).unwrap();
    }

    pub fn library(&self) -> PathBuf {
        self.folder.path().join("libfake-nvml.so")
    }

    fn mode_file(&self) -> PathBuf {
        self.folder.path().join("mode")
    }

    /// A source over the library, on a machine with so many GPUs on its bus.
    pub fn source(&self, installed: u32) -> GpuSource {
        source(&self.library(), &bus(self.folder.path(), installed))
    }
}

/// The kernel's tree of a machine with so many GPUs.
pub fn bus(folder: &Path, installed: u32) -> PathBuf {
    let root = folder.join("sys");
    let devices = root.join("bus/pci/devices");
    fs::create_dir_all(&devices).unwrap();
    for index in 0..installed {
        let device = devices.join(format!("0000:0{index}:00.0"));
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("vendor"), "0x10de\n").unwrap();
        fs::write(device.join("class"), "0x030200\n").unwrap();
    }
    root
}

/// A source that tries a library anew at each reading.
pub fn source(library: &Path, sys_root: &Path) -> GpuSource {
    GpuSource::new(library, sys_root).retry_after(Duration::ZERO)
}

//! NVIDIA devices on the PCI bus, as the kernel shows them to every pod: they are there without a driver too.

use std::fs;
use std::path::Path;

const NVIDIA: &str = "0x10de";
/// Display and 3D controllers; the rest of a card (audio, USB, bridges) has other classes.
const CLASSES: [&str; 2] = ["0x0300", "0x0302"];
/// Drivers of devices that were given away to virtual machines.
const GIVEN_AWAY: [&str; 2] = ["vfio-pci", "pci-stub"];

/// How many there are; `None` when the kernel's tree cannot be read.
pub(crate) fn nvidia_devices(sys_root: &Path) -> Option<u32> {
    let bus = sys_root.join("bus");
    if !bus.is_dir() {
        return None;
    }
    let Ok(devices) = fs::read_dir(bus.join("pci/devices")) else {
        return Some(0);
    };
    let count = devices.flatten().filter(|device| is_gpu(&device.path()));
    u32::try_from(count.count()).ok()
}

fn is_gpu(device: &Path) -> bool {
    let says = |file: &str| fs::read_to_string(device.join(file)).unwrap_or_default();
    let class = says("class");
    let driver = fs::read_link(device.join("driver")).ok();
    let driver = driver.as_ref().and_then(|path| path.file_name()?.to_str());
    says("vendor").trim() == NVIDIA
        && CLASSES.iter().any(|of| class.starts_with(of))
        && !driver.is_some_and(|driver| GIVEN_AWAY.contains(&driver))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn device(root: &Path, name: &str, vendor: &str, class: &str) {
        let folder = root.join("bus/pci/devices").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("vendor"), format!("{vendor}\n")).unwrap();
        fs::write(folder.join("class"), format!("{class}\n")).unwrap();
    }

    #[test]
    fn only_gpus_that_the_node_itself_can_use_are_counted() {
        let root = tempfile::tempdir().unwrap();
        device(root.path(), "0000:01:00.0", "0x10de", "0x030200");
        device(root.path(), "0000:02:00.0", "0x10de", "0x030000");
        device(root.path(), "0000:02:00.1", "0x10de", "0x040300");
        device(root.path(), "0000:03:00.0", "0x8086", "0x030000");
        device(root.path(), "0000:04:00.0", "0x10de", "0x030200");
        let driver = root.path().join("bus/pci/devices/0000:04:00.0/driver");
        symlink("../../../../bus/pci/drivers/vfio-pci", driver).unwrap();
        assert_eq!(nvidia_devices(root.path()), Some(2));
    }

    #[test]
    fn a_machine_without_a_pci_bus_has_none_and_a_tree_that_is_not_there_says_nothing() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(nvidia_devices(root.path()), None);
        fs::create_dir_all(root.path().join("bus")).unwrap();
        assert_eq!(nvidia_devices(root.path()), Some(0));
    }
}

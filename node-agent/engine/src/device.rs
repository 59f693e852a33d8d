//! The devices of this machine. No other module outside [`crate::backend`] names one.

pub use crate::backend::Device;
use crate::backend::cpu::device::CpuDevice;

/// Every device, the best first; a processor computes with so many threads.
pub fn all(threads: usize) -> Vec<Box<dyn Device>> {
    vec![Box::new(CpuDevice::new(threads))]
}

/// The best device.
pub fn best(threads: usize) -> Box<dyn Device> {
    all(threads).swap_remove(0)
}

/// Every device in each way in which it can compute: a processor with each set of instructions that it has.
pub fn variants(threads: usize) -> Vec<Box<dyn Device>> {
    CpuDevice::variants(threads)
        .map(|device| Box::new(device) as Box<dyn Device>)
        .collect()
}

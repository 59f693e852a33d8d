//! Why accelerators cannot be measured, in typed reasons. Pure.

use nvml_wrapper::error::NvmlError;
use weir_crds::node::{Measurement, MeasurementState};

/// Why accelerators, or one of them, cannot be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmeasured {
    /// The reason, which also says what may still be relied on.
    pub reason: Reason,
    /// The reason in words.
    pub message: String,
}

/// A reason why accelerators cannot be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// There is no sign of an accelerator.
    NoAccelerator,
    /// The management library is not in the agent's pod.
    LibraryMissing,
    /// The library is there, and cannot be loaded or lacks functions.
    LibraryUnusable,
    /// The pod may not ask the driver.
    NoPermission,
    /// The library answers and shows no device, although there are some.
    DevicesNotVisible,
    /// The driver does not tell how busy the device is, as for everything that is split into MIG slices.
    UtilizationUnsupported,
    /// The driver gave a utilization that cannot be.
    ImplausibleValue,
    /// The library is of another version than the driver in the kernel.
    DriverLibraryMismatch,
    /// The driver is not in the kernel.
    DriverNotLoaded,
    /// The device fell off the bus, or the driver no longer lists it.
    DeviceLost,
    /// The device does nothing before it is reset.
    ResetRequired,
    /// The driver does not answer at all.
    NotAnswering,
    /// The driver or the library failed in another way.
    DriverFailed,
}

impl Reason {
    /// As reports, objects and metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoAccelerator => "NoAccelerator",
            Self::LibraryMissing => "LibraryMissing",
            Self::LibraryUnusable => "LibraryUnusable",
            Self::NoPermission => "NoPermission",
            Self::DevicesNotVisible => "DevicesNotVisible",
            Self::UtilizationUnsupported => "UtilizationUnsupported",
            Self::ImplausibleValue => "ImplausibleValue",
            Self::DriverLibraryMismatch => "DriverLibraryMismatch",
            Self::DriverNotLoaded => "DriverNotLoaded",
            Self::DeviceLost => "DeviceLost",
            Self::ResetRequired => "ResetRequired",
            Self::NotAnswering => "NotAnswering",
            Self::DriverFailed => "DriverFailed",
        }
    }

    /// What may still be relied on.
    pub fn state(self) -> MeasurementState {
        match self {
            Self::NoAccelerator => MeasurementState::Absent,
            Self::LibraryMissing
            | Self::LibraryUnusable
            | Self::NoPermission
            | Self::DevicesNotVisible
            | Self::UtilizationUnsupported
            | Self::ImplausibleValue => MeasurementState::NotMeasurable,
            Self::DriverLibraryMismatch
            | Self::DriverNotLoaded
            | Self::DeviceLost
            | Self::ResetRequired
            | Self::NotAnswering
            | Self::DriverFailed => MeasurementState::Lost,
        }
    }
}

impl Unmeasured {
    /// With these words.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    /// The driver has not answered within the sampler's deadline.
    pub fn not_answering() -> Self {
        Self::new(
            Reason::NotAnswering,
            "the driver has not answered in time; see the node's kernel log for Xid errors",
        )
    }

    /// The library could not be loaded; `installed` devices are on the bus, where that is known.
    pub fn of_load(error: &NvmlError, installed: Option<u32>) -> Self {
        let missing = matches!(
            error,
            NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound
        );
        if installed == Some(0) && (missing || matches!(error, NvmlError::DriverNotLoaded)) {
            return Self::none();
        }
        let there_are = match installed {
            Some(installed) => format!("{installed} NVIDIA devices are on the PCI bus"),
            None => "the PCI bus cannot be read".to_owned(),
        };
        if missing {
            let message = format!(
                "{there_are}, and the management library is not in the agent's pod: set the chart's values nodeAgent.runtimeClassName and nodeAgent.acceleratorLabel, and let the container toolkit give unprivileged pods all devices ({error})"
            );
            return Self::new(Reason::LibraryMissing, message);
        }
        Self::of_error(error)
    }

    /// A node without accelerators.
    pub fn none() -> Self {
        Self::new(
            Reason::NoAccelerator,
            "there is no NVIDIA device on the PCI bus",
        )
    }

    /// The driver answered with an error.
    pub fn of_error(error: &NvmlError) -> Self {
        match error {
            NvmlError::LibRmVersionMismatch => Self::new(
                Reason::DriverLibraryMismatch,
                "driver and library are of different versions, so that no new process can use the GPUs: restart the node, or load the driver anew",
            ),
            NvmlError::DriverNotLoaded => Self::new(
                Reason::DriverNotLoaded,
                "the NVIDIA driver is not loaded into the node's kernel",
            ),
            NvmlError::GpuLost => Self::new(
                Reason::DeviceLost,
                "the device fell off the bus: restart the node; if it stays lost, have the hardware looked at",
            ),
            NvmlError::ResetRequired => Self::new(
                Reason::ResetRequired,
                "the device must be reset before it can be used again",
            ),
            NvmlError::NoPermission => Self::new(
                Reason::NoPermission,
                "the agent's pod may not ask the driver for this",
            ),
            NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound => Self::new(
                Reason::LibraryUnusable,
                format!("the management library lacks a function: {error}"),
            ),
            error => Self::new(Reason::DriverFailed, format!("the driver answers: {error}")),
        }
    }

    /// Why the utilization of a device could not be read.
    pub fn of_utilization(error: &NvmlError, split: bool) -> Self {
        let unsupported = match error {
            NvmlError::NotSupported => true,
            // What some drivers answer for slices.
            NvmlError::InvalidArg => split,
            _ => false,
        };
        if !unsupported {
            return Self::of_error(error);
        }
        let message = if split {
            "the driver gives no utilization in MIG mode"
        } else {
            "the driver gives no utilization of this device"
        };
        Self::new(Reason::UtilizationUnsupported, message)
    }
}

impl From<&Unmeasured> for Measurement {
    fn from(unmeasured: &Unmeasured) -> Self {
        Self {
            state: unmeasured.reason.state(),
            reason: Some(unmeasured.reason.as_str().to_owned()),
            message: Some(unmeasured.message.chars().take(512).collect()),
        }
    }
}

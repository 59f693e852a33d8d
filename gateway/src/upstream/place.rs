//! Where a target is, and why a request is there.

/// Where a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Location {
    /// In this cluster.
    Local,
    /// At a provider.
    External,
}

impl Location {
    /// As the response header spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "Local",
            Self::External => "External",
        }
    }
}

/// Why a request is at the target where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// The weights say so.
    Placement,
    /// The local queue is too long.
    Spill,
    /// Another target failed.
    Failover,
    /// The local target is starting.
    ColdStart,
}

impl Reason {
    /// Every reason, in the order of `self as usize`.
    pub(crate) const ALL: [Self; 4] = [
        Self::Placement,
        Self::Spill,
        Self::Failover,
        Self::ColdStart,
    ];

    /// As the response header spells it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Placement => "placement",
            Self::Spill => "spill",
            Self::Failover => "failover",
            Self::ColdStart => "cold-start",
        }
    }
}

//! How work lies on the hours.

use serde::{Deserialize, Serialize};

use crate::units::LoadPercent;

/// The load of the hours that work comes in: the work is cut into twenty equal shares, that of the quietest hours first, and
/// for the middle of each share stands the work of its hour over that of the mean hour, in percent. Counted by work and not
/// by hours, so that hours without traffic, of which a bursty workload has most, take no place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<LoadPercent>", into = "Vec<LoadPercent>")]
pub struct LoadCurve([LoadPercent; Self::SHARES]);

impl LoadCurve {
    /// Shares that the work is cut into.
    pub const SHARES: usize = 20;

    /// Errors unless there are [`LoadCurve::SHARES`] loads, none below the one before.
    pub fn new(loads: &[LoadPercent]) -> Result<Self, &'static str> {
        let loads = loads.try_into().map_err(|_| "not 20 loads")?;
        let curve = Self(loads);
        let rises = curve.0.is_sorted();
        rises.then_some(curve).ok_or("loads that do not rise")
    }

    /// The shares' loads, the least first.
    pub fn loads(&self) -> &[LoadPercent] {
        &self.0
    }

    /// Whether all loads together differ from the recorded ones by no more than so many percent of these.
    pub(crate) fn is_within(&self, percent: u64, recorded: &Self) -> bool {
        let pairs = self.0.iter().zip(&recorded.0);
        let difference: u64 = pairs.map(|(new, old)| new.get().abs_diff(old.get())).sum();
        let whole: u64 = recorded.0.iter().map(|load| load.get()).sum();
        difference * 100 <= whole * percent
    }
}

impl TryFrom<Vec<LoadPercent>> for LoadCurve {
    type Error = &'static str;
    fn try_from(loads: Vec<LoadPercent>) -> Result<Self, Self::Error> {
        Self::new(&loads)
    }
}

impl From<LoadCurve> for Vec<LoadPercent> {
    fn from(curve: LoadCurve) -> Self {
        curve.0.to_vec()
    }
}

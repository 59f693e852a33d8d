//! Where tiers stand in a policy's utilization band. Two thresholds and a window, as a switch with hysteresis has them: what
//! is between the thresholds, and what lasts for less than the window, changes nothing, and neither does what is unknown.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::governance::later;
use crate::plan::TierBand;
use crate::policy::UtilizationBand;
use crate::snapshot::{FleetSnapshot, TargetKind, WorkloadInput};
use crate::units::Percent;

/// Where the tiers of a workload's targets stand now, after where they stood; of substitutes those in use.
pub(crate) fn bands(
    band: Option<UtilizationBand>,
    workload: &WorkloadInput,
    snapshot: &FleetSnapshot,
    before: Option<&BTreeMap<String, TierBand>>,
    now: Timestamp,
) -> BTreeMap<String, TierBand> {
    let Some(band) = band else {
        return BTreeMap::new();
    };
    let current = workload.current.as_ref();
    let declared = |name: &str| workload.targets.iter().any(|target| target.name == name);
    let in_use = |name: &str| current.is_some_and(|current| current.uses(name));
    let places = workload.places();
    let places = places.filter(|target| declared(&target.name) || in_use(&target.name));
    let tiers = places.flat_map(|target| match &target.kind {
        TargetKind::Local(local) => local.tiers.as_slice(),
        TargetKind::External(_) | TargetKind::Unresolved { .. } => &[],
    });
    let stands = tiers.map(|tier| {
        let before = before.and_then(|before| before.get(tier)).copied();
        let reading = snapshot.tiers.get(tier).and_then(|state| state.occupancy);
        let next = next(band, before.unwrap_or_default(), reading, now);
        (tier.clone(), next)
    });
    stands
        .filter(|(_, next)| *next != TierBand::default())
        .collect()
}

fn next(
    band: UtilizationBand,
    before: TierBand,
    reading: Option<Percent>,
    now: Timestamp,
) -> TierBand {
    let beyond = reading.is_some_and(|reading| {
        if before.busy {
            reading <= band.pull_back_below
        } else {
            reading >= band.spill_above
        }
    });
    if !beyond {
        return TierBand {
            beyond_since: None,
            ..before
        };
    }
    // What was seen later than now was seen by another clock.
    let since = before
        .beyond_since
        .filter(|since| *since <= now)
        .unwrap_or(now);
    if now < later(since, band.window) {
        return TierBand {
            beyond_since: Some(since),
            ..before
        };
    }
    TierBand {
        busy: !before.busy,
        beyond_since: None,
    }
}

/// When time alone changes where one of the tiers stands.
pub(crate) fn due(
    band: Option<UtilizationBand>,
    bands: &BTreeMap<String, TierBand>,
) -> Option<Timestamp> {
    let band = band?;
    let since = bands.values().filter_map(|stands| stands.beyond_since);
    since.map(|since| later(since, band.window)).min()
}

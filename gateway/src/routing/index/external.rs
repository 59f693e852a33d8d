//! Whether a target at a provider gets a route. The operator's decision is not enough: what it was made for and what the
//! provider's terms are is compared again here, so that tightening either side acts at once, also without an operator.

use super::entry::Entry;
use super::input::{DecidedFor, WeightInput, WorkloadInput};
use super::named::Named;
use crate::external::permit::{EgressAllowed, ExternalPermit};
use crate::external::provider::Providers;
use crate::routing::closed::Closed;
use std::sync::Arc;

/// What asks for a route: a weight of a workload, and what it names.
pub(super) struct Claim<'a> {
    pub(super) entry: &'a Entry,
    pub(super) input: &'a WorkloadInput,
    pub(super) weight: &'a WeightInput,
    pub(super) named: &'a Named<'a>,
}

/// The permit, or why there is none. `no_contact` with the API server closes every target at a
/// provider.
pub(super) fn permit(
    providers: &mut Providers,
    no_contact: bool,
    claim: Claim<'_>,
) -> Result<ExternalPermit, Closed> {
    let Claim {
        entry,
        input,
        weight,
        named,
    } = claim;
    let wanted = named.external().ok_or(Closed::NotServed)?;
    let proof = EgressAllowed::prove(input.egress).ok_or(Closed::NotServed)?;
    if no_contact {
        return Err(Closed::NoContact);
    }
    if !was_decided_for(input, weight, &wanted) {
        return Err(Closed::Undecided);
    }
    if !floor_allows(entry, named.name, &wanted) {
        return Err(Closed::ByNewerSpec);
    }
    let newest = entry.floor.as_ref().and_then(|floor| floor.input.as_ref());
    for spec in std::iter::once(input).chain(newest) {
        let breach = providers.breach(&wanted.provider, &spec.namespace, &spec.data);
        breach.map_or(Ok(()), |breach| Err(Closed::Terms(breach)))?;
    }
    if named.substitute.is_some() && !providers.offers(&wanted.provider, &wanted.model) {
        return Err(Closed::Unusable);
    }
    let handle = providers.resolve(&wanted.provider);
    let handle = handle.ok_or(Closed::Unusable)?;
    Ok(ExternalPermit::new(
        proof,
        handle,
        Arc::clone(&wanted.model),
    ))
}

/// The placement says what it was decided for. Where an operator of an earlier release wrote it, it was decided for the
/// spec of its own generation and no other.
fn was_decided_for(input: &WorkloadInput, weight: &WeightInput, wanted: &DecidedFor) -> bool {
    match &weight.decided_for {
        Some(decided_for) => decided_for == wanted,
        None => input
            .placement
            .as_ref()
            .is_some_and(|placement| placement.generation == input.generation),
    }
}

/// Where an older generation came back, the newest one must have had the same target.
fn floor_allows(entry: &Entry, name: &str, wanted: &DecidedFor) -> bool {
    let Some(floor) = &entry.floor else {
        return true;
    };
    let newest = floor.input.as_ref();
    let named = newest.and_then(|newest| Named::of(newest, name));
    named.and_then(|named| named.external()).as_ref() == Some(wanted)
}

//! What the weights of a placement name: targets of the spec, and models that stand in there.

use weir_crds::names;

#[cfg(feature = "cloud")]
use super::TargetKind;
use super::{TargetInput, WorkloadInput};

/// What a weight names.
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    /// The target of the spec of that name, or the one that the name is derived from.
    pub(super) declared: &'a TargetInput,
    /// The model that stands in there. Where it is stays the declared target's, so a name cannot make a target external.
    #[cfg_attr(not(feature = "cloud"), allow(dead_code))]
    pub(super) substitute: Option<String>,
}

impl<'a> Named<'a> {
    pub(super) fn of(input: &'a WorkloadInput, name: &'a str) -> Option<Self> {
        let find = |name: &str| input.targets.iter().find(|target| *target.name == *name);
        let (declared, substitute) = match find(name) {
            Some(declared) => (declared, None),
            None => {
                let (declared, model) = names::substitute_of(name)?;
                (find(declared)?, Some(model))
            }
        };
        Some(Self {
            name,
            declared,
            substitute,
        })
    }

    /// Whether it is something else than what passed the gates. A substitute takes from its target no more than the provider.
    #[cfg(feature = "cloud")]
    pub(super) fn differs_from(&self, decided: &TargetKind) -> bool {
        match (decided, &self.declared.kind) {
            (
                TargetKind::External { provider: a, .. },
                TargetKind::External { provider: b, .. },
            ) if self.substitute.is_some() => a != b,
            (decided, now) => decided != now,
        }
    }
}

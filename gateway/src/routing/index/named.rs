//! What the weights of a placement name: targets of the spec, and models that stand in there.

use weir_crds::names;

#[cfg(feature = "cloud")]
use crate::routing::index::input::{DecidedFor, TargetKind};
use crate::routing::index::input::{TargetInput, WorkloadInput};

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

    /// The model of a provider that it is by the spec; `None` in the cluster.
    #[cfg(feature = "cloud")]
    pub(super) fn external(&self) -> Option<DecidedFor> {
        let TargetKind::External { provider, model } = &self.declared.kind else {
            return None;
        };
        let model = match &self.substitute {
            Some(other) => other.as_str().into(),
            None => std::sync::Arc::clone(model),
        };
        Some(DecidedFor {
            provider: std::sync::Arc::clone(provider),
            model,
        })
    }
}

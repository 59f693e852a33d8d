//! Substitutes: targets that are derived from one of a spec by putting another model in its place.

use crate::names;
use crate::workload::{InferenceWorkloadSpec, Target};

impl InferenceWorkloadSpec {
    /// The target of that name: one of the spec, or a substitute derived from one, with its own name and model.
    pub fn target(&self, name: &str) -> Option<Target> {
        let of = |name: &str| self.targets.iter().find(|target| target.name == name);
        if let Some(declared) = of(name) {
            return Some(declared.clone());
        }
        let (declared, model) = names::substitute_of(name)?;
        of(declared)?.serving(&model)
    }
}

impl Target {
    /// The substitute in which `model` stands in here; `None` where its name would be too long.
    pub fn serving(&self, model: &str) -> Option<Self> {
        let mut substitute = self.clone();
        substitute.name = names::substitute_name(&self.name, model)?;
        if let Some(local) = &mut substitute.local {
            model.clone_into(&mut local.model_ref.name);
        }
        if let Some(external) = &mut substitute.external {
            model.clone_into(&mut external.model);
        }
        Some(substitute)
    }

    /// The model that it names: a ModelProfile, or a model of its provider.
    pub fn model(&self) -> Option<&str> {
        let local = self.local.as_ref().map(|local| &local.model_ref.name);
        let external = self.external.as_ref().map(|external| &external.model);
        local.or(external).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec() -> InferenceWorkloadSpec {
        serde_json::from_value(json!({"targets": [
            {"name": "here", "local": {"modelRef": {"name": "small"}, "tiers": ["t"]}},
            {"name": "cloud", "external": {"providerRef": {"name": "acme"}, "model": "mini"}},
        ]}))
        .expect("a spec")
    }

    #[test]
    fn a_substitute_is_its_target_with_another_model() {
        let spec = spec();
        for (name, model) in [
            ("here", "small"),
            ("here@large", "large"),
            ("cloud@a/b", "a/b"),
        ] {
            let target = spec.target(name).expect("a target");
            assert_eq!((target.name.as_str(), target.model()), (name, Some(model)));
        }
        let external = spec.target("cloud@a/b").and_then(|target| target.external);
        assert_eq!(external.map(|of| of.provider_ref.name), Some("acme".into()));
        for name in ["there", "there@large", "here@", "here@%41"] {
            assert_eq!(spec.target(name), None, "{name}");
        }
    }
}

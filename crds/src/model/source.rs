//! Where the weights of a model are.

use crate::model::ModelProfileSpec;

/// A claim and a path in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimPath<'a> {
    /// Name of the PersistentVolumeClaim in the workload's namespace.
    pub claim: &'a str,
    /// Path of the file in the volume, without a slash at its start.
    pub path: &'a str,
}

/// Why a source cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("source {0:?} is not pvc://CLAIM/PATH")]
pub struct SourceError(pub String);

impl ModelProfileSpec {
    /// The claim and the path that `pvc://CLAIM/PATH` names.
    ///
    /// # Errors
    /// For every other scheme, and for paths that leave the volume.
    pub fn location(&self) -> Result<ClaimPath<'_>, SourceError> {
        read(&self.source).ok_or_else(|| SourceError(self.source.clone()))
    }

    /// The claim that the weights are on; `None` for a source that cannot be used.
    pub fn claim(&self) -> Option<&str> {
        read(&self.source).map(|location| location.claim)
    }
}

fn read(source: &str) -> Option<ClaimPath<'_>> {
    let (claim, path) = source.strip_prefix("pvc://")?.split_once('/')?;
    let leaves = path.split('/').any(|part| part.is_empty() || part == "..");
    (!claim.is_empty() && !leaves).then_some(ClaimPath { claim, path })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn profile(source: &str) -> ModelProfileSpec {
        let spec = json!({"source": source, "sha256": "0".repeat(64), "contextTokens": 1, "memory": "1Mi"});
        serde_json::from_value(spec).expect("a spec")
    }

    #[test]
    fn a_claim_and_a_path_are_read() {
        let profile = profile("pvc://models/a/b.gguf");
        let expected = ClaimPath {
            claim: "models",
            path: "a/b.gguf",
        };
        assert_eq!(profile.location(), Ok(expected));
        assert_eq!(profile.claim(), Some("models"));
    }

    #[rstest]
    #[case("hf://org/model")]
    #[case("pvc://models")]
    #[case("pvc:///a")]
    #[case("pvc://models/../etc/passwd")]
    #[case("pvc://models/a//b")]
    fn other_sources_are_refused(#[case] source: &str) {
        let profile = profile(source);
        assert_eq!(profile.location(), Err(SourceError(source.into())));
        assert_eq!(profile.claim(), None);
    }
}

//! Reads objects from YAML and JSON: files of several documents, folders, standard input.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{CustomResourceExt, ResourceExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_crds::names::{GROUP, VERSION};
use weir_schema::Schema;

use crate::objects::Objects;

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder without manifests.
    #[error("{path} has no .yaml, .yml or .json file", path = path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// It is neither YAML nor JSON.
    #[error("{path} is no YAML: {reason}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// An object that the API server would refuse.
    #[error("{kind} {name} in {path}: {reason}", path = path.display())]
    Object {
        /// The file.
        path: PathBuf,
        /// Kind of the object.
        kind: String,
        /// Name of the object.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The text of a file, or of standard input for `-`.
///
/// # Errors
/// When it cannot be read.
pub fn text(path: &Path) -> Result<String, FileError> {
    let failed = |source| FileError::Read {
        path: path.to_owned(),
        source,
    };
    if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map_err(failed)?;
        return Ok(text);
    }
    fs::read_to_string(path).map_err(failed)
}

/// Reads every object of Weir in the files; kinds of others are passed over.
///
/// # Errors
/// When a file cannot be read, or an object in it would be refused by the API server.
pub fn objects(paths: &[PathBuf]) -> Result<Objects, FileError> {
    let mut objects = Objects::default();
    for path in paths {
        for file in manifests(path)? {
            let text = text(&file)?;
            for document in documents(&file, &text)? {
                Reading { path: &file }.add(&mut objects, document)?;
            }
        }
    }
    Ok(objects)
}

fn manifests(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |source| FileError::Read {
        path: path.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let extension = file.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("yaml" | "yml" | "json")) && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(FileError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(files)
}

fn documents(path: &Path, text: &str) -> Result<Vec<Value>, FileError> {
    let read = |document| {
        Value::deserialize(document).map_err(|error: serde_yaml_ng::Error| FileError::Syntax {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    };
    serde_yaml_ng::Deserializer::from_str(text)
        .map(read)
        .collect()
}

struct Reading<'a> {
    path: &'a Path,
}

impl Reading<'_> {
    fn add(&self, objects: &mut Objects, document: Value) -> Result<(), FileError> {
        let text = |field: &str| document[field].as_str().unwrap_or_default();
        let (version, kind) = (text("apiVersion").to_owned(), text("kind").to_owned());
        if kind == "List" || kind.ends_with("List") && document["items"].is_array() {
            let Value::Array(items) = document["items"].clone() else {
                return Ok(());
            };
            return items
                .into_iter()
                .try_for_each(|item| self.add(objects, item));
        }
        if version == "v1" && kind == "ConfigMap" {
            let map = ConfigMap::deserialize(&document)
                .map_err(|error: serde_json::Error| self.refused(&document, error.to_string()))?;
            objects.config_maps.insert(map.name_any(), map);
            return Ok(());
        }
        if !version.starts_with(&format!("{GROUP}/")) {
            return Ok(());
        }
        if version != format!("{GROUP}/{VERSION}") {
            let reason = format!("apiVersion {version} is not known: this plugin reads {VERSION}");
            return Err(self.refused(&document, reason));
        }
        match kind.as_str() {
            "InferenceWorkload" => {
                let workload = self.typed(&document)?;
                objects.workloads.push(workload);
                Ok(())
            }
            "InferencePlacementPolicy" => self.put(&mut objects.policies, document),
            "ModelProfile" => self.put(&mut objects.models, document),
            "InferenceProvider" => self.put(&mut objects.providers, document),
            "InferencePriceBook" => self.put(&mut objects.price_books, document),
            "GPUTier" => self.put(&mut objects.tiers, document),
            _ => Ok(()),
        }
    }

    fn put<K>(&self, into: &mut BTreeMap<String, K>, document: Value) -> Result<(), FileError>
    where
        K: DeserializeOwned + Serialize + ResourceExt + CustomResourceExt,
    {
        let object: K = self.typed(&document)?;
        match into.insert(object.name_any(), object) {
            None => Ok(()),
            Some(_) => Err(self.refused(&document, "it was read before".to_owned())),
        }
    }

    fn typed<K>(&self, document: &Value) -> Result<K, FileError>
    where
        K: DeserializeOwned + Serialize + ResourceExt + CustomResourceExt,
    {
        let refused = would_refuse(document);
        if !refused.is_empty() {
            return Err(self.refused(document, refused.join("; ")));
        }
        let object = K::deserialize(document)
            .map_err(|error: serde_json::Error| self.refused(document, error.to_string()))?;
        if object.meta().name.is_none() {
            return Err(self.refused(document, "metadata.name is missing".to_owned()));
        }
        Ok(object)
    }

    fn refused(&self, document: &Value, reason: String) -> FileError {
        let name = document["metadata"]["name"]
            .as_str()
            .unwrap_or("without name");
        FileError::Object {
            path: self.path.to_owned(),
            kind: document["kind"].as_str().unwrap_or_default().to_owned(),
            name: name.to_owned(),
            reason,
        }
    }
}

/// Most faults of an object that are told at once.
const MOST_FAULTS: usize = 8;

/// What the API server would refuse of an object by its kind's schema: unknown fields, types, bounds, required fields,
/// repeated items and rules. Its status is not asked about: the operator writes that.
fn would_refuse(document: &Value) -> Vec<String> {
    let definitions = weir_crds::all();
    let kind = document["kind"].as_str().unwrap_or_default();
    let definition = definitions.iter().find(|crd| crd.spec.names.kind == kind);
    let Some(schema) = definition.and_then(|crd| Schema::of(crd, VERSION)) else {
        return Vec::new();
    };
    let mut applied = document.clone();
    if let Some(fields) = applied.as_object_mut() {
        fields.remove("status");
    }
    let undeclared = schema.undeclared(&applied).into_iter();
    let mut faults: Vec<String> = undeclared
        .map(|field| format!("unknown field {field}"))
        .collect();
    schema.decode(&mut applied);
    let refused = schema.refused(&applied, None).into_iter();
    // Rules that could not be checked yet are no fault of the object's.
    let told = refused.filter(|cause| !cause.message.contains("rules were not checked"));
    faults.extend(told.map(|cause| cause.to_string().replace("Invalid value: ", "")));
    faults.truncate(MOST_FAULTS);
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn read(text: &str) -> Result<Objects, FileError> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("objects.yaml");
        fs::write(&file, text).expect("writes");
        objects(&[file])
    }

    const WORKLOAD: &str = "
apiVersion: inference.weir.dev/v1alpha1
kind: InferenceWorkload
metadata: {name: chat}
spec:
  targets:
  - name: here
    local: {modelRef: {name: m}, tiers: [t]}
";

    #[test]
    fn documents_lists_and_foreign_kinds_are_read() {
        let list = "---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: inference.weir.dev/v1alpha1, kind: InferencePlacementPolicy, metadata: {name: p}, spec: {}}\n";
        let foreign = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n";
        let objects = read(&format!("{WORKLOAD}{list}{foreign}---\n")).expect("readable");
        assert_eq!(objects.workloads.len(), 1);
        assert!(objects.policies.contains_key("p"));
        let absent = objects.absent(&objects.workloads[0]);
        let names: Vec<_> = absent
            .iter()
            .map(|each| (each.kind(), each.name()))
            .collect();
        assert_eq!(names, [("ModelProfile", "m"), ("GPUTier", "t")]);
    }

    #[rstest]
    #[case(
        "local: {modelRef: {name: m}, tiers: [t], replicas: 3}",
        "spec.targets[0].local.replicas"
    )]
    #[case("local: {modelRef: {name: m}}", "tiers")]
    #[case(
        "external: {providerRef: {name: p}, model: x}",
        "no target may be external"
    )]
    fn what_the_api_server_would_refuse_is_refused_with_its_place(
        #[case] local: &str,
        #[case] named: &str,
    ) {
        let text = WORKLOAD.replace("local: {modelRef: {name: m}, tiers: [t]}", local);
        let error = read(&text).expect_err("is refused").to_string();
        assert!(error.contains("InferenceWorkload chat"), "{error}");
        assert!(error.contains(named), "{error}");
    }

    #[rstest]
    #[case::twice(
        "targets:",
        "targets:\n  - name: here\n    local: {modelRef: {name: m}, tiers: [t]}",
        "spec.targets[1]: Duplicate value"
    )]
    #[case::negative(
        "targets:",
        "demand: {requestsPerMonth: -5}\n  targets:",
        "spec.demand.requestsPerMonth"
    )]
    #[case::too_long("{name: m}", "{name: ''}", "spec.targets[0].local.modelRef.name")]
    fn the_whole_schema_is_asked(#[case] from: &str, #[case] to: &str, #[case] named: &str) {
        let error = read(&WORKLOAD.replace(from, to))
            .expect_err("is refused")
            .to_string();
        assert!(error.contains(named), "{error}");
        assert!(!error.contains("18446744073709551615"), "{error}");
    }

    #[test]
    fn a_workload_without_targets_is_refused() {
        let at = WORKLOAD.find("  targets:").expect("targets");
        let error = read(&format!("{}  targets: []\n", &WORKLOAD[..at])).expect_err("is refused");
        assert!(error.to_string().contains("spec.targets"), "{error}");
    }

    #[test]
    fn an_object_as_the_cluster_has_it_is_read_with_its_status() {
        let status = "status: {observedGeneration: 1, conditions: [], ofALaterVersion: true}\n";
        assert!(read(&format!("{WORKLOAD}{status}")).is_ok());
    }

    #[test]
    fn another_version_and_a_repeated_object_are_refused() {
        assert!(read(&WORKLOAD.replace("v1alpha1", "v2")).is_err());
        let policy = "---\napiVersion: inference.weir.dev/v1alpha1\nkind: InferencePlacementPolicy\nmetadata: {name: p}\nspec: {}\n";
        assert!(read(policy).is_ok());
        assert!(read(&format!("{policy}{policy}")).is_err());
    }

    #[test]
    fn a_folder_without_manifests_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = objects(&[folder.path().to_owned()]).expect_err("is refused");
        assert!(matches!(error, FileError::Empty { .. }), "{error}");
    }
}

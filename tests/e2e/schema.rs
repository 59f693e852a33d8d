//! What `kubectl explain` can say: the schema that the real API server publishes.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use weir_tests::cluster::{Cluster, UpOptions, output, repository};

const GROUP: &str = "inference.weir.dev";
const SHORTEST_DESCRIPTION: usize = 20;

#[test]
fn every_property_that_the_api_server_publishes_is_explained() -> Result<()> {
    let options = UpOptions {
        fresh: true,
        control_plane_only: true,
        keep: false,
    };
    let cluster = Cluster::up("e2e-schema", options)?;
    let folder = repository().join("crds/yaml");
    output(
        cluster
            .kubectl(["apply", "--server-side", "-f"])
            .arg(&folder),
    )?;
    output(&mut cluster.kubectl([
        "wait",
        "--for=condition=Established",
        "crd",
        "--all",
        "--timeout=30s",
    ]))?;
    let schemas = published(&cluster, std::fs::read_dir(&folder)?.count())?;

    let mut seen = 0;
    let mut unexplained = Vec::new();
    for (name, schema) in &schemas {
        visit(name, schema, &mut seen, &mut unexplained);
    }

    assert!(
        seen > 100,
        "only {seen} properties in {} schemas",
        schemas.len()
    );
    assert_eq!(unexplained, Vec::<String>::new(), "of {seen} properties");
    Ok(())
}

/// Schemas of our kinds, once the API server publishes all of them: it does so some time after they are established.
fn published(cluster: &Cluster, kinds: usize) -> Result<Map<String, Value>> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let path = format!("/openapi/v3/apis/{GROUP}/v1alpha1");
        let text = output(&mut cluster.kubectl(["get", "--raw", &path])).unwrap_or_default();
        let mut document: Value = serde_json::from_str(&text).unwrap_or_default();
        if let Some(Value::Object(schemas)) =
            document.pointer_mut("/components/schemas").map(Value::take)
        {
            let ours: Map<String, Value> = schemas
                .into_iter()
                .filter(|(name, schema)| is_kind(name, schema))
                .collect();
            if ours.len() >= kinds {
                return Ok(ours);
            }
        }
        (Instant::now() < deadline)
            .then_some(())
            .with_context(|| format!("fewer than {kinds} kinds in {path} after 60 s"))?;
        sleep(Duration::from_millis(200));
    }
}

/// A kind of our group; its list is the API server's own.
fn is_kind(name: &str, schema: &Value) -> bool {
    let ours = schema["x-kubernetes-group-version-kind"]
        .as_array()
        .is_some_and(|kinds| kinds.iter().any(|kind| kind["group"] == GROUP));
    ours && !name.ends_with("List")
}

fn visit(path: &str, schema: &Value, seen: &mut usize, unexplained: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        *seen += 1;
        if property["description"]
            .as_str()
            .is_none_or(|text| text.len() < SHORTEST_DESCRIPTION)
        {
            unexplained.push(path.clone());
        }
        visit(&path, property, seen, unexplained);
    }
    for (key, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            visit(&format!("{path}{suffix}"), &schema[key], seen, unexplained);
        }
    }
}

//! The UID of the node, from the claims of the agent's own ServiceAccount token: no permission on nodes is needed.
//!
//! The token is not verified: it says only who owns an object that the API server holds to the agent's node anyway.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

#[derive(Deserialize)]
struct Kubernetes {
    node: Option<Node>,
}

#[derive(Deserialize)]
struct Node {
    name: String,
    uid: String,
}

/// The UID in the token in `file`, if the token is bound to a pod on the node of this name.
pub fn node_uid(file: &Path, node_name: &str) -> Option<String> {
    let token = fs::read_to_string(file).ok()?;
    let payload = token.trim().split('.').nth(1)?;
    let bytes = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Claims = serde_json::from_slice(&bytes).ok()?;
    let node = claims.kubernetes.node?;
    (node.name == node_name).then_some(node.uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::of_this_node(r#"{"kubernetes.io":{"node":{"name":"n1","uid":"u-1"}}}"#, Some("u-1"))]
    #[case::of_another_node(r#"{"kubernetes.io":{"node":{"name":"n2","uid":"u-2"}}}"#, None)]
    #[case::not_bound_to_a_pod(r#"{"kubernetes.io":{"namespace":"x"}}"#, None)]
    #[case::of_another_issuer(r#"{"sub":"x"}"#, None)]
    #[case::garbage("{", None)]
    fn uid_is_read_from_a_token_of_this_node(#[case] claims: &str, #[case] uid: Option<&str>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let token = format!("e30.{}.sig\n", URL_SAFE_NO_PAD.encode(claims));
        fs::write(file.path(), token).unwrap();
        assert_eq!(node_uid(file.path(), "n1").as_deref(), uid);
    }

    #[test]
    fn no_token_means_no_uid() {
        assert_eq!(node_uid(Path::new("/nonexistent"), "n1"), None);
    }
}

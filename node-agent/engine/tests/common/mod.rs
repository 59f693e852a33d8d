//! Where tests find the reference model.
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The model file: `WEIR_TEST_MODEL`, or what the project's own fetcher has in its cache or puts there.
pub fn model_path() -> PathBuf {
    if let Some(path) = std::env::var_os("WEIR_TEST_MODEL") {
        return PathBuf::from(path);
    }
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/cluster/weir-cluster"
    );
    let output = Command::new(script)
        .arg("model")
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("{script}: {error}; WEIR_TEST_MODEL names a file instead"));
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    assert!(
        output.status.success() && path.is_file(),
        "{script} model: {}; WEIR_TEST_MODEL names a file instead",
        output.status
    );
    path
}

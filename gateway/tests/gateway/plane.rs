//! What each build holds, and what it does not.

use std::process::Command;

/// Crates that the local plane's build names directly.
fn dependencies(features: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--package",
            "weir-gateway",
            "--edges",
            "normal",
            "--depth",
            "1",
            "--prefix",
            "none",
        ])
        .arg("--no-default-features")
        .args(features)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_local_plane_depends_on_no_client_of_providers() {
    let (local, cloud) = (dependencies(&[]), dependencies(&["--features", "cloud"]));
    for name in ["hyper-rustls ", "webpki-roots "] {
        assert!(
            !local.contains(name),
            "{name} is linked into the local plane"
        );
        assert!(cloud.contains(name), "this test would not notice {name}");
    }
}

/// The symbols of this very test program, which links the whole library.
#[test]
fn the_local_plane_holds_no_code_that_reaches_providers() {
    let program = std::fs::read(std::env::current_exe().expect("a path")).expect("readable");
    // Put together here, so that this test is no hit itself.
    let holds = |path: &str| {
        let symbol: String = path
            .split("::")
            .map(|part| format!("{}{part}", part.len()))
            .collect();
        memchr::memmem::find(&program, symbol.as_bytes()).is_some()
    };
    assert!(
        holds("weir_gateway::request"),
        "symbols are there to be looked at"
    );
    for reaches_providers in [
        "weir_gateway::external",
        "weir_gateway::routing::watch::providers",
    ] {
        assert_eq!(
            holds(reaches_providers),
            cfg!(feature = "cloud"),
            "{reaches_providers}"
        );
    }
    assert_eq!(
        weir_gateway::PLANE,
        if cfg!(feature = "cloud") {
            "cloud"
        } else {
            "local"
        }
    );
}

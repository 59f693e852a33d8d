//! What Weir's components asked of the API server while scenarios ran, for `make test-e2e` to hold against what the chart
//! grants.

use crate::look::AuditMark;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use weir_chart::rights::{Asked, asked};
use weir_tests::stack::{RELEASE_NAMESPACE, Stack};

/// Where the whole of it lies, as JSON: beside what other tests of the workspace leave.
const USED: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/rights-used.json");

/// Of every scenario of this process so far.
static SEEN: Mutex<BTreeSet<Asked>> = Mutex::new(BTreeSet::new());

/// Adds what a cluster's audit log says up to now, and leaves the whole of it.
pub fn note(stack: &Stack) -> Result<()> {
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    for line in AuditMark::first(stack).lines()?.lines() {
        let asked = asked(line, RELEASE_NAMESPACE);
        seen.extend(asked.with_context(|| format!("audit line {line:?}"))?);
    }
    let text = serde_json::to_vec(&*seen)?;
    std::fs::write(Path::new(USED), text).with_context(|| format!("writing {USED}"))
}

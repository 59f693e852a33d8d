//! Writes what a replay decided and prints what it cost.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Why a replay cannot be reported.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The decisions cannot be written.
    #[error("cannot write {path}")]
    Plan {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The accounting cannot be printed.
    #[error("cannot print the accounting")]
    Accounting(#[source] io::Error),
}

/// Writes the decisions as JSON lines, where that was asked for, and prints the accounting as one.
pub fn report(
    decisions: &[impl Serialize],
    accounting: &impl Serialize,
    plan: Option<&Path>,
) -> Result<(), ReportError> {
    if let Some(path) = plan {
        let failed = |source| ReportError::Plan {
            path: path.to_owned(),
            source,
        };
        let file = File::create(path).map_err(failed)?;
        write_lines(BufWriter::new(file), decisions).map_err(failed)?;
    }
    write_lines(io::stdout().lock(), &[accounting]).map_err(ReportError::Accounting)
}

fn write_lines(mut to: impl Write, lines: &[impl Serialize]) -> io::Result<()> {
    for line in lines {
        serde_json::to_writer(&mut to, line)?;
        to.write_all(b"\n")?;
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_decision_is_a_line() {
        let mut text = Vec::new();
        let written = write_lines(&mut text, &[1, 2]);
        assert!(written.is_ok());
        assert_eq!(text, b"1\n2\n");
    }
}

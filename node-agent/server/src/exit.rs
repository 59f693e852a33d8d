//! Ending the process with a reason that whoever watches the container can read.

use crate::state::Server;
use std::path::Path;
use weir_engine::failure::FailureReason;

const TERMINATION_LOG: &str = "/dev/termination-log";
/// Exit code of a fault of this program (`EX_SOFTWARE`).
const FAULT: i32 = 70;

/// Why the model is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct StartFailure {
    /// The typed reason.
    pub reason: FailureReason,
    /// The numbers or names behind it.
    pub message: String,
}

impl StartFailure {
    pub(crate) fn new(reason: FailureReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// Writes a container's termination message. Outside a container there is no such file, and nothing is created.
pub fn write_termination_message(path: &Path, message: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
    writeln!(file, "{message}")
}

fn end(message: &str, code: i32) -> ! {
    tracing::error!(failure = message, code, "cannot serve");
    if let Err(error) = write_termination_message(Path::new(TERMINATION_LOG), message) {
        tracing::debug!(%error, "no termination message was written");
    }
    std::process::exit(code)
}

/// Ends the process because the model cannot be served.
pub(crate) fn exit(failure: &StartFailure) -> ! {
    end(&failure.to_string(), failure.reason.exit_code())
}

/// Ends the process because of a fault in it; a restart is the only remedy.
pub(crate) fn fatal(server: &Server, message: &str) -> ! {
    end(&format!("EngineFault: {}: {message}", server.name()), FAULT)
}

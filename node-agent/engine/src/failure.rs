//! Why a server could not start, in words that whoever watches the container can read.

use std::fmt;

/// The typed reasons of a failed start. The first word of the container's termination message is one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureReason {
    /// The model file's sha256 is not the expected one.
    ChecksumMismatch,
    /// The model file is not there or cannot be opened.
    ModelNotFound,
    /// The model file is malformed, or of a kind that this engine does not run.
    ModelInvalid,
    /// Weights and KV cache do not fit in memory.
    OutOfMemory,
}

impl FailureReason {
    /// Every reason.
    pub const ALL: [Self; 4] = [
        Self::ChecksumMismatch,
        Self::ModelNotFound,
        Self::ModelInvalid,
        Self::OutOfMemory,
    ];

    /// The reason as written before the colon of the termination message.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ChecksumMismatch => "ChecksumMismatch",
            Self::ModelNotFound => "ModelNotFound",
            Self::ModelInvalid => "ModelInvalid",
            Self::OutOfMemory => "OutOfMemory",
        }
    }

    /// The process' exit code.
    pub fn exit_code(self) -> i32 {
        match self {
            Self::ChecksumMismatch => 65,
            Self::ModelNotFound => 66,
            Self::ModelInvalid => 67,
            Self::OutOfMemory => 68,
        }
    }

    /// The reason of a termination message `Reason: text`, if it begins with a known one.
    pub fn parse(message: &str) -> Option<Self> {
        let (word, _) = message.split_once(':')?;
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str() == word.trim())
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_termination_message_gives_its_reason_back() {
        for reason in FailureReason::ALL {
            let message = format!("{reason}: something about it: more");
            assert_eq!(FailureReason::parse(&message), Some(reason));
        }
        assert_eq!(FailureReason::parse("Killed: no"), None);
        assert_eq!(FailureReason::parse("ChecksumMismatch"), None);
    }

    #[test]
    fn exit_codes_differ() {
        let mut codes: Vec<i32> = FailureReason::ALL.iter().map(|r| r.exit_code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), FailureReason::ALL.len());
    }
}

//! What may be wrong with a file.

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The file cannot be opened or mapped.
    #[error("cannot open the model file")]
    Open(#[source] std::io::Error),
    /// The first four bytes are not `GGUF`.
    #[error("not a GGUF file")]
    Magic,
    /// A version other than 2 and 3.
    #[error("GGUF version {0} is not supported (2 and 3 are)")]
    Version(u32),
    /// The file ends inside something.
    #[error("the file ends inside {what} at byte {offset}")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it began.
        offset: usize,
    },
    /// A count or a length that the file cannot hold.
    #[error("{what} is {value}, more than the file can hold")]
    TooLarge {
        /// What was too large.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// A string that is not UTF-8 where names are expected.
    #[error("{0} is not UTF-8")]
    Utf8(&'static str),
    /// A type tag that the format does not have.
    #[error("unknown value type {0}")]
    ValueType(u32),
    /// A tensor type that this engine does not read.
    #[error("tensor {tensor}: type {type_id} is not supported")]
    TensorType {
        /// The tensor's name.
        tensor: String,
        /// The type's number in the file.
        type_id: u32,
    },
    /// The same key or tensor twice.
    #[error("{what} {name} occurs twice")]
    Duplicate {
        /// Key or tensor.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A tensor's shape cannot be.
    #[error("tensor {tensor}: {problem}")]
    Tensor {
        /// The tensor's name.
        tensor: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The alignment is not a power of two, or out of range.
    #[error("alignment {0} is not a power of two up to 65536")]
    Alignment(u64),
    /// A key that must be there is not, or has another type.
    #[error("metadata key {0} is missing or of another type")]
    Key(String),
}

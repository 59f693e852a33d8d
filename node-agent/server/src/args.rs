//! Arguments of `serve`.

use clap::{Args, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use weir_engine::backend::ActivationMode;
use weir_engine_key::{Audience, EngineLock, RootPublic};

/// How activations are represented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Activations {
    /// 8 bits per block of 32 values; KV cache in half precision.
    Fast,
    /// 32-bit floats throughout: slower, and the reference's tokens.
    F32,
}

impl From<Activations> for ActivationMode {
    fn from(value: Activations) -> Self {
        match value {
            Activations::Fast => Self::Fast,
            Activations::F32 => Self::F32,
        }
    }
}

/// What to serve, and how.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// The GGUF file.
    #[arg(long)]
    pub model: PathBuf,
    /// Address of the OpenAI API, probes and metrics.
    #[arg(long, default_value = "0.0.0.0:8000")]
    pub listen: SocketAddr,
    /// Name that requests use; the file's name for the model if absent.
    #[arg(long)]
    pub served_model_name: Option<String>,
    /// SHA-256 that the file must have, in hexadecimal.
    #[arg(long, value_parser = parse_sha256)]
    pub sha256: Option<String>,
    /// Threads that compute; by default as many as there are processors, up to 16.
    #[arg(long)]
    pub threads: Option<usize>,
    /// How activations are represented.
    #[arg(long, value_enum, default_value_t = Activations::Fast)]
    pub activations: Activations,
    /// Most tokens of a prompt with its answer, no more than the model's own bound, which it is if absent.
    #[arg(long)]
    pub context: Option<usize>,
    /// Memory of weights and KV cache together: the cache takes what the weights leave, and has to hold one request of the
    /// longest context.
    #[arg(long, value_parser = parse_bytes, conflicts_with_all = ["kv_memory", "kv_blocks"])]
    pub memory: Option<usize>,
    /// Memory of the KV cache, in bytes or with Ki, Mi or Gi.
    #[arg(long, default_value = "256Mi", value_parser = parse_bytes)]
    pub kv_memory: usize,
    /// Blocks of the KV cache, 16 tokens each, instead of an amount of memory.
    #[arg(long)]
    pub kv_blocks: Option<usize>,
    /// Requests that generate at the same time.
    #[arg(long, default_value_t = 8, value_parser = parse_positive)]
    pub max_concurrent: usize,
    /// Requests that may wait; more are answered with 429.
    #[arg(long, default_value_t = 64)]
    pub max_waiting: usize,
    /// Tokens that one step computes, prompts and answers together.
    #[arg(long, default_value_t = 128, value_parser = parse_positive)]
    pub max_step_tokens: usize,
    /// Public key that certifies the keys of gateways; with it a request needs a gateway's token, probes and metrics apart.
    #[arg(long, requires = "key_audience")]
    pub key_root: Option<RootPublic>,
    /// Whose tokens are taken: PLANE/WORKLOAD-UID.
    #[arg(long, requires = "key_root")]
    pub key_audience: Option<Audience>,
    /// Seconds after SIGTERM in which requests are still taken, while readiness says no.
    #[arg(long, default_value_t = 3)]
    pub drain_delay_seconds: u64,
    /// Seconds after that in which running requests may finish.
    #[arg(long, default_value_t = 300)]
    pub drain_timeout_seconds: u64,
}

impl ServeArgs {
    /// The lock that the engine is started with; none without a root.
    pub(crate) fn lock(&self) -> Option<EngineLock> {
        let root = self.key_root?;
        let audience = self.key_audience.clone()?;
        Some(EngineLock::new(root, audience))
    }
}

fn parse_sha256(text: &str) -> Result<String, String> {
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("a SHA-256 is 64 hexadecimal digits".to_owned())
    }
}

fn parse_positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(value @ 1..=65_536) => Ok(value),
        _ => Err("a number from 1 to 65536 is needed".to_owned()),
    }
}

fn parse_bytes(text: &str) -> Result<usize, String> {
    const UNITS: [(&str, usize); 3] = [("Ki", 10), ("Mi", 20), ("Gi", 30)];
    let (digits, shift) = UNITS
        .iter()
        .find_map(|(unit, shift)| text.strip_suffix(unit).map(|digits| (digits, *shift)))
        .unwrap_or((text, 0));
    digits
        .parse::<usize>()
        .ok()
        .and_then(|value| value.checked_mul(1 << shift))
        .ok_or_else(|| "an amount such as 268435456, 256Mi or 1Gi is needed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("7", Some(7))]
    #[case("2Ki", Some(2048))]
    #[case("256Mi", Some(256 << 20))]
    #[case("1Gi", Some(1 << 30))]
    #[case("1.5Gi", None)]
    #[case("99999999999Gi", None)]
    #[case("", None)]
    fn amounts_of_memory_are_read(#[case] text: &str, #[case] bytes: Option<usize>) {
        assert_eq!(parse_bytes(text).ok(), bytes);
    }

    #[test]
    fn a_checksum_is_sixty_four_digits() {
        assert_eq!(parse_sha256(&"AB".repeat(32)), Ok("ab".repeat(32)));
        assert!(parse_sha256("ab").is_err());
        assert!(parse_sha256(&"zz".repeat(32)).is_err());
    }
}

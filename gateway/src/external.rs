//! Everything that can reach a provider. Compiled into the cloud plane only.
//!
//! A `permit` is the right to send a request there, made of a proof; `provider` is whom it names, with its `client` behind
//! the `guard`, its `health` and what its `format` means; `probe` asks idle ones.
//!
//! May import upstream and the leaves; knows no table and no request.

pub(crate) mod api_key;
pub(crate) mod cause;
pub(crate) mod client;
pub(crate) mod convert;
pub(crate) mod format;
pub(crate) mod guard;
pub(crate) mod health;
pub(crate) mod permit;
pub(crate) mod probe;
pub(crate) mod provider;

pub use api_key::ApiKey;
pub use cause::Cause;
pub use client::ExternalTimeouts;
pub use convert::provider_input;
pub use health::{CircuitState, ProviderHealth};
pub use permit::{EgressAllowed, ExternalPermit};
pub use probe::probe_forever;
pub use provider::{ProviderInput, ProviderTerms, Providers, SecretRef};

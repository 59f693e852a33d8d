//! Everything that can reach a provider. Compiled into the cloud plane only.

pub mod api_key;
pub mod cause;
pub mod client;
pub mod convert;
pub(crate) mod format;
pub mod guard;
pub mod health;
pub mod permit;
pub mod probe;
pub mod provider;

pub use api_key::ApiKey;
pub use cause::Cause;
pub use client::{ExternalClient, ExternalTimeouts};
pub use convert::{provider_input, secret_values};
pub use guard::is_private;
pub use health::{CircuitState, HealthReport, ProviderHealth};
pub use permit::{EgressAllowed, ExternalPermit};
pub use probe::probe_forever;
pub use provider::{
    ProviderHandle, ProviderInput, ProviderRow, ProviderTerms, Providers, SecretRef,
};

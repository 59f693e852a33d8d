//! Everything that can reach a provider. Compiled into the cloud plane only.

mod cause;
mod client;
mod guard;
mod health;
mod permit;
mod probe;
mod provider;
mod watch;

pub use cause::Cause;
pub use client::{ExternalClient, ExternalTimeouts};
pub use guard::is_private;
pub use health::{CircuitState, HealthReport, ProviderHealth};
pub use permit::{EgressAllowed, ExternalPermit};
pub use probe::probe_forever;
pub use provider::{
    ApiKey, ProviderHandle, ProviderInput, ProviderRow, ProviderTerms, Providers, SecretRef,
};
pub use watch::{provider_input, secret_values, watch_providers, watch_secrets};

//! The right to send a request out of the cluster, as a value that only a proof makes.

use crate::external::provider::ProviderHandle;
use crate::policy::Egress;
use std::sync::Arc;

/// Proof that a workload's data may leave the cluster.
#[derive(Debug)]
pub struct EgressAllowed(());

impl EgressAllowed {
    /// The proof, if the policy gives it.
    pub fn prove(egress: Egress) -> Option<Self> {
        match egress {
            Egress::Allowed => Some(Self(())),
            Egress::Forbidden => None,
        }
    }
}

/// An external target of a workload whose data may leave.
#[derive(Debug)]
pub struct ExternalPermit {
    provider: Arc<ProviderHandle>,
    model: Arc<str>,
    _proof: EgressAllowed,
}

impl ExternalPermit {
    /// A target at a provider; takes the proof.
    pub fn new(proof: EgressAllowed, provider: Arc<ProviderHandle>, model: Arc<str>) -> Self {
        Self {
            provider,
            model,
            _proof: proof,
        }
    }

    /// The provider.
    pub fn provider(&self) -> &Arc<ProviderHandle> {
        &self.provider
    }

    /// The provider's name of the model.
    pub fn model(&self) -> &str {
        &self.model
    }
}

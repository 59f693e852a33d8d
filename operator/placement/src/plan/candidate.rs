//! What a decision says of each target.

use serde::{Deserialize, Serialize};

use super::Reason;
use crate::snapshot::{Location, PriceBookRef, ThroughputSource};
use crate::units::{MicroUsd, MicroUsdPerMillionTokens, MilliTokensPerSecond, Percent};

/// One target, of the spec or a substitute: its cost, or what speaks against it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Name of the target.
    pub name: String,
    /// Whether it is in the cluster.
    pub location: Location,
    /// Whether it may serve.
    pub verdict: Verdict,
    /// The tier of a local target.
    pub tier: Option<String>,
    /// Replicas that a local target needs: for its busy hour, or for the base of its work where the rest overflows.
    pub replicas: Option<u32>,
    /// Its cost; `None` unless it is feasible and everything that the cost needs is known.
    pub cost: Option<CandidateCost>,
    /// What is unknown or not to be relied on, in the order of `Reason`.
    pub doubts: Vec<Doubt>,
    /// The gates that it failed, in their order.
    pub rejected_by: Vec<Rejection>,
    /// Throughput of a replica on its tier.
    pub throughput: Option<MilliTokensPerSecond>,
    /// How that is known.
    pub throughput_source: Option<ThroughputSource>,
    /// The price book of an external target.
    pub price_book: Option<PriceBookRef>,
}

/// Whether a target may serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It may, and it can.
    Feasible,
    /// It may, but it cannot now: no capacity, SLO missed, provider silent. It broke no rule on data or capability.
    Unavailable,
    /// It may not.
    Rejected,
}

/// Something that is unknown or not to be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Doubt {
    /// No price book has its price.
    PriceMissing,
    /// Its price is too old.
    PriceStale,
    /// A suspect new price is held back.
    PriceHeld,
    /// The price of the external target that takes its overflow is unknown, too old or held back.
    OverflowPrice,
    /// Telemetry of its GPU tier was lost.
    UtilizationUnknown,
    /// Its tier's hourly cost is unknown.
    TierCostUnknown,
    /// How many replicas it needs is unknown.
    ThroughputUnknown,
    /// Demand is unknown.
    DemandUnknown,
}

impl From<Doubt> for Reason {
    fn from(doubt: Doubt) -> Self {
        match doubt {
            Doubt::PriceMissing => Self::PriceMissing,
            Doubt::PriceStale => Self::PriceStale,
            Doubt::PriceHeld => Self::PriceHeld,
            Doubt::OverflowPrice => Self::OverflowPriceUnsure,
            Doubt::UtilizationUnknown => Self::UtilizationUnknown,
            Doubt::TierCostUnknown => Self::TierCostUnknown,
            Doubt::ThroughputUnknown => Self::ThroughputUnknown,
            Doubt::DemandUnknown => Self::DemandUnknown,
        }
    }
}

/// What a target costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CandidateCost {
    /// In a month of 730 hours.
    pub monthly: MicroUsd,
    /// For a million tokens of prompts and answers; `None` without traffic or without known traffic.
    pub per_million_tokens: Option<MicroUsdPerMillionTokens>,
    /// Which costs are counted.
    pub basis: CostBasis,
    /// The policy's operations cost within `monthly`.
    pub operations: MicroUsd,
    /// Whether the most replicas allowed are too few: for the demand's peak, the cost then being that of the most replicas;
    /// or, where the rest overflows, for what more of them would save.
    pub capacity_limited: bool,
    /// What `monthly` has for work that the replicas of a local target leave to an external one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overflow: Option<OverflowCost>,
}

/// Work that the replicas of a local target leave to an external one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OverflowCost {
    /// The external target that takes it: the first of the spec that can serve.
    pub target: String,
    /// Its share of the work.
    pub share: Percent,
    /// What it takes for it in a month of 730 hours.
    pub monthly: MicroUsd,
}

/// Which costs are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CostBasis {
    /// By the token, as the provider bills.
    PerToken,
    /// Everything that the capacity costs, used or not.
    FullyLoaded,
    /// What running devices adds that are paid for anyway: energy, and the work of operation.
    Marginal,
    /// The idle devices marginally, further ones fully loaded.
    Mixed,
}

/// A gate that a target failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejection {
    /// The gate.
    pub gate: Gate,
    /// What failed.
    pub reason: RejectionReason,
    /// What failed, with the values compared.
    pub message: String,
}

/// The gates, in the order in which they are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Gate {
    /// Data may leave the cluster.
    Residency,
    /// What the target refers to exists.
    References,
    /// Jurisdiction, retention and namespaces of the provider.
    ProviderTerms,
    /// Providers can be reached.
    Connectivity,
    /// The team hosts models itself.
    SelfHosting,
    /// The model can do what is required.
    Capability,
    /// The model may stand in for the one that the workload was qualified with.
    Substitution,
    /// The model is good enough.
    Quality,
    /// The model takes prompts and answers of the needed length.
    Context,
    /// The model fits into a device.
    Memory,
    /// The tier has nodes and free devices. Failing it makes a target unavailable, not rejected.
    Capacity,
    /// The target is fast enough, where that is known. Failing it makes a target unavailable, not rejected.
    #[serde(rename = "SLO")]
    Slo,
    /// The provider answers. Failing it makes a target unavailable, not rejected.
    ProviderHealth,
}

/// What failed at a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RejectionReason {
    /// Egress is Forbidden and the target is external.
    EgressForbidden,
    /// Profile, provider or model does not exist.
    ReferenceMissing,
    /// The provider is in another jurisdiction.
    JurisdictionNotAllowed,
    /// The provider's jurisdiction is unknown.
    JurisdictionUnknown,
    /// The provider retains data.
    RetentionNotZero,
    /// Whether the provider retains data is unknown.
    RetentionUnknown,
    /// The provider does not admit the namespace.
    NamespaceNotAllowed,
    /// The policy says that providers cannot be reached.
    Disconnected,
    /// The team does not host models itself.
    SelfHostingForbidden,
    /// The model lacks a capability.
    CapabilityMissing,
    /// The model is another one, and substitution is Forbidden.
    SubstitutionForbidden,
    /// The model is not known to be of the equivalence group that is asked for.
    NotEquivalent,
    /// The model scores too low.
    QualityTooLow,
    /// The model has no score on the benchmark.
    QualityUnknown,
    /// The model's context is too short.
    ContextTooShort,
    /// The model's context is unknown.
    ContextUnknown,
    /// The model does not fit into a device.
    MemoryTooSmall,
    /// The tier does not exist.
    TierMissing,
    /// The tier has no node.
    NoNode,
    /// The tier has no free device.
    NoCapacity,
    /// The tier's free devices go to workloads that save more there.
    OthersSaveMore,
    /// Time to first token is above the SLO.
    #[serde(rename = "TTFTAboveSLO")]
    TtftAboveSlo,
    /// The provider does not answer.
    ProviderUnhealthy,
}

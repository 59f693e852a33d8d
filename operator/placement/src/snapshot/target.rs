//! Targets: what is known of the places where a workload may run.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::units::{
    Bytes, MicroUsdPerMillionRequests, MicroUsdPerMillionTokens, MilliTokensPerSecond, Millis,
    Score, Tokens,
};

/// One place where the workload may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Name, unique within the workload.
    pub name: String,
    /// What is known of the place.
    pub kind: TargetKind,
}

/// A target of the spec with another model in its place. Cost may move the workload there, and it serves while no target
/// of the spec can; it is never the first placement, and on the route only while the workload is there or moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Substitute {
    /// Name of the target of the spec.
    pub of: String,
    /// The target as it is with the other model, under a name of its own.
    pub target: Target,
}

/// What is known of a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetKind {
    /// A model served in the cluster.
    Local(LocalTarget),
    /// A model of a cloud provider.
    External(ExternalTarget),
    /// A target whose profile, provider or model does not exist.
    Unresolved {
        /// Where it would be.
        location: Location,
        /// What is missing, in one sentence.
        message: String,
    },
}

/// Whether a target is in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Location {
    /// Served by pods of this cluster.
    Local,
    /// Served by a cloud provider.
    External,
}

impl TargetKind {
    /// What is known of its model; `None` for a target that is not resolved.
    pub fn model(&self) -> Option<&ModelFacts> {
        match self {
            Self::Local(local) => Some(&local.model),
            Self::External(external) => Some(&external.model),
            Self::Unresolved { .. } => None,
        }
    }

    /// Whether the target is in the cluster.
    pub fn location(&self) -> Location {
        match self {
            Self::Local(_) => Location::Local,
            Self::External(_) => Location::External,
            Self::Unresolved { location, .. } => *location,
        }
    }
}

/// What a model is and can do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelFacts {
    /// Its name.
    pub name: Option<String>,
    /// Models of one group stand in for each other without being qualified anew.
    pub equivalence_group: Option<String>,
    /// Tokens of prompt and answer together that it takes.
    pub context: Option<Tokens>,
    /// What it can do.
    pub capabilities: BTreeSet<String>,
    /// Benchmark scores.
    pub quality: BTreeMap<String, Score>,
}

impl ModelFacts {
    /// Whether both are known to be one model, by name.
    pub fn is_same(&self, other: &Self) -> bool {
        self.name.is_some() && self.name == other.name
    }

    /// Whether both are known to be one model or of one equivalence group.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        let grouped = self.equivalence_group.is_some();
        self.is_same(other) || (grouped && self.equivalence_group == other.equivalence_group)
    }
}

/// A model served in the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalTarget {
    /// What the model is and can do.
    #[serde(default)]
    pub model: ModelFacts,
    /// Memory that one replica needs.
    #[serde(default)]
    pub memory: Option<Bytes>,
    /// Tiers it may run on, the preferred one first.
    pub tiers: Vec<String>,
    /// Output tokens per second of one replica, by tier.
    #[serde(default)]
    pub throughput: BTreeMap<String, Throughput>,
    /// Time to first token at the 95th percentile, by tier.
    #[serde(default)]
    pub ttft_p95: BTreeMap<String, Millis>,
    /// Replicas that are kept even when the target serves nothing.
    #[serde(default)]
    pub min_replicas: u32,
    /// Most replicas; 0 counts as 1.
    pub max_replicas: u32,
}

/// Output tokens per second of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Throughput {
    /// The rate.
    pub rate: MilliTokensPerSecond,
    /// How it is known.
    pub source: ThroughputSource,
}

/// How a throughput is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ThroughputSource {
    /// Engines reported it.
    Measured,
    /// A profile assumes it.
    Assumed,
}

/// A model of a cloud provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalTarget {
    /// Name of the provider.
    pub provider: String,
    /// What the model is and can do.
    #[serde(default)]
    pub model: ModelFacts,
    /// Its price; `None` when no price book has one.
    #[serde(default)]
    pub price: Option<Price>,
    /// Where the provider processes data.
    #[serde(default)]
    pub jurisdiction: Option<String>,
    /// Whether the provider keeps nothing of what it is sent; `None` is unknown and does not satisfy a workload that requires it.
    #[serde(default)]
    pub zero_retention: Option<bool>,
    /// Whether the provider admits the workload's namespace.
    pub namespace_allowed: bool,
    /// Time to first token at the 95th percentile.
    #[serde(default)]
    pub ttft_p95: Option<Millis>,
    /// Whether it answers; `None` before the first probe.
    #[serde(default)]
    pub healthy: Option<bool>,
}

/// A price with its origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Price {
    /// Prompt tokens.
    pub input: MicroUsdPerMillionTokens,
    /// Prompt tokens that the provider's cache answers; `None` means that they cost as much as others.
    #[serde(default)]
    pub cached_input: Option<MicroUsdPerMillionTokens>,
    /// Prompt tokens that are written into the provider's cache; `None` means that they cost as much as others.
    #[serde(default)]
    pub cache_write: Option<MicroUsdPerMillionTokens>,
    /// Answer tokens.
    pub output: MicroUsdPerMillionTokens,
    /// Answer tokens of reasoning; `None` means that they cost as much as others.
    #[serde(default)]
    pub reasoning: Option<MicroUsdPerMillionTokens>,
    /// Requests, whatever their tokens; `None` means that they cost nothing beside those.
    #[serde(default)]
    pub per_request: Option<MicroUsdPerMillionRequests>,
    /// Prices of requests with long prompts, by rising threshold.
    #[serde(default)]
    pub context_tiers: Vec<ContextTier>,
    /// The price book that it stands in.
    pub book: PriceBookRef,
    /// Whether it may be acted on.
    #[serde(default)]
    pub state: PriceState,
}

/// Prices of whole requests whose prompt is longer than a threshold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContextTier {
    /// Prompts of more tokens than this are billed so.
    pub above: Tokens,
    /// Prompt tokens.
    pub input: MicroUsdPerMillionTokens,
    /// Prompt tokens that the provider's cache answers; `None` means that they cost as much as others.
    #[serde(default)]
    pub cached_input: Option<MicroUsdPerMillionTokens>,
    /// Prompt tokens that are written into the provider's cache; `None` means that they cost as much as others.
    #[serde(default)]
    pub cache_write: Option<MicroUsdPerMillionTokens>,
    /// Answer tokens.
    pub output: MicroUsdPerMillionTokens,
    /// Answer tokens of reasoning; `None` means that they cost as much as others.
    #[serde(default)]
    pub reasoning: Option<MicroUsdPerMillionTokens>,
}

/// A state of a price book.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PriceBookRef {
    /// Name of the price book.
    pub name: String,
    /// Its revision.
    pub revision: String,
    /// When its prices were last confirmed by their source. Not part of a decision's identity.
    #[serde(default)]
    pub as_of: Option<Timestamp>,
}

/// Whether a price may be acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum PriceState {
    /// It may.
    #[default]
    Fresh,
    /// A suspect new price is held back and this is the old one: it places, but it moves nothing.
    Held,
    /// Its book was not confirmed for too long: it moves nothing.
    Stale,
}

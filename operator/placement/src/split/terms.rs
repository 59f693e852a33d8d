//! What a split is decided from: the terms of a workload, the market of a step, and the steps that were observed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Split;
use crate::quantity::NonNegative;
use crate::snapshot::Egress;

/// Hours of a month, as everywhere in the decision.
const HOURS_PER_MONTH: f64 = 730.0;
/// More replicas than any cluster holds; keeps arithmetic finite whatever is metered.
const MOST_NEEDED: f64 = 1e9;

/// Why terms are refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TermsError {
    /// Demand would need infinitely many replicas.
    #[error("a replica serves less than one output token an hour")]
    NoCapacity,
    /// A decision is held for an hour at least and for a day at most.
    #[error("a step of {0} hours is not between 1 and 24")]
    StepLength(u32),
}

/// What is fixed for a workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SplitTerms {
    /// Whether tokens may leave the cluster.
    pub egress: Egress,
    /// What a replica does.
    pub capacity: ReplicaCapacity,
    /// Most replicas that can be held.
    pub max_replicas: u32,
    /// Rent that a replica costs in addition when it is added, in hours.
    pub warm_hours: NonNegative,
    /// Cost of a change of cloud model, in dollars.
    pub qualification_usd: NonNegative,
    /// Demand that the team expects; the prior until a step was observed.
    pub declared: DeclaredTokens,
}

/// What a replica does in an hour.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "UncheckedCapacity")]
pub struct ReplicaCapacity {
    output_tokens_per_hour: NonNegative,
    input_token_weight: NonNegative,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UncheckedCapacity {
    output_tokens_per_hour: NonNegative,
    input_token_weight: NonNegative,
}

impl TryFrom<UncheckedCapacity> for ReplicaCapacity {
    type Error = TermsError;
    fn try_from(unchecked: UncheckedCapacity) -> Result<Self, TermsError> {
        Self::new(
            unchecked.output_tokens_per_hour,
            unchecked.input_token_weight,
        )
    }
}

impl ReplicaCapacity {
    /// A replica that serves so many output tokens an hour, where an input token is `input_token_weight` of an output
    /// token's work.
    pub fn new(
        output_tokens_per_hour: NonNegative,
        input_token_weight: NonNegative,
    ) -> Result<Self, TermsError> {
        if output_tokens_per_hour.get() < 1.0 {
            return Err(TermsError::NoCapacity);
        }
        Ok(Self {
            output_tokens_per_hour,
            input_token_weight,
        })
    }

    /// Replicas that serve these tokens within an hour.
    pub(super) fn replicas_for(self, input: f64, output: f64) -> f64 {
        let work = self.input_token_weight.get() * input + output;
        (work / self.output_tokens_per_hour.get()).min(MOST_NEEDED)
    }
}

/// Demand that the team expects, in a month of 730 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeclaredTokens {
    /// Input tokens.
    pub input_per_month: NonNegative,
    /// Output tokens.
    pub output_per_month: NonNegative,
}

impl DeclaredTokens {
    /// Demand of a mean hour.
    pub(super) fn mean_hour(self) -> HourTokens {
        let hourly = |tokens: NonNegative| {
            NonNegative::new(tokens.get() / HOURS_PER_MONTH).unwrap_or(NonNegative::ZERO)
        };
        HourTokens {
            input: hourly(self.input_per_month),
            output: hourly(self.output_per_month),
        }
    }
}

/// Tokens of one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HourTokens {
    /// Of prompts.
    pub input: NonNegative,
    /// Of answers.
    pub output: NonNegative,
}

/// For how many hours a decision is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct StepHours(u32);

impl StepHours {
    /// Between one hour and a day.
    pub fn new(hours: u32) -> Result<Self, TermsError> {
        if (1..=24).contains(&hours) {
            Ok(Self(hours))
        } else {
            Err(TermsError::StepLength(hours))
        }
    }

    /// The bare number.
    pub const fn get(self) -> u32 {
        self.0
    }

    pub(super) fn seconds(self) -> i64 {
        i64::from(self.0) * 3_600
    }

    /// Steps after which demand repeats: those of a day, or of a week where a step is a day.
    pub(super) fn season(self) -> usize {
        if self.0 == 24 {
            7
        } else {
            (24 / self.0).max(1) as usize
        }
    }

    /// Steps of a week, where that is another season than the shorter one.
    pub(super) fn week(self) -> Option<usize> {
        (24 % self.0 == 0 && self.0 < 24).then_some(168 / self.0 as usize)
    }
}

impl TryFrom<u32> for StepHours {
    type Error = TermsError;
    fn try_from(hours: u32) -> Result<Self, TermsError> {
        Self::new(hours)
    }
}

impl From<StepHours> for u32 {
    fn from(hours: StepHours) -> Self {
        hours.0
    }
}

/// Prices and offers of a step: all that is known of it when it begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepMarket {
    /// When the step begins.
    pub time: Timestamp,
    /// For how many hours the decision is held.
    pub hours: StepHours,
    /// Dollars for one hour of one replica.
    pub replica_usd_per_hour: NonNegative,
    /// Models that are offered, by name. A model that is not here cannot be used.
    pub offers: BTreeMap<String, TokenPrice>,
}

/// Price of a cloud model, in dollars for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenPrice {
    /// Of the input.
    pub input: NonNegative,
    /// Of the output.
    pub output: NonNegative,
}

/// A step that is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ObservedStep {
    /// What was known when it began.
    pub market: StepMarket,
    /// What was held for it.
    pub held: Split,
    /// Demand of each of its hours. Zero is no traffic; a step of which an hour is unknown is not observed.
    pub demand: Vec<HourTokens>,
}

//! What a target costs in a month: by the token in the cloud, in steps of whole replicas in the cluster, and by both where
//! the cloud takes what the replicas do not.

mod line;
mod mix;
mod replica;
mod token;

pub(crate) use line::{Line, Range, Step};
pub(crate) use mix::Mix;
pub(crate) use replica::{
    INPUT_WEIGHT_TENTHS, OUTPUT_WEIGHT_TENTHS, ReplicaCurve, ReplicaRate, ToCome, Work,
};
pub(crate) use token::TokenCurve;

use crate::snapshot::{DemandFigures, LoadCurve};
use crate::units::{MicroUsd, MicroUsdPerMillionTokens};

/// A year's hours by twelve.
pub(crate) const HOURS_PER_MONTH: u128 = 730;
pub(crate) const SECONDS_PER_MONTH: u128 = HOURS_PER_MONTH * 3_600;

/// An exact monthly cost: units of ten to the minus ten micro-USD, the product of a price per million tokens, a token
/// count and two percentages (cached share, share of long prompts), by the number of shares that work is cut into. Comparisons use it; what is shown is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ExactCost(pub(crate) u128);

/// Units of `ExactCost` in a micro-USD.
pub(crate) const EXACT_PER_MICRO: u128 = 10_000_000_000 * SHARES;
/// Shares of the work whose hours are told apart.
pub(crate) const SHARES: u128 = LoadCurve::SHARES as u128;

impl ExactCost {
    /// What `MicroUsd` can hold. A percentage of it still fits the integer.
    pub(crate) const MOST: Self = Self(MicroUsd::MAX.get() as u128 * EXACT_PER_MICRO);

    pub(crate) fn to_micro_usd(self) -> MicroUsd {
        MicroUsd::clamped((self.0 + EXACT_PER_MICRO / 2) / EXACT_PER_MICRO)
    }

    /// Cost of a million tokens when this buys the figures' prompts and answers for a month.
    pub(crate) fn per_million_tokens(
        self,
        figures: &DemandFigures,
    ) -> Option<MicroUsdPerMillionTokens> {
        let requests = u128::from(figures.requests_per_month?.get());
        let tokens = u128::from(figures.input_p50?.get() + figures.output_p50?.get()) * requests;
        if tokens == 0 {
            return None;
        }
        let per_million_at_once = EXACT_PER_MICRO / 1_000_000;
        let divisor = tokens * per_million_at_once;
        Some(MicroUsdPerMillionTokens::clamped(
            (self.0 + divisor / 2) / divisor,
        ))
    }
}

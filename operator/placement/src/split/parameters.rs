//! The parameters of the split: one setting for every workload.

use serde::{Deserialize, Serialize};

use crate::quantity::{NonNegative, Share};

/// How a split forecasts and chooses. The README of the crate says how the values were found and how flat their regions are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SplitParameters {
    /// How sharply a forecaster's weight falls with its loss: weight is exp(−rate · loss), loss in replicas.
    pub learning_rate: NonNegative,
    /// Share of a forecaster's loss that is left after one step; below 1 the best forecaster may change.
    pub loss_retention: Share,
    /// Share of the loss that is the cost of the decision the forecast would have led to; the rest is its plain error.
    pub regret_share: Share,
    /// Share of a past residual's weight that is left after one step.
    pub residual_retention: Share,
    /// Difference of level, as a share of the forecast, at which a past residual counts 1/e.
    pub level_bandwidth: NonNegative,
    /// Added to the forecast before that share is taken, in replicas, so that small levels resemble each other.
    pub level_floor: NonNegative,
    /// How much less a residual counts at the opposite time of the season: exp(−decay).
    pub phase_decay: NonNegative,
    /// Weight of a residual of zero, that is of the forecast itself. A recent residual weighs 1.
    pub forecast_weight: NonNegative,
    /// Share of the cost of adding a replica that is saved, when it is needed next, by keeping it or having it already.
    pub keep_share: Share,
    /// Weight of a season as a share of the weight of the season after it.
    pub season_retention: Share,
    /// Share of the regression's memory that is left after one step.
    pub regression_retention: Share,
    /// Strength of the regression's prior, which is that demand stays what it is.
    pub regression_ridge: NonNegative,
    /// Share of the token mix's memory that is left after one step.
    pub mix_retention: Share,
    /// Hours within which a change of model must pay back.
    pub payback_hours: NonNegative,
}

impl Default for SplitParameters {
    fn default() -> Self {
        Self {
            learning_rate: NonNegative::of(3.0),
            loss_retention: Share::of(0.93),
            regret_share: Share::of(0.5),
            residual_retention: Share::of(0.98),
            level_bandwidth: NonNegative::of(0.4),
            level_floor: NonNegative::of(0.1),
            phase_decay: NonNegative::of(3.5),
            forecast_weight: NonNegative::of(1.0),
            keep_share: Share::of(0.8),
            season_retention: Share::of(0.85),
            regression_retention: Share::of(0.985),
            regression_ridge: NonNegative::of(1.0),
            mix_retention: Share::of(0.97),
            payback_hours: NonNegative::of(720.0),
        }
    }
}

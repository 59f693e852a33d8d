//! The parameters of the split: one setting for every workload.

use serde::{Deserialize, Serialize};

/// How a split forecasts and chooses. The README of the crate says how the values were found and how flat their regions are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SplitParameters {
    /// How sharply a forecaster's weight falls with its loss: weight is exp(−rate · loss), loss in replicas.
    pub learning_rate: f64,
    /// Share of a forecaster's loss that is left after one step; below 1 the best forecaster may change.
    pub loss_retention: f64,
    /// Share of the loss that is the cost of the decision the forecast would have led to; the rest is its plain error.
    pub regret_share: f64,
    /// Share of a past residual's weight that is left after one step.
    pub residual_retention: f64,
    /// Difference of level, as a share of the forecast, at which a past residual counts 1/e.
    pub level_bandwidth: f64,
    /// Added to the forecast before that share is taken, in replicas, so that small levels resemble each other.
    pub level_floor: f64,
    /// How much less a residual counts at the opposite time of the season: exp(−decay).
    pub phase_decay: f64,
    /// Weight of a residual of zero, that is of the forecast itself. A recent residual weighs 1.
    pub forecast_weight: f64,
    /// Share of the cost of adding a replica that is saved, when it is needed next, by keeping it or having it already.
    pub keep_share: f64,
    /// Weight of a season as a share of the weight of the season after it.
    pub season_retention: f64,
    /// Share of the regression's memory that is left after one step.
    pub regression_retention: f64,
    /// Strength of the regression's prior, which is that demand stays what it is.
    pub regression_ridge: f64,
    /// Share of the token mix's memory that is left after one step.
    pub mix_retention: f64,
    /// Hours within which a change of model must pay back.
    pub payback_hours: f64,
}

impl Default for SplitParameters {
    fn default() -> Self {
        Self {
            learning_rate: 3.0,
            loss_retention: 0.93,
            regret_share: 0.5,
            residual_retention: 0.98,
            level_bandwidth: 0.4,
            level_floor: 0.1,
            phase_decay: 3.5,
            forecast_weight: 1.0,
            keep_share: 0.8,
            season_retention: 0.85,
            regression_retention: 0.985,
            regression_ridge: 1.0,
            mix_retention: 0.97,
            payback_hours: 720.0,
        }
    }
}

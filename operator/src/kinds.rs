//! Controllers of the kinds beside workloads: tiers, models, providers, price books.

pub mod models;
mod providers;
mod snapshot;
pub mod tiers;

use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::price_book;

/// Keeps the status of every tier, model, provider and price book right until `stop`.
pub async fn run(context: Context, stop: CancellationToken) {
    tokio::join!(
        tiers::run(context.clone(), stop.clone()),
        models::run(context.clone(), stop.clone()),
        providers::run(context.clone(), stop.clone()),
        price_book::controller::run(context, stop),
    );
}

//! The control API of the fakes, in plain HTTP: prices, failure modes, counters, what was sent.

use super::state::{Counters, FailureMode, Fakes, TokenPrices};
use axum::extract::{Query, State};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Routes of the control API.
pub fn router(fakes: Fakes) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/prices", get(prices).put(set_prices))
        .route("/prices-fail", put(set_prices_fail))
        .route("/modes", put(set_modes))
        .route("/counters", get(counters))
        .route("/bodies", get(bodies))
        .with_state(fakes)
}

async fn prices(State(fakes): State<Fakes>) -> Json<BTreeMap<String, TokenPrices>> {
    Json(fakes.lock().prices.clone())
}

/// Replaces the prices of the models named; `null` takes a model's row out of the feed.
async fn set_prices(
    State(fakes): State<Fakes>,
    Json(prices): Json<BTreeMap<String, Option<TokenPrices>>>,
) {
    let known = &mut fakes.lock().prices;
    for (model, price) in prices {
        match price {
            Some(price) => known.insert(model, price),
            None => known.remove(&model),
        };
    }
}

async fn set_prices_fail(State(fakes): State<Fakes>, Json(fail): Json<bool>) {
    fakes.lock().prices_fail = fail;
}

/// Replaces all failure modes; the model `*` stands for all.
async fn set_modes(State(fakes): State<Fakes>, Json(modes): Json<BTreeMap<String, FailureMode>>) {
    fakes.lock().modes = modes;
}

async fn counters(State(fakes): State<Fakes>) -> Json<Counters> {
    Json(fakes.lock().counters.clone())
}

#[derive(Deserialize)]
struct Text {
    text: String,
}

/// How many bodies hold a text.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Bodies that hold it.
    pub count: usize,
}

async fn bodies(State(fakes): State<Fakes>, Query(query): Query<Text>) -> Json<Seen> {
    Json(Seen {
        count: fakes.bodies_with(&query.text),
    })
}

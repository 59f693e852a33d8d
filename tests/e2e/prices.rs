//! Prices on a real API server: a row that vanishes is held until a person confirms it, and documents that are meant to do
//! harm take nothing from other books.

use crate::market;
use crate::world::{World, scenario};
use anyhow::{Context, Result, ensure};
use kube::Api;
use serde_json::{Value, json};
use std::time::Duration;
use weir_crds::condition::types;
use weir_crds::price_book::{Found, HeldPrice};
use weir_crds::{InferencePriceBook, names};
use weir_tests::fakes::bombs::Bomb;
use weir_tests::wait;

const BOOK: &str = "e2e-prices";
const KEPT: &str = "e2e-kept";
const GONE: &str = "e2e-gone";
/// A book is fetched every second; what it says is in status within this.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_row_that_vanishes_is_held_until_it_is_confirmed_and_bombs_take_no_time_of_others() {
    scenario("prices", async |world| {
        let outcome = lines(world).await;
        let kinds = "inferenceproviders,inferencepricebooks";
        let mut names: Vec<String> = Bomb::ALL.into_iter().map(bomb_book).collect();
        names.push(BOOK.to_owned());
        for name in &names {
            world.kubectl(&["delete", kinds, name, "--ignore-not-found"])?;
        }
        for model in [KEPT, GONE] {
            world.stack.fakes.remove_price(model).await?;
        }
        outcome
    });
}

async fn lines(world: &World) -> Result<()> {
    let fakes = &world.stack.fakes;
    for model in [KEPT, GONE] {
        fakes.set_price(model, (1.0, 2.0)).await?;
    }
    let feed = (fakes.prices_url.as_str(), "LiteLLM");
    world
        .stack
        .apply(&book(world, BOOK, &[KEPT, GONE], feed)?)?;
    believed(world, KEPT, Some("1")).await?;
    believed(world, GONE, Some("1")).await?;
    vanishes(world).await?;
    bombs(world).await
}

async fn vanishes(world: &World) -> Result<()> {
    let fakes = &world.stack.fakes;
    fakes.remove_price(GONE).await?;
    let held = wait::until("the lost row is held", SOON, || async {
        let status = status(world, BOOK).await?;
        let held = status.held.into_iter().find(|held| held.model == GONE);
        Ok(held.ok_or(status.conditions))
    })
    .await?;
    ensure!(
        held.found == Found::Nothing && held.read.is_none(),
        "{held:#?}"
    );
    // No other change of the book is lost meanwhile.
    fakes.set_price(KEPT, (1.25, 2.5)).await?;
    believed(world, KEPT, Some("1.25")).await?;
    believed(world, GONE, Some("1")).await?;
    confirm(world, &held)?;
    believed(world, GONE, None).await?;
    let status = status(world, BOOK).await?;
    ensure!(status.held.is_empty(), "{:#?}", status.held);
    Ok(())
}

fn confirm(world: &World, held: &HeldPrice) -> Result<()> {
    let annotation = format!("{}={}", names::ANNOTATION_CONFIRM_PRICES, held.revision);
    world
        .kubectl(&["annotate", "inferencepricebook", BOOK, &annotation])
        .map(drop)
}

async fn bombs(world: &World) -> Result<()> {
    let before = world.restarts()?;
    for bomb in Bomb::ALL {
        let url = world.stack.fakes.bomb_url(bomb);
        let source = (url.as_str(), bomb.format());
        world
            .stack
            .apply(&book(world, &bomb_book(bomb), &["m"], source)?)?;
    }
    for bomb in Bomb::ALL {
        wait::until("a bomb is refused", Duration::from_secs(60), || async {
            let status = status(world, &bomb_book(bomb)).await?;
            let mut conditions = status.conditions.iter();
            let refused = conditions.any(|it| {
                it.type_ == types::FETCHED && it.status == "False" && !it.message.is_empty()
            });
            Ok(if refused { Ok(()) } else { Err((bomb, status)) })
        })
        .await?;
    }
    // All four are fetched again and again.
    for price in ["1.5", "1.75", "2"] {
        let usd = price.parse().context("a price")?;
        world.stack.fakes.set_price(KEPT, (usd, 2.5)).await?;
        believed(world, KEPT, Some(price)).await?;
    }
    let after = world.restarts()?;
    ensure!(before == after, "{before} and then {after}");
    Ok(())
}

fn bomb_book(bomb: Bomb) -> String {
    format!("e2e-bomb-{}", bomb.name())
}

/// A book that is fetched every second, and a provider that wants these models of it.
fn book(
    world: &World,
    name: &str,
    models: &[&str],
    (url, format): (&str, &str),
) -> Result<Vec<Value>> {
    let mut book = market::example(world, "InferencePriceBook", name)?;
    book["spec"]["source"] = json!({"http": {
        "url": url, "format": format, "interval": "1s", "caBundle": world.stack.fakes.ca, "allowPrivateAddresses": true,
    }});
    let mut provider = market::example(world, "InferenceProvider", name)?;
    provider["spec"]["priceBookRef"]["name"] = json!(name);
    let model = |name: &&str| json!({"name": name, "contextTokens": 128_000});
    provider["spec"]["models"] = models.iter().map(model).collect();
    Ok(vec![book, provider])
}

async fn status(world: &World, book: &str) -> Result<weir_crds::InferencePriceBookStatus> {
    let api: Api<InferencePriceBook> = Api::all(world.stack.client.clone());
    Ok(api.get(book).await?.status.unwrap_or_default())
}

/// Waits until a model has this input price in the book's status, or none.
async fn believed(world: &World, model: &str, price: Option<&str>) -> Result<()> {
    wait::until("a price is believed", SOON, || async {
        let status = status(world, BOOK).await?;
        let mut prices = status.prices.iter();
        let found = prices.find(|entry| entry.model == model);
        let found = found.map(|entry| entry.tokens.input_usd_per_million_tokens.as_str());
        Ok(if found == price { Ok(()) } else { Err(status) })
    })
    .await
}

//! Price books by their controller, on a server that refuses what their schema refuses.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use weir_crds::price_book::PriceFormat;
use weir_operator::ca::ClientKeyRoot;
use weir_operator::client::Budget;
use weir_operator::clock::Clock;
use weir_operator::context::Context;
use weir_operator::events::Events;
use weir_operator::price_book::controller;
use weir_operator::stores::Stores;
use weir_operator::telemetry::Telemetry;
use weir_operator_core::price_book::parse;
use weir_simapi::{RequestInfo, SimApi};

use super::{eventually, metrics, server, settings};

const BOOKS: &str = "inferencepricebooks.inference.weir.dev";
const GROUP_VERSION: &str = "inference.weir.dev/v1alpha1";

/// What engines know of the root of the keys that open them.
const ENGINE_ROOT: &str = "3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08";

/// A row of an inline book.
fn row(model: &str, price: &str) -> Value {
    json!({"model": model, "inputUsdPerMillionTokens": price, "outputUsdPerMillionTokens": price})
}

fn book(name: &str, source: Value) -> Value {
    json!({"apiVersion": GROUP_VERSION, "kind": "InferencePriceBook", "metadata": {"name": name},
        "spec": {"source": source, "guard": {"confirmFor": "24h"}}})
}

fn inline(rows: &[Value]) -> Value {
    book("prices", json!({"inline": {"entries": rows}}))
}

/// A provider of these models, with prices of that book.
fn provider(book: &str, models: &[&str]) -> Value {
    let models: Vec<Value> = models.iter().map(|name| json!({"name": name})).collect();
    json!({"apiVersion": GROUP_VERSION, "kind": "InferenceProvider", "metadata": {"name": format!("of-{book}")},
        "spec": {"endpoint": "https://a.example/v1", "priceBookRef": {"name": book}, "models": models}})
}

/// The controller of price books, until the token is cancelled.
async fn operate(api: &SimApi) -> CancellationToken {
    let client = api.client("operator");
    let metrics = metrics();
    let (stores, mut tasks) = Stores::start(&client, "weir-system", &metrics);
    stores.wait_ready().await;
    let mut settings = settings("a");
    settings.debounce = Duration::from_millis(20);
    let context = Context {
        budget: Budget::start(10_000, 10_000, Arc::clone(&metrics)),
        clock: Clock::system(),
        settings: Arc::new(settings),
        stores,
        telemetry: Telemetry::new(Arc::clone(&metrics)),
        events: Events::start(client.clone(), "a", Arc::clone(&metrics)),
        metrics,
        client_keys: ClientKeyRoot::new([7; 32]),
        engine_root: ENGINE_ROOT.parse().expect("a public key"),
        client,
    };
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tasks.spawn(controller::run(context, stop.clone()));
    tokio::spawn(async move {
        stopped.cancelled().await;
        tasks.shutdown().await;
    });
    stop
}

fn status(api: &SimApi, name: &str) -> Value {
    api.object(BOOKS, "", name).unwrap_or_default()["status"].clone()
}

fn believed(api: &SimApi, model: &str) -> Option<Value> {
    let status = status(api, "prices");
    let mut prices = status["prices"].as_array()?.iter();
    let price = prices.find(|price| price["model"] == model)?;
    Some(price["inputUsdPerMillionTokens"].clone())
}

fn held(api: &SimApi, model: &str) -> Option<Value> {
    let status = status(api, "prices");
    let mut held = status["held"].as_array()?.iter();
    held.find(|held| held["model"] == model).cloned()
}

/// What a user changes of the book.
fn change(api: &SimApi, body: Value) {
    let request = RequestInfo {
        actor: "user".into(),
        verb: "patch".into(),
        group: "inference.weir.dev".into(),
        version: "v1alpha1".into(),
        resource: "inferencepricebooks".into(),
        name: "prices".into(),
        content_type: "application/merge-patch+json".into(),
        body,
        ..RequestInfo::default()
    };
    api.handle(&request).expect("is accepted");
}

fn reprice(api: &SimApi, rows: &[Value]) {
    change(
        api,
        json!({"spec": {"source": {"inline": {"entries": rows}}}}),
    );
}

fn confirm(api: &SimApi, revision: &Value) {
    let annotations = json!({"inference.weir.dev/confirm-prices": revision});
    change(api, json!({"metadata": {"annotations": annotations}}));
}

#[tokio::test]
async fn a_row_that_vanishes_is_held_confirmed_by_hand_and_removed_while_other_rows_change() {
    let api = server();
    api.seed(&provider("prices", &["kept", "gone"]))
        .expect("seeds");
    api.seed(&inline(&[row("kept", "1"), row("gone", "1")]))
        .expect("seeds");
    let stop = operate(&api).await;
    eventually("both are believed", async || {
        believed(&api, "gone") == Some(json!("1"))
    })
    .await;
    reprice(&api, &[row("kept", "1.5")]);
    eventually("the other row is taken", async || {
        believed(&api, "kept") == Some(json!("1.5"))
    })
    .await;
    let waiting = held(&api, "gone").expect("is held");
    assert_eq!(
        (&waiting["found"], &waiting["read"]),
        (&json!("Nothing"), &Value::Null)
    );
    assert_eq!(believed(&api, "gone"), Some(json!("1")));
    confirm(&api, &waiting["revision"]);
    eventually("it is removed", async || believed(&api, "gone").is_none()).await;
    assert_eq!(held(&api, "gone"), None);
    stop.cancel();
}

#[tokio::test]
async fn a_confirmation_holds_for_the_change_that_it_names_alone() {
    let api = server();
    api.seed(&provider("prices", &["m"])).expect("seeds");
    api.seed(&inline(&[row("m", "1")])).expect("seeds");
    let stop = operate(&api).await;
    eventually("it is believed", async || {
        believed(&api, "m") == Some(json!("1"))
    })
    .await;
    reprice(&api, &[row("m", "9")]);
    eventually("it is held", async || held(&api, "m").is_some()).await;
    let revision = held(&api, "m").expect("is held")["revision"].clone();
    confirm(&api, &json!("another, and another"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(believed(&api, "m"), Some(json!("1")));
    confirm(&api, &revision);
    eventually("it is believed at once", async || {
        believed(&api, "m") == Some(json!("9"))
    })
    .await;
    stop.cancel();
}

#[tokio::test]
async fn an_announced_price_is_used_from_its_moment_on() {
    let api = server();
    let begins = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(2);
    let begins = begins.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut announced = row("m", "1");
    announced["upcoming"] = json!([{"effectiveFrom": begins, "inputUsdPerMillionTokens": "1.5", "outputUsdPerMillionTokens": "1.5"}]);
    api.seed(&provider("prices", &["m"])).expect("seeds");
    api.seed(&inline(&[announced])).expect("seeds");
    let stop = operate(&api).await;
    eventually("it is used", async || {
        believed(&api, "m") == Some(json!("1.5"))
    })
    .await;
    stop.cancel();
}

/// Sixteen mebibytes each that are meant to fill memory or time.
#[tokio::test]
async fn a_book_that_grows_stale_says_so_in_its_conditions_and_by_an_event() {
    let api = server();
    let document = json!({"entries": [row("a", "1")]}).to_string();
    let source =
        json!({"configMapRef": {"name": "prices", "key": "prices.json", "format": "Weir"}});
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "prices", "namespace": "weir-system"}, "data": {"prices.json": document}});
    let mut book = book("prices", source);
    book["spec"]["staleAfter"] = "2s".into();
    for object in [map, book, provider("prices", &["a"])] {
        api.seed(&object).expect("seeds");
    }
    let stop = operate(&api).await;
    let fresh = || {
        let conditions = status(&api, "prices")["conditions"].clone();
        let mut conditions = conditions
            .as_array()
            .cloned()
            .unwrap_or_default()
            .into_iter();
        conditions
            .find(|it| it["type"] == "PriceFresh")
            .unwrap_or_default()
    };
    eventually("fresh", || async { fresh()["status"] == "True" }).await;
    let events = || {
        let events = api.objects("events.events.k8s.io", "");
        let stale = |event: &Value| event["reason"] == "PriceStale" && event["type"] == "Warning";
        events.into_iter().filter(stale).collect::<Vec<_>>()
    };
    assert_eq!(events(), Vec::<Value>::new());
    let maps: Api<ConfigMap> = Api::namespaced(api.client("user"), "weir-system");
    let deleted = maps.delete("prices", &DeleteParams::default()).await;
    deleted.expect("is deleted");
    eventually("stale", || async { fresh()["status"] == "False" }).await;
    eventually("told", || async { events().len() == 1 }).await;
    let (said, told) = (fresh(), events());
    assert_eq!(told[0]["note"], said["message"]);
    assert_eq!(told[0]["regarding"]["name"], "prices");
    // Prices stay what they were.
    assert_eq!(believed(&api, "a"), Some("1".into()));
    stop.cancel();
}

fn bombs() -> Vec<(&'static str, PriceFormat, String)> {
    const SIZE: usize = 16 << 20;
    let filled = |head: &str, part: &dyn Fn(usize) -> String, tail: &str| {
        let mut text = head.to_owned();
        let mut at = 0;
        while text.len() < SIZE - 64 {
            text.push_str(&part(at));
            at += 1;
        }
        text + tail
    };
    let alias =
        "entries: [&e {model: m, inputUsdPerMillionTokens: '1', outputUsdPerMillionTokens: '1'}";
    vec![
        (
            "aliases",
            PriceFormat::Weir,
            filled(alias, &|_| ", *e".to_owned(), "]"),
        ),
        (
            "tiny objects",
            PriceFormat::OpenRouter,
            filled(r#"{"data": [{}"#, &|_| ",{}".to_owned(), "]}"),
        ),
        (
            "tiny rows",
            PriceFormat::LiteLLM,
            filled(r#"{"a": {}"#, &|at| format!(r#","{at}":{{}}"#), "}"),
        ),
        (
            "a row of many fields",
            PriceFormat::LiteLLM,
            filled(r#"{"a": {"b": 1"#, &|at| format!(r#","{at}":1"#), "}}"),
        ),
        (
            "nested lists",
            PriceFormat::LiteLLM,
            filled(r#"{"a": "#, &|_| "[".to_owned(), ""),
        ),
        (
            "nested lists in YAML",
            PriceFormat::Weir,
            filled("entries: ", &|_| "[".to_owned(), ""),
        ),
        (
            "a long text",
            PriceFormat::LiteLLM,
            format!(
                r#"{{"a": {{"input_cost_per_token": "{}"}}}}"#,
                "9".repeat(10 << 20)
            ),
        ),
        (
            "a long name",
            PriceFormat::LiteLLM,
            format!(r#"{{"{}": {{}}}}"#, "9".repeat(10 << 20)),
        ),
    ]
}

const CHILD: &str = "price_books::a_process_that_parses_bombs";

/// Run by the test below in a process of its own, whose memory is looked at.
#[test]
#[ignore = "run by another test"]
fn a_process_that_parses_bombs() {
    for (name, format, text) in bombs() {
        let started = std::time::Instant::now();
        let outcome = parse::parse(format, &text);
        let error = outcome.expect_err(name).to_string();
        assert!(
            error.len() <= 1_024,
            "{name}: {} bytes of reason",
            error.len()
        );
        println!("{name}: {:?}, {error}", started.elapsed());
    }
    println!("peak {} KiB", peak_kibibytes());
}

/// The most memory that this process ever had.
fn peak_kibibytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let mut lines = status.lines();
    let peak = lines
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("a peak");
    let digits = peak.trim().trim_end_matches(" kB");
    digits.parse().expect("a number")
}

#[test]
fn documents_that_are_meant_to_fill_memory_do_not() {
    let program = std::env::current_exe().expect("this program");
    let mut child = std::process::Command::new(program);
    child.args([CHILD, "--exact", "--ignored", "--nocapture"]);
    let output = child.output().expect("runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{failed}");
    println!("{said}");
    let mut lines = said.lines();
    let peak = lines
        .find_map(|line| line.trim().strip_prefix("peak "))
        .expect("a peak");
    let peak: u64 = peak.trim_end_matches(" KiB").parse().expect("a number");
    // All texts are in memory at once beside what is made of them.
    assert!(peak < 256 << 10, "{peak} KiB");
}

//! Price feeds that were misread elsewhere, as public bug reports have them. The environment names their folder: they are
//! no part of the repository.

use std::fs;
use std::path::PathBuf;

use clap::Parser;
use kubectl_weir::cli::{Cli, Connection};
use kubectl_weir::cluster::Access;
use rstest::rstest;
use serde_json::{Value, json};

/// Tokens of a request, and the percentage of prompts that the provider's cache answers.
#[derive(Clone, Copy)]
struct Mix {
    input: u64,
    cached_percent: u64,
    output: u64,
}

const REQUESTS: u64 = 100_000;

fn case(name: &str) -> PathBuf {
    let folder = std::env::var_os("WEIR_CASES").expect("WEIR_CASES names the folder of cases");
    PathBuf::from(folder).join("prices").join(name)
}

async fn run(line: &[&str]) -> String {
    let arguments = ["kubectl-weir"].iter().chain(line);
    let cli = Cli::try_parse_from(arguments).expect("known flags");
    let nowhere = Access::Kubeconfig(Connection {
        kubeconfig: Some("/nowhere/kubeconfig".into()),
        ..Connection::default()
    });
    let now = "2026-03-01T12:00:00Z".parse().expect("a time");
    let answer = kubectl_weir::run(&cli, &nowhere, now).await;
    answer.expect("answers").output
}

/// The cloud's monthly cost in USD that is planned for a workload on a model of a case's feed.
async fn planned(name: &str, model: &str, mix: Mix) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let objects = folder.path().join("objects.json");
    let group = "inference.weir.dev/v1alpha1";
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": group, "kind": "InferencePriceBook", "metadata": {"name": "feed"},
            "spec": {"source": {"http": {"url": "https://prices.example.com/feed.json", "format": "LiteLLM"}}}},
        {"apiVersion": group, "kind": "InferenceProvider", "metadata": {"name": "acme"},
            "spec": {"endpoint": "https://api.example.com/v1", "jurisdiction": "EU", "priceBookRef": {"name": "feed"},
                "auth": {"secretRef": {"name": "acme", "key": "api-key"}},
                "models": [{"name": "served", "priceKey": model, "contextTokens": 200_000}]}},
        {"apiVersion": group, "kind": "InferencePlacementPolicy", "metadata": {"name": "default"}, "spec": {}},
        {"apiVersion": group, "kind": "InferenceWorkload", "metadata": {"name": "w", "namespace": "team"},
            "spec": {"dataPolicy": {"egress": "Allowed"},
                "demand": {"source": "Declared", "requestsPerMonth": REQUESTS, "inputTokens": {"p50": mix.input},
                    "outputTokens": {"p50": mix.output}, "cachedInputPercent": mix.cached_percent},
                "placement": {"policyRef": {"name": "default"}},
                "targets": [{"name": "cloud", "external": {"providerRef": {"name": "acme"}, "model": "served"}}]}},
    ]});
    fs::write(&objects, list.to_string()).expect("writes");
    let feed = case(name).join("feed.json");
    let paths = [&objects, &feed].map(|path| path.display().to_string());
    let line = [
        "plan", "w", "-n", "team", "-f", &paths[0], "--prices", &paths[1], "-o", "json",
    ];
    let plan: Value = serde_json::from_str(&run(&line).await).expect("JSON");
    let candidate = &plan[0]["decision"]["candidates"][0];
    let cost = candidate["monthlyCostUsd"].as_str();
    cost.and_then(|cost| cost.parse().ok())
        .unwrap_or_else(|| panic!("{candidate:#}"))
}

const SHORT: Mix = Mix {
    input: 1_000,
    cached_percent: 0,
    output: 100,
};
const LONG: Mix = Mix {
    input: 40_000,
    cached_percent: 0,
    output: 100,
};
const SMALL: Mix = Mix {
    input: 200,
    cached_percent: 0,
    output: 100,
};
const CACHED: Mix = Mix {
    input: 27_147,
    cached_percent: 99,
    output: 10,
};

/// What a request costs in USD, by hand. Prompts lie evenly around their median: of those of 40,000 tokens, 60 in 100 are
/// longer than 32,000.
#[rstest]
#[case::flat_beside_tiers("38-tiered-pricing-only-row", "acme/flat", SHORT, 1e3 * 5e-7 + 1e2 * 1.5e-6)]
#[case::first_tier("38-tiered-pricing-only-row", "acme/tiered", SHORT, 1e3 * 4e-7 + 1e2 * 1.2e-6)]
#[case::second_tier("38-tiered-pricing-only-row", "acme/tiered", LONG, 0.6 * (4e4 * 8e-7 + 1e2 * 2.4e-6) + 0.4 * (4e4 * 4e-7 + 1e2 * 1.2e-6))]
#[case::fee("40-per-request-fee", "acme/search", SMALL, 0.005 + 3e2 * 1e-6)]
#[case::no_fee("40-per-request-fee", "acme/plain", SMALL, 3e2 * 2e-6)]
#[case::cheap_reasoning("41-reasoning-price", "acme/deep", SHORT, 1e3 * 2e-6 + 1e2 * 8e-6)]
#[case::dear_reasoning("41-reasoning-price", "acme/deep-dear", SHORT, 1e3 * 2e-6 + 1e2 * 2e-5)]
#[case::no_cache_price("43-no-cache-price-row", "acme/nocache", CACHED, 27_147.0 * 1.4e-6 + 1e1 * 4.4e-6)]
#[tokio::test]
async fn a_feed_costs_what_its_provider_bills(
    #[case] name: &str,
    #[case] model: &str,
    #[case] mix: Mix,
    #[case] request_usd: f64,
) {
    let planned = planned(name, model, mix).await;
    let billed = request_usd * REQUESTS as f64;
    assert!(
        (planned - billed).abs() <= 0.01,
        "{planned} and not {billed}"
    );
}

/// Nobody meters how much of what the cache does not answer is written into it: all of it is counted, which is the bill at
/// its highest.
#[tokio::test]
async fn writes_of_a_prompt_cache_are_counted_and_never_less_than_the_bill() {
    let name = "42-cache-write-price";
    let usage = fs::read_to_string(case(name).join("usage.json")).expect("a case");
    let usage: Value = serde_json::from_str(&usage).expect("JSON");
    let tokens = |value: &Value| value.as_u64().expect("a number") as f64;
    let (prompt, output) = (
        tokens(&usage["prompt_tokens"]),
        tokens(&usage["completion_tokens"]),
    );
    let details = &usage["prompt_tokens_details"];
    let (cached, written) = (
        tokens(&details["cached_tokens"]),
        tokens(&details["cache_write_tokens"]),
    );
    let read = prompt - cached - written;
    let billed = read * 5e-6 + cached * 5e-7 + written * 6.25e-6 + output * 2.5e-5;
    let at_most = (read + written) * 6.25e-6 + cached * 5e-7 + output * 2.5e-5;
    let mix = Mix {
        input: prompt as u64,
        cached_percent: 90,
        output: output as u64,
    };
    // Shares of a cache are whole percents: 90 of the 90.1 that were observed.
    let rounded = (0.901_163 - 0.9) * prompt * (6.25e-6 - 5e-7);
    let planned = planned(name, "acme/cached", mix).await / REQUESTS as f64;
    assert!(planned >= billed, "{planned} is less than {billed}");
    assert!(
        planned <= at_most + rounded + 1e-6,
        "{planned} is more than {at_most}"
    );
}

/// No row of any case is lost in silence.
#[tokio::test]
async fn every_row_of_every_case_is_read() {
    let folder = case("");
    let mut cases = 0;
    for entry in fs::read_dir(&folder).expect("a folder of cases") {
        let feed = entry.expect("an entry").path().join("feed.json");
        let text = fs::read_to_string(&feed).expect("every case has a feed");
        let rows: Value = serde_json::from_str(&text).expect("JSON");
        let expected = match rows["data"].as_array() {
            Some(rows) => rows.len(),
            None => rows.as_object().expect("rows").len(),
        };
        let nothing = tempfile::NamedTempFile::new().expect("a file");
        fs::write(
            nothing.path(),
            r#"{"other": {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}}"#,
        )
        .expect("writes");
        let paths = [nothing.path(), &feed].map(|path| path.display().to_string());
        let output = run(&["price", "diff", &paths[0], &paths[1]]).await;
        let added = output.matches("acme/").count();
        assert_eq!(added, expected, "{}: {output}", feed.display());
        cases += 1;
    }
    assert!(cases >= 5, "{cases} cases");
}

//! The table of malformed resources.

use super::Expected::{self, Refused, Reported};
use super::NAMESPACE;
use super::feeds::Feeds;
use crate::world::World;
use anyhow::{Context, Result};
use serde_json::{Value, json};

/// A resource and what must come of it.
pub struct Case {
    /// What is wrong, in a few words.
    pub what: &'static str,
    /// Objects that are applied before.
    pub before: Vec<Value>,
    /// A condition of the first of them, and its status, to wait for.
    pub until: Option<(&'static str, &'static str)>,
    /// The malformed one.
    pub object: Value,
    /// What must come of it.
    pub expected: Expected,
}

/// All of them.
pub fn all(world: &World, feeds: &Feeds) -> Result<Vec<Case>> {
    let mut cases = workloads(world)?;
    cases.extend(books(world, feeds));
    cases.extend(others(world)?);
    Ok(cases)
}

fn case(what: &'static str, object: Value, expected: Expected) -> Case {
    Case {
        what,
        before: Vec::new(),
        until: None,
        object,
        expected,
    }
}

fn base(world: &World, kind: &str) -> Result<Value> {
    let found = world
        .examples
        .fleet
        .iter()
        .find(|object| object["kind"] == kind);
    Ok(found.with_context(|| format!("no example {kind}"))?.clone())
}

/// The object under a name of the case's own, with one value changed.
fn with(mut object: Value, name: &str, pointer: &str, value: Value) -> Value {
    object["metadata"]["name"] = json!(name);
    object["metadata"]["labels"] = json!({"e2e.weir/case": "malformed"});
    set(&mut object, pointer, value);
    object
}

fn set(object: &mut Value, pointer: &str, value: Value) {
    let mut place = object;
    for part in pointer.split('/') {
        place = match part.parse::<usize>() {
            Ok(index) => &mut place[index],
            Err(_) => &mut place[part],
        };
    }
    *place = value;
}

fn workloads(world: &World) -> Result<Vec<Case>> {
    let private = |name: &str, pointer: &str, value: Value| -> Result<Value> {
        Ok(with(
            world.like("private", (NAMESPACE, name))?,
            name,
            pointer,
            value,
        ))
    };
    let hybrid = |name: &str, pointer: &str, value: Value| -> Result<Value> {
        Ok(with(
            world.like("hybrid", (NAMESPACE, name))?,
            name,
            pointer,
            value,
        ))
    };
    let external = json!({"providerRef": {"name": "acme"}, "model": "acme-small"});
    let two = json!([{"name": "a", "external": external}, {"name": "a", "external": external}]);
    let mut cases = vec![
        case(
            "an enum's unknown value",
            private("enum", "spec/dataPolicy/egress", json!("Sometimes"))?,
            Refused("Unsupported value: \"Sometimes\""),
        ),
        case(
            "both local and external",
            hybrid("both", "spec/targets/0/external", external.clone())?,
            Refused("exactly one of local and external"),
        ),
        case(
            "external although egress is Forbidden",
            hybrid("leak", "spec/dataPolicy/egress", json!("Forbidden"))?,
            Refused("no target may be external"),
        ),
        case(
            "an unknown pinned target",
            private(
                "pinned",
                "spec/placement",
                json!({"mode": "Pinned", "pinnedTarget": "moon"}),
            )?,
            Refused("must be the name of one of the targets"),
        ),
        case(
            "least replicas above most",
            private(
                "replicas",
                "spec/targets/0/local/scaling",
                json!({"minReplicas": 3, "maxReplicas": 2}),
            )?,
            Refused("minReplicas must not exceed maxReplicas"),
        ),
        case(
            "p50 above p95",
            private(
                "quantiles",
                "spec/demand/inputTokens",
                json!({"p50": 900, "p95": 40}),
            )?,
            Refused("p50 must not exceed p95"),
        ),
        case(
            "a name of 64 characters",
            private(&"n".repeat(64), "spec/suspend", json!(false))?,
            Refused("at most 63 characters"),
        ),
        case(
            "a huge number of requests",
            private(
                "requests",
                "spec/demand/requestsPerMonth",
                json!(9_000_000_000_000_000_000_u64),
            )?,
            Refused("requestsPerMonth"),
        ),
        case(
            "a negative number of requests",
            private("negative", "spec/demand/requestsPerMonth", json!(-5))?,
            Refused("requestsPerMonth"),
        ),
        case(
            "a duration in words",
            private(
                "duration",
                "spec/traffic/drain/timeout",
                json!("ten minutes"),
            )?,
            Refused("spec.traffic.drain.timeout"),
        ),
        case(
            "an error share that is NaN",
            private("share", "spec/traffic/canary/maxErrorPercent", json!("NaN"))?,
            Refused("maxErrorPercent"),
        ),
        case(
            "two targets of one name",
            hybrid("twins", "spec/targets", two)?,
            Refused("duplicate"),
        ),
        case(
            "an unknown field",
            private("field", "spec/targets/0/local/gpuCount", json!(2))?,
            Refused("gpuCount"),
        ),
        case(
            "a missing model",
            private(
                "no-model",
                "spec/targets/0/local/modelRef/name",
                json!("nowhere"),
            )?,
            Reported("ResolvedRefs", "False", &["ReferenceMissing"]),
        ),
        case(
            "a missing tier",
            private("no-tier", "spec/targets/0/local/tiers", json!(["nowhere"]))?,
            Reported("ResolvedRefs", "False", &["ReferenceMissing"]),
        ),
        case(
            "a missing provider",
            hybrid(
                "no-provider",
                "spec/targets",
                json!([{"name": "cloud", "external": {"providerRef": {"name": "nowhere"}, "model": "m"}}]),
            )?,
            Reported("ResolvedRefs", "False", &["ReferenceMissing"]),
        ),
        case(
            "a model that the provider has not",
            hybrid(
                "not-offered",
                "spec/targets",
                json!([{"name": "cloud", "external": {"providerRef": {"name": "acme"}, "model": "m"}}]),
            )?,
            Reported("ResolvedRefs", "False", &["ModelNotOffered"]),
        ),
        case(
            "resources that are no quantities",
            private(
                "resources",
                "spec/targets/0/local/podTemplate",
                json!({"resources": {"limits": {"memory": "1e400000Gi"}}}),
            )?,
            Reported("Accepted", "False", &["InvalidSpec"]),
        ),
        case(
            "negative resources",
            private(
                "less",
                "spec/targets/0/local/podTemplate",
                json!({"resources": {"requests": {"memory": "-1Gi"}}}),
            )?,
            Reported("Accepted", "False", &["InvalidSpec"]),
        ),
    ];
    let mut changed = private("changed", "spec/dataPolicy/egress", json!("Allowed"))?;
    cases.push(Case {
        what: "egress changed after creation",
        before: vec![private(
            "changed",
            "spec/dataPolicy/egress",
            json!("Forbidden"),
        )?],
        ..case(
            "",
            changed.clone(),
            Refused("dataPolicy.egress is immutable"),
        )
    });
    let mut omitted = private("omitted", "spec/suspend", json!(false))?;
    omitted["spec"]
        .as_object_mut()
        .context("a spec")?
        .remove("dataPolicy");
    changed["metadata"]["name"] = json!("omitted");
    cases.push(Case {
        what: "dataPolicy omitted, and Allowed later",
        before: vec![omitted],
        ..case("", changed, Refused("dataPolicy.egress is immutable"))
    });
    let mut forever = hybrid(
        "forever",
        "spec/traffic/drain/timeout",
        json!("999999d999999d999999d999999d"),
    )?;
    set(
        &mut forever,
        "spec/traffic/canary/steps",
        json!([{"weight": 1, "pause": "999999d"}]),
    );
    set(
        &mut forever,
        "spec/targets/0/local/scaling/idleAfter",
        json!("999999d999999d"),
    );
    cases.push(case(
        "durations of millennia",
        forever,
        Reported("Accepted", "True", &["Accepted"]),
    ));
    Ok(cases)
}

fn inline(name: &str, entries: Value) -> Value {
    json!({
        "apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferencePriceBook",
        "metadata": {"name": name, "labels": {"e2e.weir/case": "malformed"}},
        "spec": {"source": {"inline": {"entries": entries}}},
    })
}

fn entry(input: &str) -> Value {
    json!({"model": "m", "inputUsdPerMillionTokens": input, "outputUsdPerMillionTokens": "1"})
}

/// A provider that makes the book's prices matter.
fn reader(world: &World, book: &str) -> Value {
    let provider = base(world, "InferenceProvider").unwrap_or_default();
    let mut provider = with(provider, book, "spec/priceBookRef", json!({"name": book}));
    set(&mut provider, "spec/models", json!([{"name": "m"}]));
    provider
}

fn books(world: &World, feeds: &Feeds) -> Vec<Case> {
    let decimal = "inputUsdPerMillionTokens";
    let mut cases = vec![
        case(
            "a price that is NaN",
            inline("nan", json!([entry("NaN")])),
            Refused(decimal),
        ),
        case(
            "a negative price",
            inline("minus", json!([entry("-1")])),
            Refused(decimal),
        ),
        case(
            "a price with an exponent",
            inline("exponent", json!([entry("1e3")])),
            Refused(decimal),
        ),
        case(
            "a price of twenty digits",
            inline("digits", json!([entry("99999999999999999999")])),
            Refused(decimal),
        ),
        case(
            "two prices of one model",
            inline("twice", json!([entry("1"), entry("2")])),
            Refused("duplicate"),
        ),
    ];
    let mut both = inline("sources", json!([entry("1")]));
    both["spec"]["source"]["configMapRef"] = json!({"name": "prices", "key": "prices.yaml"});
    cases.push(case(
        "two sources",
        both,
        Refused("exactly one of inline, configMapRef and http"),
    ));
    let map = json!({"configMapRef": {"name": "nowhere", "key": "prices.yaml"}});
    let book = with(inline("no-map", json!([])), "no-map", "spec/source", map);
    cases.push(case(
        "a missing ConfigMap",
        book,
        Reported("Fetched", "False", &["ConfigMapMissing"]),
    ));
    cases.push(Case {
        what: "an inline price that becomes a thousand times as much",
        before: vec![inline("jump", json!([entry("2.8")])), reader(world, "jump")],
        until: Some(("Ready", "True")),
        ..case(
            "",
            inline("jump", json!([entry("2800")])),
            Reported("Trusted", "False", &["PriceSuspect"]),
        )
    });

    let http = |name: &str, path: &str, ca: &str, private: bool| {
        let source = json!({"http": {
            "url": format!("{}{path}", feeds.url), "format": "LiteLLM", "interval": "1s", "caBundle": ca, "allowPrivateAddresses": private,
        }});
        with(inline(name, json!([])), name, "spec/source", source)
    };
    let mut plain = http("plain", "/html", &feeds.ca, true);
    set(
        &mut plain,
        "spec/source/http/url",
        json!("http://prices.example.com/prices.json"),
    );
    cases.push(case(
        "a feed without TLS",
        plain,
        Refused("url must be an https URL"),
    ));
    cases.push(case(
        "a garbled caBundle",
        http("ca", "/html", "no certificate", true),
        Refused("caBundle must hold certificates in PEM"),
    ));
    let read: [(&str, &str, &str, Expected); 10] = [
        (
            "a feed in USD per thousand tokens",
            "thousandfold",
            "/thousandfold",
            Reported("Trusted", "False", &["PriceSuspect"]),
        ),
        (
            "a feed in USD per million tokens",
            "per-million",
            "/per-million",
            Reported("Trusted", "False", &["PriceSuspect"]),
        ),
        (
            "a feed of zeros",
            "zero",
            "/zero",
            Reported("Trusted", "False", &["PriceSuspect"]),
        ),
        (
            "a feed with negative prices",
            "below",
            "/negative",
            Reported("Fetched", "False", &["DocumentInvalid"]),
        ),
        (
            "a feed with NaN",
            "feed-nan",
            "/nan",
            Reported("Fetched", "False", &["DocumentInvalid"]),
        ),
        (
            "a feed that breaks off",
            "truncated",
            "/truncated",
            Reported("Fetched", "False", &["DocumentInvalid"]),
        ),
        (
            "a feed that is a web page",
            "html",
            "/html",
            Reported("Fetched", "False", &["DocumentInvalid"]),
        ),
        (
            "a feed that points elsewhere",
            "redirect",
            "/redirect",
            Reported("Fetched", "False", &["ServerError"]),
        ),
        (
            "a feed that is no text",
            "binary",
            "/binary",
            Reported("Fetched", "False", &["Unreachable"]),
        ),
        (
            "a feed of 17 MiB",
            "huge",
            "/huge",
            Reported("Fetched", "False", &["DocumentTooLarge"]),
        ),
    ];
    for (what, name, path, expected) in read {
        let book = http(name, path, &feeds.ca, true);
        cases.push(Case {
            what,
            before: vec![reader(world, name)],
            ..case("", book, expected)
        });
    }
    cases.push(case(
        "a feed of another authority",
        http("other-ca", "/zero", &feeds.other_ca, true),
        Reported("Fetched", "False", &["Unreachable"]),
    ));
    cases.push(case(
        "a feed at a private address",
        http("inside", "/zero", &feeds.ca, false),
        Reported("Fetched", "False", &["PrivateAddress"]),
    ));
    cases
}

fn others(world: &World) -> Result<Vec<Case>> {
    let model = |name: &str, pointer: &str, value: Value| -> Result<Value> {
        Ok(with(base(world, "ModelProfile")?, name, pointer, value))
    };
    let provider = |name: &str, pointer: &str, value: Value| -> Result<Value> {
        Ok(with(
            base(world, "InferenceProvider")?,
            name,
            pointer,
            value,
        ))
    };
    let tier = |name: &str, pointer: &str, value: Value| -> Result<Value> {
        let tiers = world.examples.fleet.iter();
        let found = tiers.filter(|object| object["kind"] == "GPUTier").nth(1);
        Ok(with(
            found.context("a second tier")?.clone(),
            name,
            pointer,
            value,
        ))
    };
    Ok(vec![
        case(
            "a model from s3",
            model("s3", "spec/source", json!("s3://bucket/model.gguf"))?,
            Refused("other schemes are not supported"),
        ),
        case(
            "a model outside of its claim",
            model(
                "dots",
                "spec/source",
                json!("pvc://models/../secret/model.gguf"),
            )?,
            Refused("without .."),
        ),
        case(
            "a SHA-256 of the wrong length",
            model("sum", "spec/sha256", json!("abc123"))?,
            Refused("spec.sha256"),
        ),
        case(
            "memory that is no amount",
            model("memory", "spec/memory", json!("lots"))?,
            Refused("spec.memory"),
        ),
        case(
            "a provider without TLS",
            provider("plain", "spec/endpoint", json!("http://api.example.com/v1"))?,
            Refused("endpoint must be an https URL"),
        ),
        case(
            "a provider with a password in its URL",
            provider(
                "user",
                "spec/endpoint",
                json!("https://user:secret@api.example.com/v1"),
            )?,
            Refused("endpoint must be an https URL"),
        ),
        case(
            "a provider without its price book",
            provider("no-book", "spec/priceBookRef/name", json!("nowhere"))?,
            Reported(
                "ResolvedRefs",
                "False",
                &["PriceBookMissing", "ReferenceMissing"],
            ),
        ),
        case(
            "a part of an accelerator",
            tier("part", "spec/resource/count", json!("250m"))?,
            Refused("accelerators are counted whole"),
        ),
        case(
            "a replica that takes nothing",
            tier("nothing", "spec/resource/count", json!("0"))?,
            Refused("must be a whole number of at least 1"),
        ),
        case(
            "both bought and rented",
            tier("cost", "spec/cost/rented", json!({"usdPerHour": "1"}))?,
            Refused("exactly one of owned and rented"),
        ),
    ])
}

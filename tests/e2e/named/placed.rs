//! Cases in which one side wins: each is placed, decided for its own reason, and answers from where it should.

use super::{ask, clear, decision, model, monthly, run_on, tier};
use crate::market;
use crate::world::{World, scenario};
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weir_crds::decision::Decision;
use weir_tests::stack::PRICE_HIGH;

const NAMESPACE: &str = "e2e-placed";
/// Names the tier, the model, the market and its policy.
const NAME: &str = "placed";
const EDGE: &str = "placed-edge";
const DEAR_WORK: &str = "placed-dear-work";
const CANARY: &str = "quokka-4471";
const TENANTS: usize = 10;

/// A workload and what must become of it.
struct Case {
    name: String,
    spec: Value,
    target: &'static str,
    reason: &'static str,
    /// Why the other target is out; nothing where it only costs more, or is not there.
    rejected: Option<(&'static str, &'static str)>,
}

#[test]
fn one_side_wins() {
    scenario("placed", async |world| {
        prepare(world)?;
        let cases = cases(world)?;
        let objects: Vec<Value> = cases.iter().map(workload).collect();
        world.stack.apply(&objects)?;
        for case in &cases {
            holds(world, case).await?;
        }
        let sandbox = decision(world, (NAMESPACE, "development-sandbox")).await?;
        let costed = decision(world, (NAMESPACE, "development-sandbox-costed")).await?;
        let work = monthly(&costed, "local")? - monthly(&sandbox, "local")?;
        ensure!(
            (work - 500.0).abs() < 0.01,
            "{work} USD of work, not 500, tell the two sandboxes apart"
        );
        let seen = world.stack.fakes.bodies_with(CANARY).await?;
        ensure!(seen == 0, "the cloud was sent {seen} private prompts");
        clear(world, NAMESPACE, NAME)?;
        world
            .kubectl(&["delete", "inferenceplacementpolicies", EDGE, DEAR_WORK])
            .map(drop)
    });
}

fn workload(case: &Case) -> Value {
    json!({
        "apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferenceWorkload",
        "metadata": {"namespace": NAMESPACE, "name": case.name},
        "spec": case.spec,
    })
}

async fn holds(world: &World, case: &Case) -> Result<()> {
    let name = (NAMESPACE, case.name.as_str());
    world.settled(name, case.target).await?;
    let decision = decision(world, name).await?;
    ensure!(
        decision.reason == case.reason,
        "{}: {decision:#?}",
        case.name
    );
    if let Some((target, reason)) = case.rejected {
        ensure!(is_rejected(&decision, target, reason), "{decision:#?}");
    }
    if case.reason == "OnlyFeasibleTarget" {
        let none = decision.break_even_requests_per_month.is_none();
        ensure!(none, "a break-even with one side: {decision:#?}");
    }
    let about = if case.name == "privacy-bound-enterprise" {
        CANARY
    } else {
        "a fox"
    };
    let location = if case.target == "local" {
        "Local"
    } else {
        "External"
    };
    let endpoint = world.stack.endpoint(NAMESPACE, &case.name).await?;
    let answer = ask(&endpoint, about).await?;
    ensure!(
        answer.location == location && answer.target == case.target,
        "{}: {answer:#?}",
        case.name
    );
    println!("placed: {}: {}", case.name, decision.message);
    Ok(())
}

fn is_rejected(decision: &Decision, target: &str, reason: &str) -> bool {
    let mut candidates = decision.candidates.iter();
    candidates.any(|candidate| {
        let mut gates = candidate.rejected_by.iter();
        candidate.name == target && gates.any(|gate| gate.reason == reason)
    })
}

/// Local costs 29.20 USD for the replica and 20.80 for the work, a month; the cloud 0.224 USD for a thousand requests.
fn cases(world: &World) -> Result<Vec<Case>> {
    let hybrid = |requests: u64| -> Result<Value> {
        let mut workload = world.like("hybrid", (NAMESPACE, NAME))?;
        run_on(&mut workload, NAME, NAME);
        let spec = &mut workload["spec"];
        market::use_it(spec, NAME);
        spec["demand"]["requestsPerMonth"] = json!(requests);
        spec["targets"][0]["local"]["scaling"] =
            json!({"minReplicas": 0, "maxReplicas": 1, "idleAfter": "15m"});
        Ok(workload["spec"].clone())
    };
    let mut cases = Vec::new();
    let mut add = |name: &str, spec: Value, target, reason, rejected| {
        cases.push(Case {
            name: name.to_owned(),
            spec,
            target,
            reason,
            rejected,
        });
    };

    add(
        "always-on-assistant",
        hybrid(600_000)?,
        "local",
        "LowerCost",
        None,
    );

    let mut private = world.like("private", (NAMESPACE, NAME))?;
    run_on(&mut private, NAME, NAME);
    let mut private = private["spec"].clone();
    private["placement"]["policyRef"]["name"] = json!(NAME);
    private["demand"]["requestsPerMonth"] = json!(10);
    add(
        "privacy-bound-enterprise",
        private,
        "local",
        "OnlyFeasibleTarget",
        None,
    );

    let mut edge = hybrid(1_000)?;
    edge["placement"]["policyRef"]["name"] = json!(EDGE);
    let unreachable = Some(("cloud", "Disconnected"));
    add(
        "edge-disconnected",
        edge,
        "local",
        "OnlyFeasibleTarget",
        unreachable,
    );

    let mut sandbox = hybrid(200_000)?;
    sandbox["placement"]["policyRef"]["name"] = json!(DEAR_WORK);
    add(
        "development-sandbox-costed",
        sandbox.clone(),
        "cloud",
        "LowerCost",
        None,
    );
    sandbox["operations"]["selfHosting"] = json!("Free");
    add("development-sandbox", sandbox, "local", "LowerCost", None);

    let mut frontier = world.like("frontier", (NAMESPACE, NAME))?;
    run_on(&mut frontier, NAME, NAME);
    let mut frontier = frontier["spec"].clone();
    market::use_it(&mut frontier, NAME);
    let incapable = Some(("local", "CapabilityMissing"));
    add(
        "frontier-capability",
        frontier,
        "cloud",
        "OnlyFeasibleTarget",
        incapable,
    );

    let mut bursty = hybrid(20_000)?;
    bursty["demand"]["pattern"] = json!("Bursty");
    add("bursty-low-average", bursty, "cloud", "LowerCost", None);

    for tenant in 0..TENANTS {
        let name = format!("multi-tenant-below-amortization-{tenant}");
        add(&name, hybrid(20_000)?, "cloud", "LowerCost", None);
    }

    let mut idle_hands = hybrid(600_000)?;
    idle_hands["operations"]["selfHosting"] = json!("Forbidden");
    let unhosted = Some(("local", "SelfHostingForbidden"));
    add(
        "no-ops-capacity",
        idle_hands,
        "cloud",
        "OnlyFeasibleTarget",
        unhosted,
    );

    let mut wrapper = hybrid(600_000)?;
    let cloud = wrapper["targets"][1].clone();
    wrapper["targets"] = json!([cloud]);
    add("thin-wrapper", wrapper, "cloud", "OnlyFeasibleTarget", None);
    Ok(cases)
}

fn prepare(world: &World) -> Result<()> {
    world.namespace_with_model(NAMESPACE)?;
    let mut objects = market::objects(world, NAME, PRICE_HIGH)?;
    let policy = |name: &str| market::example(world, "InferencePlacementPolicy", name);
    let mut edge = policy(EDGE)?;
    edge["spec"]["connectivity"] = json!("Disconnected");
    let mut dear_work = policy(DEAR_WORK)?;
    dear_work["spec"]["operationsUsdPerMonth"] = json!("500");
    objects.extend([edge, dear_work, tier(NAME), model(world, NAME, NAME)?]);
    world.stack.apply(&objects)
}

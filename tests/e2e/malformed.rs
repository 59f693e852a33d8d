//! Malformed resources: each is refused by the API server, or reported by a condition.

mod cases;
mod feeds;

use crate::world::{World, scenario};
use anyhow::{Context, Result, ensure};
use cases::Case;
use serde_json::Value;
use std::time::Duration;
use weir_tests::wait;

const NAMESPACE: &str = "e2e-malformed";

/// What must come of a resource.
#[derive(Debug, Clone)]
pub enum Expected {
    /// The API server refuses it, and says this.
    Refused(&'static str),
    /// It is admitted, and this condition of it has this status and one of these reasons.
    Reported(&'static str, &'static str, &'static [&'static str]),
}

#[test]
fn malformed_resources_are_refused_or_reported_and_panic_nothing() {
    scenario("malformed", async |world| {
        let restarts = world.restarts()?;
        world.namespace_with_model(NAMESPACE)?;
        let feeds = feeds::serve(world).await?;
        let cases = cases::all(world, &feeds)?;
        ensure!(cases.len() >= 20, "only {} cases", cases.len());
        let mut wrong = Vec::new();
        let (mut refused, mut reported) = (0, 0);
        for case in &cases {
            match check(world, case).await {
                Ok(()) if matches!(case.expected, Expected::Refused(_)) => refused += 1,
                Ok(()) => reported += 1,
                Err(error) => wrong.push(format!("{}: {error:#}", case.what)),
            }
        }
        println!(
            "malformed: {refused} refused by the API server, {reported} reported by a condition"
        );
        ensure!(
            wrong.is_empty(),
            "{} of {} cases came out otherwise: {wrong:#?}",
            wrong.len(),
            cases.len()
        );
        world.nothing_panicked()?;
        let after = world.restarts()?;
        ensure!(
            restarts == after,
            "containers were restarted: {restarts} → {after}"
        );
        world.clear(NAMESPACE)?;
        for kind in [
            "inferenceproviders",
            "inferencepricebooks",
            "gputiers",
            "modelprofiles",
        ] {
            world.kubectl(&["delete", kind, "-l", "e2e.weir/case=malformed"])?;
        }
        Ok(())
    });
}

async fn check(world: &World, case: &Case) -> Result<()> {
    for object in &case.before {
        world
            .stack
            .apply(std::slice::from_ref(object))
            .context("what comes before it")?;
    }
    if let Some((condition, status)) = case.until {
        let first = case.before.first().context("a condition of nothing")?;
        let there = |(_, is, _): &(String, String, String)| is == status;
        reported(world, first, condition, there).await?;
    }
    let applied = world.stack.apply(std::slice::from_ref(&case.object));
    match (&case.expected, applied) {
        (Expected::Refused(message), Err(error)) => {
            let text = format!("{error:#}");
            ensure!(
                text.contains(message),
                "refused, but not for {message:?}: {text}"
            );
            Ok(())
        }
        (Expected::Refused(message), Ok(())) => anyhow::bail!("admitted; {message:?} was expected"),
        (Expected::Reported(..), Err(error)) => Err(error.context("refused by the API server")),
        (Expected::Reported(condition, status, reasons), Ok(())) => {
            let there = |(_, is, reason): &(String, String, String)| {
                is == status && reasons.contains(&reason.as_str())
            };
            reported(world, &case.object, condition, there).await
        }
    }
}

/// Waits until a condition of an object is as wanted: type, status, reason.
async fn reported(
    world: &World,
    object: &Value,
    condition: &str,
    there: impl Fn(&(String, String, String)) -> bool,
) -> Result<()> {
    let kind = object["kind"].as_str().unwrap_or_default();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let what = format!("{kind} {name} reports {condition}");
    wait::until(&what, Duration::from_secs(30), || async {
        let printed = world.kubectl(&["-n", NAMESPACE, "get", kind, name, "-o", "json"])?;
        let now: Value = serde_json::from_str(&printed)?;
        let generation = &now["metadata"]["generation"];
        let conditions = now["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let found = conditions.iter().any(|each| {
            let seen = (
                text(&each["type"]),
                text(&each["status"]),
                text(&each["reason"]),
            );
            seen.0 == condition && each["observedGeneration"] == *generation && there(&seen)
        });
        Ok(if found { Ok(()) } else { Err(conditions) })
    })
    .await
}

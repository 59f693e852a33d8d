//! A workload that is deleted and created again under its name, with stricter egress.

use crate::world::{World, scenario};
use anyhow::{Result, ensure};
use serde_json::json;
use std::time::Duration;
use weir_tests::chat::{Ask, Endpoint};
use weir_tests::stack::RELEASE_NAMESPACE;
use weir_tests::wait;

const NAMESPACE: &str = "e2e-recreate";
const WORKLOAD: (&str, &str) = (NAMESPACE, "tenant");
const CANARY: &str = "wombat-9157";

#[test]
fn a_workload_recreated_with_stricter_egress_refuses_the_old_key() {
    scenario("recreate", async |world| {
        world.namespace_with_model(NAMESPACE)?;
        let mut open = world.like("hybrid", WORKLOAD)?;
        open["spec"]["placement"] = json!({"mode": "Pinned", "pinnedTarget": "cloud"});
        world.stack.apply(&[open])?;
        world.settled(WORKLOAD, "cloud").await?;
        let old = world.stack.endpoint(NAMESPACE, "tenant").await?;
        let answer = old.chat(&ask("numbat-2208")).await?;
        ensure!(
            answer.is_good() && answer.location == "External",
            "{answer:#?}"
        );

        world.kubectl(&["-n", NAMESPACE, "delete", "inferenceworkload", "tenant"])?;
        wait::until(
            "the key of a deleted workload is refused",
            Duration::from_secs(10),
            || async {
                let answer = old.chat(&ask(CANARY)).await?;
                Ok(if answer.status == 401 {
                    Ok(())
                } else {
                    Err(answer)
                })
            },
        )
        .await?;
        let mut strict = world.like("private", WORKLOAD)?;
        strict["spec"]["servedModelName"] = json!(old.model);
        world.stack.apply(&[strict])?;
        world.settled(WORKLOAD, "local").await?;
        only_the_new_key_opens(world, &old).await?;
        world.clear(NAMESPACE)
    });
}

async fn only_the_new_key_opens(world: &World, old: &Endpoint) -> Result<()> {
    let new = world.stack.endpoint(NAMESPACE, "tenant").await?;
    ensure!(
        new.path != old.path && new.key != old.key,
        "URL and key are those of before"
    );
    let bare = "/v1".to_owned();
    let mut refused = Vec::new();
    for plane in ["weir-gateway-local", "weir-gateway-cloud"] {
        let address = world.stack.service(RELEASE_NAMESPACE, plane).await?;
        for (key, key_is_new) in [(&old.key, false), (&new.key, true)] {
            for path in [&old.path, &new.path, &bare] {
                let opens = plane == "weir-gateway-local" && key_is_new && *path != old.path;
                let endpoint = Endpoint {
                    address,
                    key: key.clone(),
                    path: path.clone(),
                    ..new.clone()
                };
                let answer = endpoint.chat(&ask(CANARY)).await?;
                let which = format!(
                    "{plane}, {path}, {} key",
                    if key_is_new { "new" } else { "old" }
                );
                if opens {
                    ensure!(
                        answer.is_good() && answer.location == "Local",
                        "{which}: {answer:#?}"
                    );
                    continue;
                }
                ensure!(
                    answer.status == 401 || answer.status == 404,
                    "{which}: {answer:#?}"
                );
                refused.push(answer.status.as_u16());
            }
        }
    }
    println!("recreate: refused with {refused:?}");
    let seen = world.stack.fakes.bodies_with(CANARY).await?;
    ensure!(
        seen == 0,
        "the fake cloud was sent {seen} requests of the new workload"
    );
    let before = world.stack.fakes.bodies_with("numbat-2208").await?;
    ensure!(
        before == 1,
        "the fake cloud remembers {before} requests of the old one: the check proves nothing"
    );
    Ok(())
}

fn ask(about: &str) -> Ask {
    Ask {
        prompt: format!("Say something about {about}."),
        max_tokens: 4,
        stream: false,
    }
}

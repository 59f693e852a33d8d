//! A workload that moves when a price of its own changes, the operator behind its proxy, and a light load.

use super::observe;
use super::operator::{self, Operator};
use crate::market::{self, Price};
use crate::world::World;
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use weir_crds::condition::{is_true, types};
use weir_crds::decision::HistoryEntry;
use weir_crds::placement::Phase;
use weir_tests::chat::Endpoint;
use weir_tests::fault_proxy::{FaultProxy, Point};
use weir_tests::load::Load;
use weir_tests::stack::{PRICE_HIGH, PRICE_LOW, Stack};
use weir_tests::wait;

const NAMESPACE: &str = "e2e-crash";
const NAME: &str = "crash";
const WORKLOAD: (&str, &str) = (NAMESPACE, NAME);
/// A move takes ten seconds, and each crash some more.
const LIMIT: Duration = Duration::from_secs(90);
/// A move has ended when nothing was written for so long.
const QUIET: Duration = Duration::from_secs(3);
const MOST_HISTORY: usize = 10;
/// So many times less is asked than of the example, at prices so many times higher: the same costs, and a peak that the
/// engine can take however slow it is measured to be, which the compared decisions would tell.
const DEARER: f64 = 10.0;

/// Where the workload moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// The price of the cloud falls.
    ToCloud,
    /// The price of the cloud rises.
    ToLocal,
}

impl Direction {
    /// The way back.
    pub fn opposite(self) -> Self {
        match self {
            Self::ToCloud => Self::ToLocal,
            Self::ToLocal => Self::ToCloud,
        }
    }

    fn ends(self) -> (&'static str, &'static str) {
        match self {
            Self::ToCloud => ("local", "cloud"),
            Self::ToLocal => ("cloud", "local"),
        }
    }

    fn price(self) -> Price {
        let (input, output) = match self {
            Self::ToCloud => PRICE_LOW,
            Self::ToLocal => PRICE_HIGH,
        };
        (input * DEARER, output * DEARER)
    }
}

/// A move that nothing disturbed.
pub struct Reference {
    /// The state in which it ended.
    pub end: Value,
    /// Its writes.
    pub points: Vec<Point>,
    entry: HistoryEntry,
}

impl Reference {
    /// Only the writes that this and another such move have in common: others have to do with the time of day.
    ///
    /// # Errors
    /// When the two did not end alike.
    pub fn confirmed_by(mut self, again: Self) -> Result<Self> {
        let differences = observe::differences(&self.end, &again.end);
        ensure!(
            differences.is_empty(),
            "two undisturbed moves end differently: {differences:#?}"
        );
        self.points.retain(|point| again.points.contains(point));
        Ok(self)
    }
}

/// What a crash test plays in.
pub struct Scene<'a> {
    /// Between the operator and the API server.
    pub proxy: FaultProxy,
    world: &'a World,
    stack: &'a Stack,
    operator: Arc<Operator>,
    load: Load,
    folder: PathBuf,
}

impl<'a> Scene<'a> {
    /// Puts the operator behind the proxy, and the workload on its local target.
    pub async fn start(world: &'a World) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("weir-crash-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let (operator, proxy) = operator::start(world, &folder).await?;
        match placed(world).await {
            Ok(endpoint) => Ok(Self {
                proxy,
                world,
                stack: &world.stack,
                operator,
                load: Load::start(&endpoint, 1, Duration::from_millis(300)),
                folder,
            }),
            Err(error) => {
                operator.replace_by_pods(&world.stack).await?;
                let log = operator.log();
                Err(error.context(format!("the operator's log is {}", log.display())))
            }
        }
    }

    /// Puts the chart's operator back, and removes what was made.
    pub async fn end(self, outcome: Result<()>) -> Result<()> {
        let seen = self.load.stop().await;
        println!(
            "crash: the load saw {} good answers, {} failed, {} cut; {:?}",
            seen.good, seen.failed, seen.cut, seen.by_route
        );
        let restored = self.operator.replace_by_pods(self.stack).await;
        let cleared = clear(self.world).await;
        outcome?;
        restored?;
        cleared?;
        std::fs::remove_dir_all(&self.folder)?;
        Ok(())
    }

    /// Writes what came through the proxy beside the operator's log, and says where.
    pub fn evidence(&self) -> String {
        let lines: Vec<String> = self
            .proxy
            .exchanges()
            .iter()
            .filter(|each| !each.path.contains("/leases/"))
            .map(ToString::to_string)
            .collect();
        let path = self.folder.join("requests.log");
        match std::fs::write(&path, lines.join("\n")) {
            Ok(()) => format!(
                "the operator's requests and log are in {}",
                self.folder.display()
            ),
            Err(error) => format!("{}: {error}", path.display()),
        }
    }

    /// A move without a crash.
    pub async fn reference(&self, direction: Direction) -> Result<Reference> {
        let before = self.history().await?;
        self.proxy.begin([]);
        self.change_price(direction).await?;
        self.settles(direction).await?;
        let after = self.history().await?;
        let (from, to) = direction.ends();
        let entry = one_more(&before, &after)?;
        ensure!(
            entry.from.as_deref() == Some(from) && entry.to == to,
            "not the entry of this move: {entry:#?}"
        );
        self.nothing_failed()?;
        Ok(Reference {
            end: observe::state(self.stack, WORKLOAD).await?,
            points: self.proxy.points(),
            entry,
        })
    }

    /// Makes the other side the cheaper one.
    pub async fn change_price(&self, direction: Direction) -> Result<()> {
        market::set_price(self.world, NAME, direction.price()).await
    }

    /// Waits until the workload is on its new target, the old one is released, and nothing is written any more.
    async fn settles(&self, direction: Direction) -> Result<()> {
        let (_, to) = direction.ends();
        let pods = usize::from(direction == Direction::ToLocal);
        wait::until(&format!("{NAME} settles on {to}"), LIMIT, || async {
            self.operator.is_well()?;
            let workload = self.stack.workload(NAMESPACE, NAME).await?;
            let status = workload.status.unwrap_or_default();
            let there = status.placement.as_ref().is_some_and(|placement| {
                placement.target == to && placement.phase == Phase::Steady
            });
            let running = crate::look::engine_pods(self.stack, NAMESPACE).await?.len();
            let ready = is_true(&status.conditions, types::READY);
            let ended = there && ready && running == pods && self.proxy.quiet() >= QUIET;
            Ok(if ended {
                Ok(())
            } else {
                Err((status, running))
            })
        })
        .await
    }

    /// Waits until the state is the one in which an undisturbed move ends.
    pub async fn ends_like(&self, reference: &Reference) -> Result<()> {
        wait::until("the move ends as without a crash", LIMIT, || async {
            self.operator.is_well()?;
            let state = observe::state(self.stack, WORKLOAD).await?;
            let differences = observe::differences(&reference.end, &state);
            let done = self.proxy.armed().is_empty() || self.proxy.quiet() >= QUIET;
            let ended = differences.is_empty() && done;
            Ok(if ended { Ok(()) } else { Err(differences) })
        })
        .await
    }

    /// When the figures of usage in status were last written.
    async fn usage_updated(&self) -> Result<Option<Time>> {
        let workload = self.stack.workload(NAMESPACE, NAME).await?;
        let usage = workload.status.and_then(|status| status.usage);
        Ok(usage.and_then(|usage| usage.updated))
    }

    /// Completed moves, the newest first.
    pub async fn history(&self) -> Result<Vec<HistoryEntry>> {
        let workload = self.stack.workload(NAMESPACE, NAME).await?;
        Ok(workload.status.unwrap_or_default().history)
    }

    /// History has one more entry, and it is that of this move.
    pub async fn one_more_move(
        &self,
        before: &[HistoryEntry],
        reference: &Reference,
    ) -> Result<()> {
        let entry = one_more(before, &self.history().await?)?;
        let told =
            |entry: &HistoryEntry| (entry.from.clone(), entry.to.clone(), entry.reason.clone());
        ensure!(
            told(&entry) == told(&reference.entry),
            "{entry:#?} instead of {:#?}",
            reference.entry
        );
        Ok(())
    }

    /// No request of a client failed, none of the operator's was beyond its rights, and it deleted nothing.
    pub fn nothing_failed(&self) -> Result<()> {
        let seen = self.load.seen();
        ensure!(
            seen.failed == 0 && seen.cut == 0,
            "clients' requests failed: {seen:#?}"
        );
        let wrong: Vec<String> = self
            .proxy
            .exchanges()
            .iter()
            .filter(|each| {
                each.status == Some(http::StatusCode::FORBIDDEN)
                    || each.verb == http::Method::DELETE
            })
            .map(ToString::to_string)
            .collect();
        ensure!(wrong.is_empty(), "requests that must not be: {wrong:#?}");
        self.operator.is_well()
    }

    /// Nothing but what the clock demands is written: telemetry, and usage every five minutes, for clients go on.
    pub async fn is_at_rest(&self) -> Result<()> {
        wait::until("the operator comes to rest", LIMIT, || async {
            let quiet = self.proxy.quiet();
            Ok(if quiet >= QUIET { Ok(()) } else { Err(quiet) })
        })
        .await?;
        self.proxy.begin([]);
        let before = self.usage_updated().await?;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let mut points = self.proxy.points();
        points.retain(|point| !point.label.contains("gputiers/"));
        if self.usage_updated().await? != before {
            let of_usage = |point: &Point| point.label.contains("inferenceworkloads/crash/status");
            let first = points.iter().position(of_usage);
            points.remove(first.context("usage was written past the proxy")?);
        }
        ensure!(
            points.is_empty(),
            "writes although nothing changed: {points:#?}"
        );
        Ok(())
    }
}

/// Removes the workload and what it refers to.
async fn clear(world: &World) -> Result<()> {
    world.clear(NAMESPACE)?;
    market::remove(world, NAME)?;
    let namespaces: Api<Namespace> = Api::all(world.stack.client.clone());
    wait::until("the namespace is gone", LIMIT, || async {
        let left = namespaces.get_opt(NAMESPACE).await?;
        Ok(left.map_or(Ok(()), |left| Err(left.status)))
    })
    .await
}

/// The workload is there, on its local target; where its clients send requests.
async fn placed(world: &World) -> Result<Endpoint> {
    world.namespace_with_model(NAMESPACE)?;
    world.stack.apply(&objects(world)?)?;
    world.settled(WORKLOAD, "local").await?;
    world.stack.endpoint(NAMESPACE, NAME).await
}

/// The entry that `after` has and `before` has not, when that is the only difference.
fn one_more(before: &[HistoryEntry], after: &[HistoryEntry]) -> Result<HistoryEntry> {
    let (first, rest) = after.split_first().context("history is empty")?;
    let kept = &before[..before.len().min(MOST_HISTORY - 1)];
    ensure!(
        rest == kept,
        "history has not exactly one more entry: {after:#?}, before {before:#?}"
    );
    Ok(first.clone())
}

/// The example workload `hybrid` at a quick pace and with less demand, and a provider, prices and a policy of its own.
fn objects(world: &World) -> Result<Vec<Value>> {
    let mut objects = market::objects(world, NAME, Direction::ToLocal.price())?;
    let mut workload = world.like("hybrid", WORKLOAD)?;
    let requests = &mut workload["spec"]["demand"]["requestsPerMonth"];
    let example = requests
        .as_f64()
        .context("the example declares its demand")?;
    *requests = json!((example / DEARER).round() as u64);
    market::use_it(&mut workload["spec"], NAME);
    objects.push(workload);
    Ok(objects)
}

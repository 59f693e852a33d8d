//! The operator is killed before it sends, and after it committed, every write of a move; the move ends the same.
//!
//! It runs as a process on the host, with the chart's ServiceAccount, behind a proxy that kills it. The workload moves to
//! the cloud and back: each move starts where the last one ended. A move is struck at several points that lie apart, for
//! the time's sake; `WEIR_KILLS_PER_MOVE=1` strikes each move once.

mod observe;
mod operator;
mod points;
mod scene;

use crate::world::scenario;
use anyhow::{Context, Result, anyhow, ensure};
use points::{Group, Schedule};
use scene::{Direction, Reference, Scene};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const KILLS_PER_MOVE: usize = 8;
/// So much less than a scenario may take that the chart's operator can be put back after it.
const LIMIT: Duration = Duration::from_secs(420);
/// A move has at least so many writes.
const LEAST_POINTS: usize = 10;
const DIRECTIONS: [Direction; 2] = [Direction::ToCloud, Direction::ToLocal];

#[test]
fn a_move_survives_a_crash_at_each_of_its_writes() {
    scenario("crash", async |world| {
        let scene = Scene::start(world).await?;
        let outcome = tokio::time::timeout(LIMIT, crashes(&scene)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(anyhow!("not done after {LIMIT:?}")));
        let outcome = outcome.map_err(|error| error.context(scene.evidence()));
        scene.end(outcome).await
    });
}

async fn crashes(scene: &Scene<'_>) -> Result<()> {
    let mut references = BTreeMap::new();
    for direction in DIRECTIONS {
        references.insert(direction, scene.reference(direction).await?);
    }
    for direction in DIRECTIONS {
        let again = scene.reference(direction).await?;
        let reference = references.remove(&direction).context("a reference")?;
        references.insert(direction, reference.confirmed_by(again)?);
    }
    let mut schedule = Schedule::new(kills_per_move()?);
    let mut all = 0;
    for (direction, reference) in &references {
        println!("crash: {direction:?}: {} points", reference.points.len());
        for point in &reference.points {
            println!("crash:   {point}");
        }
        all += reference.points.len();
        schedule.add(*direction, &reference.points);
    }
    ensure!(all >= LEAST_POINTS, "only {all} writes make a move");

    let begun = Instant::now();
    let (mut moves, mut kills) = (0, 0);
    let mut absent = Group::new();
    let mut direction = Direction::ToCloud;
    while !schedule.is_empty() {
        let group = schedule.next(direction);
        let reference = references.get(&direction).context("a reference")?;
        let killed = strike(scene, direction, reference, &group).await?;
        kills += killed.len();
        moves += 1;
        absent.extend(schedule.missed(direction, group, &killed));
        direction = direction.opposite();
    }
    for (point, position) in &absent {
        println!("crash: not a write of every move: {position:?} {point}");
    }
    ensure!(
        kills + absent.len() == 2 * all && kills >= 2 * LEAST_POINTS * DIRECTIONS.len(),
        "{kills} kills at {all} points, without {absent:#?}"
    );
    scene.is_at_rest().await?;
    println!(
        "crash: {all} points, each before forwarding and after commit: {kills} kills, {} that did not come, in {moves} moves, {:.0} s",
        absent.len(),
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

/// One move with its kills; those that came.
async fn strike(
    scene: &Scene<'_>,
    direction: Direction,
    reference: &Reference,
    group: &Group,
) -> Result<Group> {
    let begun = Instant::now();
    let before = scene.history().await?;
    scene.proxy.begin(group.iter().cloned());
    let killed = async {
        scene.change_price(direction).await?;
        scene.ends_like(reference).await?;
        scene.one_more_move(&before, reference).await?;
        scene.nothing_failed()
    }
    .await;
    let left = scene.proxy.armed();
    let came: Group = group
        .iter()
        .filter(|each| !left.contains(each))
        .cloned()
        .collect();
    let shown: Vec<String> = came
        .iter()
        .map(|(point, position)| format!("{position:?} {point}"))
        .collect();
    let shown = shown.join("; ");
    killed.with_context(|| format!("{direction:?}, killed at: {shown}"))?;
    let took = begun.elapsed().as_secs_f64();
    println!(
        "crash: {direction:?} {took:.1} s, {} of {} kills: {shown}",
        came.len(),
        group.len()
    );
    Ok(came)
}

fn kills_per_move() -> Result<usize> {
    match std::env::var("WEIR_KILLS_PER_MOVE") {
        Ok(text) => {
            let kills = text.parse().context("WEIR_KILLS_PER_MOVE")?;
            ensure!(kills > 0, "WEIR_KILLS_PER_MOVE is 0");
            Ok(kills)
        }
        Err(_) => Ok(KILLS_PER_MOVE),
    }
}

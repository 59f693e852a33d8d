//! Prints how long decisions for fleets of growing size take on one core, assignment of scarce GPUs included, and draws it.
//!
//! `cargo run --release -p weir-placement --example decide_growth -- OUT.svg "name of the CPU"`

use std::collections::BTreeSet;
use std::time::Duration;

#[path = "fleet_growth/cpu.rs"]
mod cpu;
#[path = "../tests/decisions/large.rs"]
mod large;
#[path = "fleet_growth/plot.rs"]
mod plot;

use plot::Point;
use weir_placement::*;

const SIZES: [u32; 7] = [1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000];

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A fleet with a tenth as many GPUs as workloads.
fn fleet(workloads: u32) -> FleetSnapshot {
    let mut snapshot = large::fleet(workloads.into());
    for tier in snapshot.tiers.values_mut() {
        tier.free_devices = Some(workloads / 1_000);
    }
    snapshot
}

fn worst_gap(plan: &Plan) -> u64 {
    let gaps = plan.competitions.iter();
    gaps.map(|it| it.gap_parts_per_million).max().unwrap_or(0)
}

fn main() -> Result<(), std::io::Error> {
    let mut arguments = std::env::args().skip(1);
    let policy = Policy::default();
    let (mut whole, mut one) = (Vec::new(), Vec::new());
    println!("workloads  competing  worst gap    whole fleet    one price  evaluated");
    for workloads in SIZES {
        let mut snapshot = fleet(workloads);
        let (first, plan) = cpu::mean(|| decide(&snapshot, &policy, &Plan::default(), at(0)));
        let competing: usize = plan.competitions.iter().map(|it| it.workloads.len()).sum();
        let gap = worst_gap(&plan);
        large::carry_out(&mut snapshot, &plan, at(0));
        let previous = decide(&snapshot, &policy, &plan, at(100_000));
        let key = PriceKey {
            provider: "provider-7".to_owned(),
            model: "model-1".to_owned(),
        };
        large::reprice(&mut snapshot, &key, 90);
        let changed = Changed {
            prices: BTreeSet::from([key]),
            ..Changed::default()
        };
        let (second, (_, evaluated)) =
            cpu::mean(|| decide_changed(&snapshot, &policy, &previous, &changed, at(100_001)));
        println!(
            "{workloads:9}  {competing:9}  {gap:5} ppm  {:10.1} ms  {:8.1} ms  {evaluated:9}",
            first.as_secs_f64() * 1e3,
            second.as_secs_f64() * 1e3,
        );
        let point = |elapsed: Duration| Point {
            workloads: workloads.into(),
            seconds: elapsed.as_secs_f64(),
        };
        whole.push(point(first));
        one.push(point(second));
    }
    let Some(file) = arguments.next() else {
        return Ok(());
    };
    let title = format!(
        "Decision: time to a plan, {}",
        arguments.next().unwrap_or_default()
    );
    let curves = [("the whole fleet", whole), ("one price changed", one)];
    std::fs::write(file, plot::svg(&curves, &title))
}

//! Prints how long fleets of growing size take to assign and how good the plans are, and draws it.
//!
//! `cargo run --release -p weir-placement --example fleet_growth -- OUT.svg "name of the CPU"`

#[path = "fleet_growth/cpu.rs"]
mod cpu;
#[path = "../benches/fleet/growing.rs"]
mod growing;
#[path = "../benches/fleet/instances.rs"]
mod instances;
#[path = "fleet_growth/plot.rs"]
mod plot;

use std::time::Duration;

use plot::Point;
use weir_placement::fleet::assignment::solve;

const SIZES: [usize; 7] = [1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000];

fn main() -> Result<(), std::io::Error> {
    let mut arguments = std::env::args().skip(1);
    let (mut fresh, mut later) = (Vec::new(), Vec::new());
    println!("workloads  from nothing   gap   an hour later   gap");
    for workloads in SIZES {
        let problem = growing::fleet(workloads, 1);
        let (first, solution) = cpu::mean(|| solve(&problem));
        let (moved, _) = growing::later(&problem, &solution, 2);
        let (second, after) = cpu::mean(|| solve(&moved));
        println!(
            "{workloads:9}  {:9.1} ms  {:3} ppm  {:9.1} ms  {:3} ppm",
            first.as_secs_f64() * 1e3,
            solution.gap_parts_per_million(),
            second.as_secs_f64() * 1e3,
            after.gap_parts_per_million(),
        );
        let point = |elapsed: Duration| Point {
            workloads: workloads as f64,
            seconds: elapsed.as_secs_f64(),
        };
        fresh.push(point(first));
        later.push(point(second));
    }
    let Some(file) = arguments.next() else {
        return Ok(());
    };
    let name = arguments.next().unwrap_or_default();
    let title = format!("Fleet assignment: time to a plan, {name}");
    let curves = [("from nothing", fresh), ("an hour later", later)];
    std::fs::write(file, plot::svg(&curves, &title))
}

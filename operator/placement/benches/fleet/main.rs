//! How long the assignment of a fleet takes: from nothing, an hour later, and after the change of one price.

mod growing;
mod instances;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use weir_placement::fleet::assignment::{resolve, solve};

fn assignment(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("assignment");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(10));
    for workloads in [1_000, 10_000, 100_000] {
        let problem = growing::fleet(workloads, 1);
        let solution = solve(&problem);
        let (later, changed) = growing::later(&problem, &solution, 2);
        group.bench_with_input(
            BenchmarkId::new("from nothing", workloads),
            &problem,
            |b, problem| {
                b.iter(|| solve(black_box(problem)));
            },
        );
        group.bench_with_input(
            BenchmarkId::new("an hour later", workloads),
            &later,
            |b, later| {
                b.iter(|| solve(black_box(later)));
            },
        );
        group.bench_with_input(
            BenchmarkId::new("changes alone", workloads),
            &later,
            |b, later| {
                b.iter(|| resolve(black_box(later), &solution, &changed));
            },
        );
    }
    group.finish();
}

criterion_group!(benches, assignment);
criterion_main!(benches);

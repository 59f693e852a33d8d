//! How long a decision for a whole fleet takes on one core, and one after a change of a single price.

use std::collections::BTreeSet;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use weir_placement::*;

#[path = "../tests/decisions/large.rs"]
mod large;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).expect("in range")
}

fn benchmarks(criterion: &mut Criterion) {
    let policy = Policy::default();
    let mut group = criterion.benchmark_group("decide");
    group.sample_size(10);
    for workloads in [1_000, 10_000, 30_000] {
        let mut snapshot = large::fleet(workloads);
        let first = decide(&snapshot, &policy, &Plan::default(), at(0));
        let new = snapshot.clone();
        group.bench_function(BenchmarkId::new("first", workloads), |bencher| {
            bencher.iter(|| decide(black_box(&new), &policy, &Plan::default(), at(0)));
        });
        large::carry_out(&mut snapshot, &first, at(0));
        let previous = decide(&snapshot, &policy, &first, at(100_000));
        group.bench_function(BenchmarkId::new("again", workloads), |bencher| {
            bencher.iter(|| decide(black_box(&snapshot), &policy, &previous, at(100_001)));
        });
        let key = PriceKey {
            provider: "provider-7".to_owned(),
            model: "model-1".to_owned(),
        };
        large::reprice(&mut snapshot, &key, 90);
        let changed = Changed {
            prices: BTreeSet::from([key]),
            ..Changed::default()
        };
        let (_, evaluated) = decide_changed(&snapshot, &policy, &previous, &changed, at(100_001));
        println!("one price of {workloads} workloads: {evaluated} evaluated");
        group.bench_function(BenchmarkId::new("one price", workloads), |bencher| {
            bencher.iter(|| {
                decide_changed(
                    black_box(&snapshot),
                    &policy,
                    &previous,
                    &changed,
                    at(100_001),
                )
            });
        });
    }
    group.finish();
}

criterion_group!(benches, benchmarks);
criterion_main!(benches);

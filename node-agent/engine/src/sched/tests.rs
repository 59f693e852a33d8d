use super::*;
use crate::kv::BLOCK_TOKENS;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap, HashSet};

fn scheduler(token_budget: usize, max_running: usize, blocks: usize) -> Scheduler {
    Scheduler::new(
        SchedulerConfig {
            token_budget,
            max_running,
        },
        blocks,
    )
}

/// Stands in for a model: remembers what each slot of each block holds, and "samples" a hash of the whole prefix as
/// read back from the blocks, so that any wrong block or lost token changes the output.
#[derive(Default)]
struct FakeModel {
    slots: HashMap<(u32, usize), u32>,
}

impl FakeModel {
    fn compute(&mut self, slice: &Slice) -> u32 {
        for (offset, token) in slice.tokens.iter().enumerate() {
            let position = slice.start + offset;
            let block = slice.blocks[position / BLOCK_TOKENS];
            self.slots.insert((block, position % BLOCK_TOKENS), *token);
        }
        let end = slice.start + slice.tokens.len();
        next_token(
            (0..end).map(|p| self.slots[&(slice.blocks[p / BLOCK_TOKENS], p % BLOCK_TOKENS)]),
        )
    }
}

fn next_token(prefix: impl Iterator<Item = u32>) -> u32 {
    prefix.fold(17u32, |hash, t| hash.wrapping_mul(31).wrapping_add(t)) % 1000
}

fn expected(prompt: &[u32], count: usize) -> Vec<u32> {
    let mut tokens = prompt.to_vec();
    for _ in 0..count {
        tokens.push(next_token(tokens.iter().copied()));
    }
    tokens.split_off(prompt.len())
}

#[derive(Debug)]
struct Job {
    prompt: Vec<u32>,
    output: usize,
    /// Step at which it arrives.
    arrives: usize,
    /// Cancelled after this many steps in the system.
    cancelled: Option<usize>,
}

fn jobs() -> impl Strategy<Value = Vec<Job>> {
    let job = (
        1usize..70,
        1usize..40,
        0usize..30,
        prop::option::weighted(0.2, 0usize..20),
    );
    prop::collection::vec(job, 1..14).prop_map(|jobs| {
        jobs.into_iter()
            .enumerate()
            .map(|(i, (prompt, output, arrives, cancelled))| Job {
                prompt: (0..prompt).map(|t| (t * 7 + i * 13) as u32).collect(),
                output,
                arrives,
                cancelled,
            })
            .collect()
    })
}

fn check_step(scheduler: &Scheduler, step: &Step, budget: usize) -> Result<(), TestCaseError> {
    let tokens: usize = step.slices.iter().map(|s| s.tokens.len()).sum();
    prop_assert!(tokens <= budget);
    let ids: HashSet<SequenceId> = step.slices.iter().map(|s| s.id).collect();
    prop_assert_eq!(ids.len(), step.slices.len());
    let mut held = HashSet::new();
    for sequence in &scheduler.running {
        for block in sequence.table.blocks() {
            prop_assert!(held.insert(*block), "block {} is held twice", block);
        }
    }
    prop_assert_eq!(held.len(), scheduler.pool.used());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_request_finishes_with_the_right_tokens_and_no_block_leaks(
        jobs in jobs(),
        budget in 1usize..48,
        max_running in 1usize..6,
        blocks in 8usize..24,
    ) {
        let mut scheduler = scheduler(budget, max_running, blocks);
        let mut model = FakeModel::default();
        let mut outputs: BTreeMap<SequenceId, Vec<u32>> = BTreeMap::new();
        let mut gone: HashSet<SequenceId> = HashSet::new();
        for now in 0..20_000usize {
            for (id, job) in jobs.iter().enumerate() {
                let id = id as SequenceId;
                if job.arrives == now {
                    scheduler.add(id, job.prompt.clone());
                }
                if job.cancelled.is_some_and(|after| job.arrives + after == now) && scheduler.remove(id) {
                    gone.insert(id);
                }
            }
            let step = scheduler.plan();
            check_step(&scheduler, &step, budget)?;
            prop_assert!(!step.slices.is_empty() || scheduler.is_idle(), "no progress");
            for slice in &step.slices {
                let token = model.compute(slice);
                if !slice.samples {
                    continue;
                }
                let output = outputs.entry(slice.id).or_default();
                output.push(token);
                if output.len() == jobs[slice.id as usize].output {
                    prop_assert!(scheduler.remove(slice.id));
                } else {
                    scheduler.push_token(slice.id, token);
                }
            }
            if scheduler.is_idle() && jobs.iter().all(|job| job.arrives <= now) {
                break;
            }
        }
        prop_assert!(scheduler.is_idle());
        prop_assert_eq!(scheduler.pool().used(), 0);
        for (id, job) in jobs.iter().enumerate() {
            let id = id as SequenceId;
            let output = outputs.remove(&id).unwrap_or_default();
            let wanted = expected(&job.prompt, job.output);
            prop_assert!(gone.contains(&id) || output.len() == job.output);
            prop_assert_eq!(&wanted[..output.len()], &output[..]);
        }
    }
}

#[test]
fn decodes_come_before_prompts() {
    let mut scheduler = scheduler(8, 4, 32);
    scheduler.add(1, vec![1, 2, 3]);
    assert!(scheduler.plan().slices[0].samples);
    scheduler.push_token(1, 9);
    scheduler.add(2, vec![5; 20]);
    let step = scheduler.plan();
    let shape: Vec<(u64, usize, bool)> = step
        .slices
        .iter()
        .map(|s| (s.id, s.tokens.len(), s.samples))
        .collect();
    assert_eq!(shape, [(1, 1, true), (2, 7, false)]);
}

#[test]
fn the_sequence_admitted_last_is_preempted_first() {
    let mut scheduler = scheduler(64, 4, 4);
    scheduler.add(1, vec![1; 30]);
    scheduler.add(2, vec![2; 30]);
    assert_eq!(scheduler.plan().admitted, [1, 2]);
    let mut preempted = Vec::new();
    for _ in 0..4 {
        scheduler.push_token(1, 1);
        scheduler.push_token(2, 2);
        preempted.extend(scheduler.plan().preempted);
    }
    assert_eq!(preempted, [2]);
    assert_eq!((scheduler.running(), scheduler.waiting()), (1, 1));
}

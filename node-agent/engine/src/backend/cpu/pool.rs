//! A thread pool for short parallel regions: chunks are taken from a counter, helpers spin a little and then park.
//!
//! A helper joins a region by a compare-and-swap on its state, so a helper that the kernel does not run at the moment
//! delays nobody: the caller takes its chunks, and waits only for chunks that somebody has begun.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

const OPEN: u64 = 1 << 16;
const ACTIVE: u64 = OPEN - 1;
const EPOCH: u64 = OPEN << 1;
/// Waking a parked thread takes some 15 µs and the gaps inside a step are shorter, so spinning this long is cheaper.
const SPIN: Duration = Duration::from_micros(60);

#[derive(Clone, Copy)]
struct Job {
    work: *const (dyn Fn(usize) + Sync),
    chunks: usize,
}

struct Shared {
    /// Epoch (bits 17 and up), open flag (bit 16), helpers inside (bits 0 to 15).
    state: AtomicU64,
    next: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
    job: UnsafeCell<Option<Job>>,
    parked: Vec<AtomicBool>,
}

// SAFETY: `job` is written only by the pool's owner while the state is closed with no helper inside, and read only by
// helpers that are counted inside an open state; the state's release and acquire order both.
unsafe impl Sync for Shared {}
// SAFETY: the raw pointer in `job` is used only as the line above says.
unsafe impl Send for Shared {}

/// The pool. One caller at a time (`&mut self`).
pub(crate) struct ThreadPool {
    shared: Arc<Shared>,
    helpers: Vec<(Thread, Option<JoinHandle<()>>)>,
}

impl ThreadPool {
    /// A pool of `threads` threads, the caller's own among them.
    pub(crate) fn new(threads: usize) -> Self {
        let helper_count = threads.saturating_sub(1).min(255);
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            next: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            job: UnsafeCell::new(None),
            parked: (0..helper_count).map(|_| AtomicBool::new(false)).collect(),
        });
        let helpers = (0..helper_count)
            .filter_map(|index| {
                let shared = Arc::clone(&shared);
                // A pool with fewer helpers is slower, not wrong.
                let handle = thread::Builder::new()
                    .name(format!("engine-{index}"))
                    .spawn(move || help(&shared, index))
                    .ok()?;
                Some((handle.thread().clone(), Some(handle)))
            })
            .collect();
        Self { shared, helpers }
    }

    /// Threads that work, the caller's own among them.
    pub(crate) fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Calls `work` with every number below `chunks`, each once, on all threads; returns when all calls have.
    pub(crate) fn run(&mut self, chunks: usize, work: &(dyn Fn(usize) + Sync)) {
        if self.helpers.is_empty() || chunks < 2 {
            (0..chunks).for_each(work);
            return;
        }
        self.open(chunks, work);
        let close = CloseOnDrop(&self.shared);
        take_chunks(&self.shared, chunks, work);
        drop(close);
        assert!(
            !self.shared.panicked.load(Ordering::Relaxed),
            "an engine thread panicked"
        );
    }

    fn open(&mut self, chunks: usize, work: &(dyn Fn(usize) + Sync)) {
        let shared = &self.shared;
        // SAFETY: only the lifetime changes. `CloseOnDrop` closes the region and waits for every helper inside it
        // before `run` returns or unwinds, so no helper uses the pointer after `work` has ended.
        let work: *const (dyn Fn(usize) + Sync) = unsafe {
            std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(work)
        };
        // SAFETY: the state is closed with nobody inside (checked by the last `CloseOnDrop`), so nobody reads `job`.
        unsafe { *shared.job.get() = Some(Job { work, chunks }) };
        shared.next.store(0, Ordering::Relaxed);
        let epoch = shared.state.load(Ordering::Relaxed) & !(OPEN | ACTIVE);
        shared
            .state
            .store(epoch.wrapping_add(EPOCH) | OPEN, Ordering::SeqCst);
        for (index, (thread, _)) in self.helpers.iter().enumerate() {
            if shared.parked[index].load(Ordering::SeqCst) {
                thread.unpark();
            }
        }
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for (thread, handle) in &mut self.helpers {
            thread.unpark();
            if let Some(handle) = handle.take() {
                // A helper that panicked has already been reported by `run`.
                let _ = handle.join();
            }
        }
    }
}

struct CloseOnDrop<'a>(&'a Shared);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        // Chunks that nobody has begun are not begun any more (they are left only when the caller unwinds).
        self.0.next.store(usize::MAX / 2, Ordering::Relaxed);
        self.0.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0u32;
        while self.0.state.load(Ordering::Acquire) & ACTIVE != 0 {
            spins += 1;
            if spins > 2_000 {
                thread::yield_now();
            } else {
                spin_loop();
            }
        }
    }
}

fn take_chunks(shared: &Shared, chunks: usize, work: &(dyn Fn(usize) + Sync)) {
    loop {
        let chunk = shared.next.fetch_add(1, Ordering::Relaxed);
        if chunk >= chunks {
            return;
        }
        work(chunk);
    }
}

/// Counts the calling helper out of the region, also when its work panics.
struct LeaveOnDrop<'a>(&'a Shared);

impl Drop for LeaveOnDrop<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.panicked.store(true, Ordering::Relaxed);
        }
        self.0.state.fetch_sub(1, Ordering::Release);
    }
}

fn help(shared: &Shared, index: usize) {
    let mut seen = 0u64;
    loop {
        let Some(state) = wait(shared, index, seen) else {
            return;
        };
        let joined =
            shared
                .state
                .compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed);
        if joined.is_err() {
            continue;
        }
        seen = state & !(OPEN | ACTIVE);
        let leave = LeaveOnDrop(shared);
        // SAFETY: this thread is counted inside an open region, so `job` is set and not written until it leaves.
        if let Some(job) = unsafe { *shared.job.get() } {
            // SAFETY: the closure outlives the region, which cannot end before this thread leaves it.
            take_chunks(shared, job.chunks, unsafe { &*job.work });
        }
        drop(leave);
    }
}

/// Waits for an open region of another epoch than `seen`; `None` when the pool is dropped.
fn wait(shared: &Shared, index: usize, seen: u64) -> Option<u64> {
    let is_new = |state: u64| state & OPEN != 0 && state & !(OPEN | ACTIVE) != seen;
    loop {
        let begin = Instant::now();
        while begin.elapsed() < SPIN {
            for _ in 0..64 {
                let state = shared.state.load(Ordering::Acquire);
                if is_new(state) {
                    return Some(state);
                }
                spin_loop();
            }
        }
        if shared.stop.load(Ordering::SeqCst) {
            return None;
        }
        shared.parked[index].store(true, Ordering::SeqCst);
        let state = shared.state.load(Ordering::SeqCst);
        if !is_new(state) && !shared.stop.load(Ordering::SeqCst) {
            thread::park();
        }
        shared.parked[index].store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_runs_once() {
        for threads in [1, 2, 5] {
            let mut pool = ThreadPool::new(threads);
            for chunks in [0, 1, 2, 7, 300] {
                let counts: Vec<AtomicUsize> = (0..chunks).map(|_| AtomicUsize::new(0)).collect();
                for _ in 0..50 {
                    pool.run(chunks, &|chunk| {
                        counts[chunk].fetch_add(1, Ordering::Relaxed);
                    });
                }
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 50));
            }
        }
    }

    #[test]
    fn a_panic_in_any_thread_reaches_the_caller_and_the_pool_still_ends() {
        let mut pool = ThreadPool::new(3);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(64, &|chunk| assert!(chunk != 40, "boom"));
        }));
        assert!(result.is_err());
    }
}

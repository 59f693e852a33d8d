//! The time as the operator has it: what the wall clock says, and how much of it this leader has itself seen go by.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// A difference between the wall clock and the monotonic one that is no jump: clocks are steered a little all the time.
const STEERED: SignedDuration = SignedDuration::from_secs(1);
/// Jumps that are remembered. What happened before the oldest counts from there.
const MOST_STRETCHES: usize = 64;

/// Tells the time. Clones are the same clock, which begins when a replica begins to lead.
#[derive(Clone)]
pub struct Clock {
    inner: Arc<Inner>,
}

struct Inner {
    wall: Box<dyn Fn() -> Timestamp + Send + Sync>,
    begun: Instant,
    witnessed: Mutex<Witnessed>,
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").finish_non_exhaustive()
    }
}

impl Clock {
    /// The machine's.
    pub fn system() -> Self {
        Self::of(Timestamp::now)
    }

    /// With this as the wall clock.
    pub fn of(wall: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let clock = Self {
            inner: Arc::new(Inner {
                wall: Box::new(wall),
                begun: Instant::now(),
                witnessed: Mutex::default(),
            }),
        };
        clock.now();
        clock
    }

    /// Begins at this time and goes as tokio's clock does, so that a paused one pauses it.
    pub fn starting_at(time: Timestamp) -> Self {
        let begun = Instant::now();
        Self::of(move || after(time, begun.elapsed()))
    }

    /// What the wall clock says.
    pub fn now(&self) -> Timestamp {
        self.moment().now
    }

    /// The monotonic clock, which no one sets.
    pub fn instant(&self) -> Instant {
        Instant::now()
    }

    /// The present moment, and what is known of the time before.
    pub fn moment(&self) -> Moment {
        let now = (self.inner.wall)();
        let passed = self.inner.begun.elapsed();
        let witnessed = &self.inner.witnessed;
        let mut witnessed = witnessed.lock().unwrap_or_else(PoisonError::into_inner);
        witnessed.note(passed, now);
        Moment {
            now,
            witnessed: witnessed.clone(),
        }
    }
}

/// A moment of a [`Clock`].
#[derive(Clone, Debug)]
pub struct Moment {
    /// What the wall clock says.
    pub now: Timestamp,
    /// What this leader has itself seen of the time before.
    pub witnessed: Witnessed,
}

/// How the wall clock went since this leader began to lead. Of what others wrote before, it vouches for no time at all:
/// their clock may have been another. The default believes the wall clock.
#[derive(Clone, Debug, Default)]
pub struct Witnessed {
    stretches: Vec<Stretch>,
}

/// A time in which the wall clock was steered and never set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    begun: Timestamp,
    /// When it was last looked at, and how long the clock had run then.
    until: Timestamp,
    passed: Duration,
    /// How far it was set when the stretch began.
    set_by: SignedDuration,
}

impl Witnessed {
    /// Takes down what the wall clock says after so much of the clock's own time.
    pub(crate) fn note(&mut self, passed: Duration, now: Timestamp) {
        let mut set_by = SignedDuration::ZERO;
        if let Some(last) = self.stretches.last_mut() {
            let expected = after(last.until, passed.saturating_sub(last.passed));
            set_by = now.duration_since(expected);
            if set_by.abs() <= STEERED {
                (last.until, last.passed) = (now, passed);
                return;
            }
        }
        if self.stretches.len() == MOST_STRETCHES {
            self.stretches.remove(0);
        }
        self.stretches.push(Stretch {
            begun: now,
            until: now,
            passed,
            set_by,
        });
    }

    /// The later of `at` and the time since when this leader, by its own clock, has known that it was `at`. A pause that
    /// is counted from there has passed by both clocks: one that began under another leader may last longer, never less.
    pub fn since(&self, at: Timestamp) -> Timestamp {
        let found = self.stretches.iter().position(|each| at <= each.until);
        let Some(found) = found else {
            return at;
        };
        let seen = at.max(self.stretches[found].begun);
        let later = self.stretches[found + 1..].iter();
        let seen_now = later.fold(seen, |seen, each| {
            seen.saturating_add(each.set_by).unwrap_or(Timestamp::MAX)
        });
        at.max(seen_now)
    }
}

fn after(at: Timestamp, passed: Duration) -> Timestamp {
    at.saturating_add(passed).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    const PAUSE: Duration = Duration::from_secs(60);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    /// A clock that begins at 1,000 and is set by the number.
    fn clock() -> (Clock, Arc<AtomicI64>) {
        let set = Arc::new(AtomicI64::new(0));
        let by = Arc::clone(&set);
        let begun = Instant::now();
        let wall = move || {
            let ahead = SignedDuration::from_secs(by.load(Ordering::Relaxed));
            after(at(1_000), begun.elapsed())
                .checked_add(ahead)
                .expect("a time")
        };
        (Clock::of(wall), set)
    }

    /// Whether a pause that began at `from` is over.
    fn over(clock: &Clock, from: i64) -> bool {
        let Moment { now, witnessed } = clock.moment();
        now >= after(witnessed.since(at(from)), PAUSE)
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_began_under_this_leader_ends_in_time() {
        let (clock, _) = clock();
        pass(5).await;
        assert!(!over(&clock, 1_005));
        pass(59).await;
        assert!(!over(&clock, 1_005));
        pass(1).await;
        assert!(over(&clock, 1_005));
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_whose_clock_is_an_hour_ahead_lets_a_pause_that_it_finds_run_in_full() {
        let (clock, _) = clock();
        // By the clock of the leader before it began an hour ago; truly it began just now.
        assert!(!over(&clock, 1_000 - 3_600));
        pass(59).await;
        assert!(!over(&clock, 1_000 - 3_600));
        pass(1).await;
        assert!(over(&clock, 1_000 - 3_600));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_forward_ends_no_pause() {
        let (clock, set) = clock();
        pass(10).await;
        assert!(!over(&clock, 1_010));
        set.store(3_600, Ordering::Relaxed);
        assert!(!over(&clock, 1_010));
        pass(59).await;
        assert!(!over(&clock, 1_010));
        pass(1).await;
        assert!(over(&clock, 1_010));
        // What begins now is counted by the clock as it is now.
        assert!(!over(&clock, 1_070 + 3_600));
        pass(60).await;
        assert!(over(&clock, 1_070 + 3_600));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_back_is_waited_for() {
        let (clock, set) = clock();
        pass(10).await;
        assert!(!over(&clock, 1_010));
        set.store(-600, Ordering::Relaxed);
        pass(60).await;
        assert!(!over(&clock, 1_010));
        pass(600).await;
        assert!(over(&clock, 1_010));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_steered_is_no_clock_that_jumps() {
        let (clock, set) = clock();
        for ahead in 1..=100 {
            pass(1_000).await;
            set.store(ahead, Ordering::Relaxed);
            clock.now();
        }
        assert_eq!(clock.moment().witnessed.stretches.len(), 1);
    }

    #[test]
    fn without_a_clock_the_wall_is_believed() {
        assert_eq!(Witnessed::default().since(at(7)), at(7));
    }
}

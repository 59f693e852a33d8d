//! A token bucket: short bursts pass at once, over longer times the rate holds.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Seconds of the rate that may come at once.
const BURST_SECONDS: f64 = 4.0;

pub(super) struct TokenBucket {
    rate: f64,
    state: Mutex<State>,
}

struct State {
    tokens: f64,
    refilled: Instant,
}

impl TokenBucket {
    pub fn new(per_second: u32) -> Self {
        let rate = f64::from(per_second.max(1));
        Self {
            rate,
            state: Mutex::new(State {
                tokens: rate * BURST_SECONDS,
                refilled: Instant::now(),
            }),
        }
    }

    /// Takes a token, in the order of the calls; returns how long that took.
    pub async fn take(&self) -> Duration {
        let debt = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let gained = (now - state.refilled).as_secs_f64() * self.rate;
            state.tokens = (state.tokens + gained).min(self.rate * BURST_SECONDS) - 1.0;
            state.refilled = now;
            -state.tokens
        };
        if debt <= 0.0 {
            return Duration::ZERO;
        }
        let pause = Duration::from_secs_f64(debt / self.rate);
        sleep(pause).await;
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_the_rate_holds() {
        let bucket = TokenBucket::new(50);
        let began = Instant::now();
        for _ in 0..200 {
            assert_eq!(bucket.take().await, Duration::ZERO);
        }
        for _ in 0..100 {
            bucket.take().await;
        }
        let took = began.elapsed().as_secs_f64();
        assert!((1.9..=2.3).contains(&took), "{took}");
    }
}

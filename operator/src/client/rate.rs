//! How many writes a second the API server takes, as its answers tell: more while it answers quickly, half when it does not.

use std::time::Duration;

use tokio::time::Instant;

/// Seconds of the first rate that may come at once.
const BURST_SECONDS: f64 = 6.0;
/// Share of a burst that is kept for writes that cannot wait.
const RESERVE: f64 = 0.75;
/// Writes a second that are never given up.
const LEAST: f64 = 2.0;
/// Writes a second that a second of good answers adds.
const STEP: f64 = 20.0;
/// An answer that took this long says that the server has enough to do.
const SLOW: Duration = Duration::from_secs(1);
/// Answers of one time tell of one overload: it halves the rate once.
const ONE_OVERLOAD: Duration = Duration::from_secs(1);
/// A server that asks for more is not waited for longer: the queue's backoff has its say then.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What an answer says of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It came after this time.
    Given(Duration),
    /// Too many requests, or not available for now; the server may say for how long.
    Overloaded(Option<Duration>),
}

/// A token bucket whose rate follows the server.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: f64,
    most: f64,
    burst: f64,
    tokens: f64,
    refilled: Instant,
    halved: Option<Instant>,
    paused_until: Instant,
}

impl Rate {
    /// Begins with this rate, which never exceeds `most`.
    pub fn new(per_second: u32, most: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second.max(1));
        Self {
            per_second,
            most: f64::from(most).max(per_second),
            burst: per_second * BURST_SECONDS,
            tokens: per_second * BURST_SECONDS,
            refilled: now,
            halved: None,
            paused_until: now,
        }
    }

    /// Writes a second.
    pub fn per_second(&self) -> f64 {
        self.per_second
    }

    /// Takes a token, or says when there will be one.
    pub fn take(&mut self, now: Instant) -> Result<(), Instant> {
        self.peek(now)?;
        self.tokens -= 1.0;
        Ok(())
    }

    /// Whether there is a token, or when there will be one.
    pub fn peek(&mut self, now: Instant) -> Result<(), Instant> {
        let gained = now.saturating_duration_since(self.refilled).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + gained).min(self.burst);
        self.refilled = now;
        if self.paused_until > now {
            return Err(self.paused_until);
        }
        if self.tokens < 1.0 {
            let pause = Duration::from_secs_f64((1.0 - self.tokens) / self.per_second);
            return Err(now + pause.max(Duration::from_millis(1)));
        }
        Ok(())
    }

    /// Whether there are more tokens than what is kept for writes that cannot wait.
    pub fn has_spare(&mut self, now: Instant) -> bool {
        self.peek(now).is_ok() && self.tokens > self.burst * RESERVE
    }

    /// Learns from an answer; only while writes wait does a good one say that more would pass.
    pub fn learn(&mut self, answer: Answer, waited_for: bool, now: Instant) {
        match answer {
            Answer::Given(took) if took < SLOW => {
                if waited_for {
                    let more = STEP / self.per_second;
                    self.per_second = (self.per_second + more).min(self.most);
                }
            }
            Answer::Given(_) => self.halve(now),
            Answer::Overloaded(asked) => {
                self.halve(now);
                let pause = asked.unwrap_or_default().min(LONGEST_PAUSE);
                self.paused_until = self.paused_until.max(now + pause);
            }
        }
    }

    fn halve(&mut self, now: Instant) {
        if self.halved.is_some_and(|at| now - at < ONE_OVERLOAD) {
            return;
        }
        self.halved = Some(now);
        self.per_second = (self.per_second / 2.0).max(LEAST);
        self.tokens = self.tokens.min(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Answer = Answer::Given(Duration::from_millis(5));

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_the_rate_holds() {
        let begun = Instant::now();
        let mut rate = Rate::new(50, 50, begun);
        let mut now = begun;
        for _ in 0..400 {
            while let Err(later) = rate.take(now) {
                now = later;
            }
        }
        let took = (now - begun).as_secs_f64();
        assert!((1.9..=2.3).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_wait_leaves_most_of_a_burst_to_what_cannot() {
        let now = Instant::now();
        let mut rate = Rate::new(10, 10, now);
        let mut spare = 0;
        while rate.has_spare(now) {
            rate.take(now).expect("has a token");
            spare += 1;
        }
        let mut kept = 0;
        while rate.take(now).is_ok() {
            kept += 1;
        }
        assert_eq!((spare, kept), (15, 45));
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_grows_while_writes_wait_and_answers_are_quick() {
        let begun = Instant::now();
        let mut rate = Rate::new(50, 200, begun);
        for _ in 0..100 {
            rate.learn(QUICK, false, begun);
        }
        assert_eq!(rate.per_second(), 50.0);
        let mut now = begun;
        while now - begun < Duration::from_secs(4) {
            match rate.take(now) {
                Ok(()) => rate.learn(QUICK, true, now),
                Err(later) => now = later,
            }
        }
        assert!((120.0..=200.0).contains(&rate.per_second()), "{rate:?}");
        for _ in 0..10_000 {
            rate.learn(QUICK, true, now);
        }
        assert_eq!(rate.per_second(), 200.0);
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_requests_halve_the_rate_once_a_second_and_pause_as_long_as_is_asked() {
        let now = Instant::now();
        let after = |seconds: u64| now + Duration::from_secs(seconds);
        let mut rate = Rate::new(64, 64, now);
        let overloaded = Answer::Overloaded(Some(Duration::from_secs(3)));
        for _ in 0..20 {
            rate.learn(overloaded, true, now);
        }
        assert_eq!(rate.per_second(), 32.0);
        assert_eq!(rate.take(now), Err(after(3)));
        assert_eq!(rate.take(after(3)), Ok(()));
        rate.learn(Answer::Given(SLOW), true, after(4));
        assert_eq!(rate.per_second(), 16.0);
        for second in 5..60 {
            rate.learn(Answer::Overloaded(None), true, after(second));
        }
        assert_eq!(rate.per_second(), LEAST);
        let hour = Answer::Overloaded(Some(Duration::from_secs(3_600)));
        rate.learn(hour, true, after(60));
        assert_eq!(rate.take(after(60)), Err(after(60) + LONGEST_PAUSE));
    }
}

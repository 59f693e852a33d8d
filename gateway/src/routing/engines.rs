//! The engines of one local target: which takes a request, and which are passed over because they just failed.

use http::uri::Authority;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use crate::lock::lock;

/// An engine that failed is the last choice for this long, and for twice as long with every further failure in a row.
const PASSED_OVER: Duration = Duration::from_secs(1);
const MAX_PASSED_OVER: Duration = Duration::from_secs(30);

/// What lasts longer than a table: for as long as the address is in the one in force, or a request is on it.
#[derive(Debug, Default)]
pub(crate) struct EngineState {
    in_flight: AtomicUsize,
    passed_over: Mutex<Option<PassedOver>>,
}

#[derive(Clone, Copy, Debug)]
struct PassedOver {
    pause: Duration,
    until: Instant,
}

impl EngineState {
    fn is_passed_over(&self, now: Instant) -> bool {
        lock(&self.passed_over).is_some_and(|passed| now < passed.until)
    }
}

/// One engine.
#[derive(Clone, Debug)]
pub struct Engine {
    authority: Authority,
    state: Arc<EngineState>,
}

impl Engine {
    /// Host and port.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Counts a request on it until the guard is dropped.
    pub(crate) fn occupy(&self) -> EngineSlot {
        self.state.in_flight.fetch_add(1, Ordering::Relaxed);
        EngineSlot(Arc::clone(&self.state))
    }
}

/// A request that an engine has.
#[derive(Debug)]
pub(crate) struct EngineSlot(Arc<EngineState>);

impl EngineSlot {
    /// It could not be reached, or gave no proper answer.
    pub(crate) fn record_failure(&self, now: Instant) {
        let mut passed_over = lock(&self.0.passed_over);
        let pause = passed_over.map_or(PASSED_OVER, |before| before.pause * 2);
        let pause = pause.min(MAX_PASSED_OVER);
        *passed_over = Some(PassedOver {
            pause,
            until: now + pause,
        });
    }

    /// It answers.
    pub(crate) fn record_answer(&self) {
        *lock(&self.0.passed_over) = None;
    }
}

impl Drop for EngineSlot {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The engines of one local target at one time.
#[derive(Debug, Default)]
pub struct Engines {
    all: Vec<Engine>,
    turn: Arc<AtomicUsize>,
}

impl Engines {
    /// Every engine.
    pub fn all(&self) -> &[Engine] {
        &self.all
    }

    /// The engine with the fewest requests, in turn among equals; one that just failed only where there is no other.
    pub(crate) fn pick(&self, now: Instant) -> Option<&Engine> {
        let count = self.all.len();
        if count < 2 {
            return self.all.first();
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        (0..count)
            .map(|offset| &self.all[turn.wrapping_add(offset) % count])
            .min_by_key(|engine| {
                let state = &engine.state;
                let busy = state.in_flight.load(Ordering::Relaxed);
                (state.is_passed_over(now), busy)
            })
    }
}

/// The standing of a target's engines over tables.
#[derive(Debug, Default)]
pub(crate) struct KnownEngines {
    states: BTreeMap<SocketAddr, Weak<EngineState>>,
    present: usize,
    turn: Arc<AtomicUsize>,
}

impl KnownEngines {
    /// Whether the last table had no engine.
    pub(crate) fn is_empty(&self) -> bool {
        self.present == 0
    }

    /// The engines at these addresses, with the standing that they had; others are forgotten once no request is on them.
    pub(crate) fn at(&mut self, addresses: &[SocketAddr]) -> Engines {
        self.states.retain(|_, state| state.strong_count() > 0);
        let engine = |address: &SocketAddr| {
            let authority = address.to_string().parse().ok()?;
            let known = self.states.get(address).and_then(Weak::upgrade);
            let state = known.unwrap_or_default();
            self.states.insert(*address, Arc::downgrade(&state));
            Some(Engine { authority, state })
        };
        let all: Vec<Engine> = addresses.iter().filter_map(engine).collect();
        self.present = all.len();
        Engines {
            all,
            turn: Arc::clone(&self.turn),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        ([10, 0, 0, last], 8000).into()
    }

    fn picked(engines: &Engines, now: Instant) -> &str {
        engines.pick(now).expect("an engine").authority().as_str()
    }

    #[test]
    fn the_least_busy_engine_is_next_and_equals_take_turns() {
        let now = Instant::now();
        let engines = KnownEngines::default().at(&[address(1), address(2), address(3)]);
        let round: Vec<&str> = (0..3).map(|_| picked(&engines, now)).collect();
        assert_eq!(round, ["10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"]);
        let mut held: Vec<EngineSlot> = engines.all().iter().map(Engine::occupy).collect();
        held.remove(1);
        for _ in 0..3 {
            assert_eq!(picked(&engines, now), "10.0.0.2:8000");
        }
    }

    #[test]
    fn an_engine_that_failed_is_the_last_choice_ever_longer_until_it_answers() {
        let now = Instant::now();
        let mut known = KnownEngines::default();
        let engines = known.at(&[address(1), address(2)]);
        let _busy = engines.all[1].occupy();
        let fails = || engines.all[0].occupy().record_failure(now);
        fails();
        assert_eq!(picked(&engines, now), "10.0.0.2:8000");
        let later = known.at(&[address(1), address(2)]);
        let remembered = picked(&later, now);
        assert_eq!(remembered, "10.0.0.2:8000", "a new table forgets nothing");
        assert_eq!(picked(&engines, now + PASSED_OVER), "10.0.0.1:8000");
        fails();
        assert_eq!(picked(&engines, now + PASSED_OVER), "10.0.0.2:8000");
        assert_eq!(picked(&engines, now + PASSED_OVER * 2), "10.0.0.1:8000");
        (0..20).for_each(|_| fails());
        let at_last = now + MAX_PASSED_OVER;
        assert_eq!(picked(&engines, at_last), "10.0.0.1:8000");
        engines.all[0].occupy().record_answer();
        assert_eq!(picked(&engines, now), "10.0.0.1:8000");
    }

    #[test]
    fn a_lone_engine_is_always_chosen_and_an_absent_one_never() {
        let now = Instant::now();
        let mut known = KnownEngines::default();
        let alone = known.at(&[address(1)]);
        alone.all[0].occupy().record_failure(now);
        assert_eq!(picked(&alone, now), "10.0.0.1:8000");
        assert!(known.at(&[]).pick(now).is_none() && known.is_empty());
    }

    #[test]
    fn an_engine_that_comes_back_still_has_its_requests_and_one_that_had_none_begins_anew() {
        let now = Instant::now();
        let mut known = KnownEngines::default();
        let engines = known.at(&[address(1), address(2)]);
        let running = engines.all[0].occupy();
        engines.all[1].occupy().record_failure(now);
        drop(engines);
        assert!(known.at(&[]).all().is_empty());
        let engines = known.at(&[address(1), address(2)]);
        for _ in 0..2 {
            assert_eq!(picked(&engines, now), "10.0.0.2:8000");
        }
        drop((running, engines));
        assert!(known.at(&[]).all().is_empty() && known.states.is_empty());
    }

    #[test]
    fn addresses_of_both_families_are_hosts_of_a_uri() {
        let six: SocketAddr = "[fd00::7]:8000".parse().expect("an address");
        let engines = KnownEngines::default().at(&[address(7), six]);
        let hosts = engines.all().iter();
        let hosts: Vec<&str> = hosts.map(|engine| engine.authority().as_str()).collect();
        assert_eq!(hosts, ["10.0.0.7:8000", "[fd00::7]:8000"]);
    }
}

//! The engines of one local target: which takes a request, and which are passed over because they just failed.

use http::uri::Authority;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::state::lock;

/// An engine that could not be reached is the last choice for this long; the cluster says within that time what became
/// of it.
const PASSED_OVER: Duration = Duration::from_secs(1);

/// What lasts longer than a table, for as long as the address is in it.
#[derive(Debug, Default)]
pub struct EngineState {
    in_flight: AtomicUsize,
    failed: Mutex<Option<Instant>>,
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

    /// It could not be reached, or was lost before it answered.
    pub fn failed(&self, now: Instant) {
        *lock(&self.state.failed) = Some(now);
    }

    /// Counts a request on it until the guard is dropped.
    pub fn occupy(&self) -> Occupied {
        self.state.in_flight.fetch_add(1, Ordering::Relaxed);
        Occupied(Arc::clone(&self.state))
    }

    fn is_passed_over(&self, now: Instant) -> bool {
        let failed = *lock(&self.state.failed);
        failed.is_some_and(|at| now.duration_since(at) < PASSED_OVER)
    }
}

/// A request that an engine has.
#[derive(Debug)]
pub struct Occupied(Arc<EngineState>);

impl Drop for Occupied {
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
    pub fn pick(&self, now: Instant) -> Option<&Engine> {
        let count = self.all.len();
        if count < 2 {
            return self.all.first();
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        (0..count)
            .map(|offset| &self.all[turn.wrapping_add(offset) % count])
            .min_by_key(|engine| {
                let busy = engine.state.in_flight.load(Ordering::Relaxed);
                (engine.is_passed_over(now), busy)
            })
    }
}

/// The standing of a target's engines over tables.
#[derive(Debug, Default)]
pub struct Known {
    states: BTreeMap<SocketAddr, Arc<EngineState>>,
    turn: Arc<AtomicUsize>,
}

impl Known {
    /// Whether there is no engine.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// The engines at these addresses, with the standing that they had; others are forgotten.
    pub fn at(&mut self, addresses: &[SocketAddr]) -> Engines {
        let mut before = std::mem::take(&mut self.states);
        let engine = |address: &SocketAddr| {
            let authority = address.to_string().parse().ok()?;
            let state = before.remove(address).unwrap_or_default();
            self.states.insert(*address, Arc::clone(&state));
            Some(Engine { authority, state })
        };
        Engines {
            all: addresses.iter().filter_map(engine).collect(),
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
        let engines = Known::default().at(&[address(1), address(2), address(3)]);
        let round: Vec<&str> = (0..3).map(|_| picked(&engines, now)).collect();
        assert_eq!(round, ["10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"]);
        let mut held: Vec<Occupied> = engines.all().iter().map(Engine::occupy).collect();
        held.remove(1);
        for _ in 0..3 {
            assert_eq!(picked(&engines, now), "10.0.0.2:8000");
        }
    }

    #[test]
    fn an_engine_that_just_failed_is_the_last_choice() {
        let now = Instant::now();
        let mut known = Known::default();
        let engines = known.at(&[address(1), address(2)]);
        let busy = engines.all[1].occupy();
        engines.all[0].failed(now);
        assert_eq!(picked(&engines, now), "10.0.0.2:8000");
        let later = known.at(&[address(1), address(2)]);
        assert_eq!(
            picked(&later, now),
            "10.0.0.2:8000",
            "a new table forgets nothing"
        );
        assert_eq!(picked(&engines, now + PASSED_OVER), "10.0.0.1:8000");
        drop(busy);
        let alone = known.at(&[address(1)]);
        assert_eq!(picked(&alone, now), "10.0.0.1:8000");
        assert!(known.at(&[]).pick(now).is_none() && known.is_empty());
    }

    #[test]
    fn addresses_of_both_families_are_hosts_of_a_uri() {
        let six: SocketAddr = "[fd00::7]:8000".parse().expect("an address");
        let engines = Known::default().at(&[address(7), six]);
        let hosts = engines.all().iter();
        let hosts: Vec<&str> = hosts.map(|engine| engine.authority().as_str()).collect();
        assert_eq!(hosts, ["10.0.0.7:8000", "[fd00::7]:8000"]);
    }
}

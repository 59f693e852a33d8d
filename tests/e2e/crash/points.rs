//! Names of the operator's writes, and which of them are struck in which move.

use super::scene::Direction;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use weir_crds::names;
use weir_tests::fault_proxy::{Point, Position, Write};

/// What strikes one move.
pub type Group = Vec<(Point, Position)>;

/// A point that did not come is tried again alone, for a kill can keep another's point from coming. When as many moves that
/// nothing disturbed were without it, it is none of their writes: it has to do with the time of day.
const MOVES_WITHOUT_IT: usize = 2;

/// The name of a write: the step of the placement that it orders, or what it writes and after which such step. Leases are
/// renewed by the clock, and events are told beside the reconcile: neither is a point.
pub fn name(write: Write<'_>, before: &[String]) -> Option<String> {
    let object = object(write.path);
    if object.starts_with("leases") || object.starts_with("events") {
        return None;
    }
    if write.manager == names::MANAGER_PLACEMENT {
        let body: Value = serde_json::from_slice(write.body).unwrap_or_default();
        return Some(format!("{object} {}", step(&body["status"]["placement"])));
    }
    let last = before
        .iter()
        .rev()
        .find_map(|label| label.split_once(" step "));
    let last = last.map_or("at first", |(_, step)| step);
    Some(format!("{} {object} ({last})", write.verb))
}

/// `resource/name[/subresource]` of a path of the API.
fn object(path: &str) -> String {
    let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let group = if parts.first() == Some(&"apis") { 3 } else { 2 };
    parts.drain(..group.min(parts.len()));
    if parts.len() > 2 && parts[0] == "namespaces" {
        parts.drain(..2);
    }
    parts.join("/")
}

/// ` step Canary local=50x1 cloud=50 acknowledged`.
fn step(placement: &Value) -> String {
    let weights: Vec<String> = placement["weights"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|weight| {
            let replicas = weight["replicas"].as_i64();
            let replicas = replicas.map_or_else(String::new, |replicas| format!("x{replicas}"));
            format!(
                "{}={}{replicas}",
                weight["target"].as_str().unwrap_or_default(),
                weight["weight"]
            )
        })
        .collect();
    let phase = placement["phase"].as_str().unwrap_or_default();
    let acknowledged = match placement["move"]["acknowledged"].is_string() {
        true => " acknowledged",
        false => "",
    };
    format!("step {phase} {}{acknowledged}", weights.join(" "))
}

/// What is still to be struck.
pub struct Schedule {
    kills_per_move: usize,
    groups: BTreeMap<Direction, VecDeque<Group>>,
    again: BTreeMap<Direction, VecDeque<Group>>,
    misses: BTreeMap<(Direction, Point, Position), usize>,
}

impl Schedule {
    /// Nothing yet.
    pub fn new(kills_per_move: usize) -> Self {
        Self {
            kills_per_move,
            groups: BTreeMap::new(),
            again: BTreeMap::new(),
            misses: BTreeMap::new(),
        }
    }

    /// Every point of a move, in both positions; the points of a group lie as far apart as can be.
    pub fn add(&mut self, direction: Direction, points: &[Point]) {
        let moves = points.len().div_ceil(self.kills_per_move);
        for position in [Position::BeforeForwarding, Position::AfterCommit] {
            for first in 0..moves {
                let group = points.iter().skip(first).step_by(moves);
                let group = group.map(|point| (point.clone(), position)).collect();
                self.groups.entry(direction).or_default().push_back(group);
            }
        }
    }

    /// Whether everything was struck.
    pub fn is_empty(&self) -> bool {
        let mut groups = self.groups.values().chain(self.again.values());
        groups.all(VecDeque::is_empty)
    }

    /// What strikes the next move; nothing when it only leads back.
    pub fn next(&mut self, direction: Direction) -> Group {
        let mut queues = [&mut self.groups, &mut self.again].into_iter();
        let next = queues.find_map(|groups| groups.get_mut(&direction)?.pop_front());
        next.unwrap_or_default()
    }

    /// What did not come is tried again later, or is none of a move's writes: those are returned.
    pub fn missed(&mut self, direction: Direction, group: Group, killed: &Group) -> Group {
        let undisturbed = killed.is_empty();
        let mut absent = Group::new();
        for each in group {
            if killed.contains(&each) {
                continue;
            }
            let misses = self
                .misses
                .entry((direction, each.0.clone(), each.1))
                .or_default();
            *misses += usize::from(undisturbed);
            if *misses < MOVES_WITHOUT_IT {
                let again = self.again.entry(direction).or_default();
                again.push_back(vec![each]);
            } else {
                absent.push(each);
            }
        }
        absent
    }
}

//! What the state machine is told: the decision, the spec's rules, and what is seen of targets and gateways.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use weir_crds::names;
use weir_crds::placement::{DecidedFor, Location};

/// What was decided, as far as moves need it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Identity of the decision.
    pub decision_id: String,
    /// The wished target; `None` when nothing may serve.
    pub target: Option<String>,
    /// Why.
    pub reason: String,
    /// Whether the decision orders a move; otherwise the placement is held or kept.
    pub moves: bool,
    /// Every target that no gate rejects, in the spec's order.
    pub feasible: Vec<WishedTarget>,
}

/// A target that traffic may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WishedTarget {
    /// Name of the target.
    pub name: String,
    /// Whether it is in the cluster.
    pub location: Location,
    /// Replicas that a local target needs.
    pub replicas: Option<i32>,
    /// The tier of a local target.
    pub tier: Option<String>,
    /// What an external target is: the placement keeps it, for gateways to compare.
    pub decided_for: Option<DecidedFor>,
}

impl Wish {
    /// Whether a target may serve.
    pub fn allows(&self, target: &str) -> bool {
        self.feasible.iter().any(|each| each.name == target)
    }

    pub(super) fn tier(&self, target: &str) -> Option<String> {
        let named = self.feasible.iter().find(|each| each.name == target);
        named.and_then(|each| each.tier.clone())
    }
}

/// What the spec says about moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Every target of the spec, in its order.
    pub targets: Vec<TargetRules>,
    /// Share in percent and pause of each step on the way to all of the traffic.
    pub canary: Vec<(i32, SignedDuration)>,
    /// Share of failed requests above which a move is rolled back, in millionths of a percent.
    pub max_error_micro_percent: u64,
    /// How long requests on the old target may take to end.
    pub drain: SignedDuration,
    /// Nothing moves and nothing scales.
    pub suspend: bool,
}

/// What the spec says about one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetRules {
    /// Name of the target.
    pub name: String,
    /// Whether it is in the cluster.
    pub location: Location,
    /// Replicas that are always kept.
    pub min_replicas: i32,
    /// Most replicas.
    pub max_replicas: i32,
    /// How long a target without traffic keeps its replicas.
    pub idle_after: SignedDuration,
}

impl Rules {
    /// The rules of a target of the spec; a substitute has those of its target.
    pub fn target(&self, name: &str) -> Option<&TargetRules> {
        let declared = names::declared_target(name);
        self.targets.iter().find(|target| target.name == declared)
    }
}

/// What is seen of targets and gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// By target.
    pub targets: BTreeMap<String, TargetObserved>,
    /// Whether every ready gateway of the plane has the present step.
    pub acknowledged: Acknowledgement,
    /// Whether every gateway has it, unready and terminating ones among them.
    pub settled: Acknowledgement,
}

impl Observed {
    /// Whether every gateway, in whatever state, has the present step.
    pub fn acknowledged_by_all(&self) -> bool {
        self.acknowledged == Acknowledgement::All && self.settled == Acknowledgement::All
    }

    /// What is seen of a target; of an unknown one nothing.
    pub fn target(&self, name: &str) -> TargetObserved {
        self.targets.get(name).cloned().unwrap_or_default()
    }
}

/// Whether gateways have a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acknowledgement {
    /// All of them, and there is at least one.
    All,
    /// These pods have not; empty when there is no gateway at all.
    Waiting(Vec<String>),
}

/// What is seen of one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetObserved {
    /// Whether it can serve.
    pub usable: Usable,
    /// Why a local target cannot become ready.
    pub failure: Option<Failure>,
    /// Replicas that the Deployment of a local target orders; `None` when there is none.
    pub replicas: Option<i32>,
    /// Requests since the move's first canary step, or since the present step.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// Requests that run on it; `None` is unknown.
    pub in_flight: Option<u64>,
    /// When a request last came for it while it had no ready replica.
    pub woken: Option<Timestamp>,
    /// What is added to the time that it may take to become ready, for nodes that are provisioned first.
    pub patience: SignedDuration,
}

/// Whether a target can serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Usable {
    /// It can: its replicas are ready, or its provider answers.
    Yes,
    /// A local target has not all of the replicas that are wished for, but some.
    Partly,
    /// The replicas of a local target are ready, and a gateway has no endpoint of them.
    Unreached,
    /// It cannot.
    #[default]
    No,
}

/// Why a local target cannot become ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The reason, in one CamelCase word group.
    pub reason: String,
    /// The reason in one sentence.
    pub message: String,
    /// Waiting alone does not help.
    pub lasting: bool,
    /// Its pods have no node: they hold no device, and can stand until the cause is gone.
    pub without_node: bool,
    /// The engine reported it after it was started.
    pub of_engine: bool,
}

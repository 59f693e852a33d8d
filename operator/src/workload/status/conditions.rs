//! The conditions of a workload, each from what was read and decided.

mod summary;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use weir_crds::condition::{ConditionStatus, Conditions, types};
use weir_crds::decision::Decision;
use weir_crds::placement::{Location, Phase, Placement};

use super::View;
use crate::workload::moves::{ACK_TIMEOUT, Acknowledgement, HEARING_TIMEOUT, Usable, after};
use crate::workload::{client_key, observe, validate};

/// A condition before it is set: type, status, reason, message.
struct Finding(&'static str, ConditionStatus, String, String);

impl Finding {
    fn new(
        type_: &'static str,
        status: impl Into<ConditionStatus>,
        reason: &str,
        message: impl Into<String>,
    ) -> Self {
        Self(type_, status.into(), reason.to_owned(), message.into())
    }

    fn holds(&self) -> bool {
        self.1 == ConditionStatus::True
    }
}

/// Every condition that applies to the workload.
pub fn conditions(
    view: View<'_>,
    previous: &[Condition],
    decision: Option<&Decision>,
) -> Vec<Condition> {
    let mut findings = vec![accepted(view), resolved(view), feasible(view, decision)];
    findings.push(placed(view, decision));
    let targets = || view.facts.workload.spec.targets.iter();
    if targets().any(|target| target.local.is_some()) {
        findings.push(local_ready(view));
    }
    if targets().any(|target| target.external.is_some()) {
        findings.push(external_ready(view));
        findings.push(price_fresh(view));
    }
    findings.push(route_programmed(view, previous));
    findings.push(client_key_ready(view));
    findings.extend(slo_met(view));
    let ready = summary::ready(view, previous, &findings);
    let stalled = summary::stalled(view, &findings);
    findings.push(summary::reconciling(view, &ready, &stalled));
    findings.push(stalled);
    findings.push(ready);
    let mut conditions = Conditions::default();
    let now = Time(Timestamp::from_second(view.facts.now.as_second()).unwrap_or(view.facts.now));
    for Finding(type_, status, reason, message) in findings {
        let condition = (type_, status, reason.as_str());
        conditions.set(previous, condition, message, view.facts.generation(), &now);
    }
    conditions.0
}

fn accepted(view: View<'_>) -> Finding {
    match view.validated {
        Ok(_) => Finding::new(types::ACCEPTED, true, "Accepted", "the spec is consistent"),
        Err(error) => Finding::new(types::ACCEPTED, false, "InvalidSpec", error.to_string()),
    }
}

fn resolved(view: View<'_>) -> Finding {
    let type_ = types::RESOLVED_REFS;
    let Ok(validated) = view.validated else {
        return Finding::new(
            type_,
            ConditionStatus::Unknown,
            "InvalidSpec",
            "see condition Accepted",
        );
    };
    match validated.unresolved.first() {
        None => Finding::new(
            type_,
            true,
            "Resolved",
            "everything that the spec refers to exists",
        ),
        Some(first) => {
            let messages: Vec<&str> = validated
                .unresolved
                .iter()
                .map(|problem| problem.message.as_str())
                .collect();
            Finding::new(type_, false, first.reason, messages.join("; "))
        }
    }
}

fn feasible(view: View<'_>, decision: Option<&Decision>) -> Finding {
    let type_ = types::FEASIBLE;
    let Some(decision) = decision.filter(|_| view.validated.is_ok()) else {
        let message = "no decision was taken yet";
        return Finding::new(type_, ConditionStatus::Unknown, "NotDecided", message);
    };
    let passing = decision
        .candidates
        .iter()
        .filter(|candidate| candidate.feasible);
    let (passing, all) = (passing.count(), decision.candidates.len());
    let may_serve = decision.target.is_some();
    if may_serve && passing > 0 {
        let message = format!("{passing} of {all} targets pass every gate");
        Finding::new(type_, true, "Feasible", message)
    } else if may_serve {
        Finding::new(type_, false, &decision.reason, decision.message.clone())
    } else {
        Finding::new(type_, false, "NoFeasibleTarget", decision.message.clone())
    }
}

fn placed(view: View<'_>, decision: Option<&Decision>) -> Finding {
    let reason = decision.map_or("Placed", |decision| decision.reason.as_str());
    match view
        .placement
        .filter(|placement| !placement.weights.is_empty())
    {
        Some(placement) => {
            let place = placement.location.as_str();
            let message = match &placement.tier {
                Some(tier) => format!("on {} ({place}, tier {tier})", placement.target),
                None => format!("on {} ({place})", placement.target),
            };
            Finding::new(types::PLACED, true, "Placed", message)
        }
        None => {
            let message =
                decision.map_or("no decision was taken yet", |decision| &decision.message);
            let reason = if decision.is_some() {
                reason
            } else {
                "NotDecided"
            };
            Finding::new(types::PLACED, false, reason, message)
        }
    }
}

/// Targets of one side that carry traffic or are being moved to.
fn concerned(view: View<'_>, location: Location) -> Vec<String> {
    let Some(placement) = view.placement else {
        return Vec::new();
    };
    let mut names: Vec<String> = carrying(placement);
    if let Some(ongoing) = &placement.r#move
        && placement.phase != Phase::RollingBack
        && !names.contains(&ongoing.to)
    {
        names.push(ongoing.to.clone());
    }
    let spec = &view.facts.workload.spec;
    let here = |name: &String| {
        let target = spec.target(name);
        target.is_some_and(|target| observe::location(&target) == location)
    };
    names.into_iter().filter(here).collect()
}

fn carrying(placement: &Placement) -> Vec<String> {
    placement
        .weights
        .iter()
        .filter(|weight| weight.weight > 0)
        .map(|weight| weight.target.clone())
        .collect()
}

fn local_ready(view: View<'_>) -> Finding {
    let type_ = types::LOCAL_READY;
    let targets = concerned(view, Location::Local);
    if let Some((target, problem)) = view.problems.iter().next() {
        let message = format!("{target}: {}", problem.message);
        return Finding::new(type_, false, problem.reason.as_str(), message);
    }
    if targets.is_empty() {
        let message = "no local target carries traffic";
        return Finding::new(type_, true, "NoTraffic", message);
    }
    let unready = targets
        .iter()
        .find(|target| view.observation.observed.target(target).usable != Usable::Yes);
    let Some(target) = unready else {
        let message = format!("{} is ready", targets.join(", "));
        return Finding::new(type_, true, "Serving", message);
    };
    let ready = view
        .observation
        .ready_replicas
        .get(target)
        .copied()
        .unwrap_or(0);
    match view.observation.diagnoses.get(target) {
        Some((reason, message)) => {
            let message = format!("{target}: {message}");
            Finding::new(type_, false, reason.as_str(), message)
        }
        None => {
            let message = format!("{target} has {ready} ready replicas and starts more");
            Finding::new(type_, false, "Starting", message)
        }
    }
}

fn external_ready(view: View<'_>) -> Finding {
    let type_ = types::EXTERNAL_READY;
    let targets = concerned(view, Location::External);
    if targets.is_empty() {
        let message = "no external target carries traffic";
        return Finding::new(type_, true, "NoTraffic", message);
    }
    let mut unknown = None;
    for target in &targets {
        let declared = view.facts.workload.spec.target(target);
        let Some(external) = declared.and_then(|declared| declared.external) else {
            continue;
        };
        let name = external.provider_ref.name;
        let Some(provider) = view.facts.providers.get(&name) else {
            let message = format!("{target}: provider {name} does not exist");
            return Finding::new(type_, false, "ProviderUnhealthy", message);
        };
        match validate::healthy(provider) {
            Some(true) => {}
            Some(false) => {
                let why = validate::unhealthy_because(provider);
                let message = format!("{target}: provider {name} does not answer{why}");
                return Finding::new(type_, false, "ProviderUnhealthy", message);
            }
            None => unknown = unknown.or(Some(name)),
        }
    }
    match unknown {
        None => {
            let message = format!("{} is usable", targets.join(", "));
            Finding::new(type_, true, "Usable", message)
        }
        Some(name) => {
            let message = format!("provider {name} has not answered a gateway yet");
            Finding::new(type_, ConditionStatus::Unknown, "NotMeasured", message)
        }
    }
}

fn price_fresh(view: View<'_>) -> Finding {
    let type_ = types::PRICE_FRESH;
    if view.facts.price_books.is_empty() {
        let message = "no price book gives prices for the external targets";
        return Finding::new(type_, ConditionStatus::Unknown, "NoPriceBook", message);
    }
    let stale: Vec<&str> = view
        .facts
        .price_books
        .iter()
        .filter(|(_, book)| !validate::is_fresh(book, view.facts.now))
        .map(|(name, _)| name.as_str())
        .collect();
    if stale.is_empty() {
        Finding::new(
            type_,
            true,
            "Fresh",
            "prices were confirmed within staleAfter",
        )
    } else {
        let message = format!(
            "price book {} was not confirmed within staleAfter",
            stale.join(", ")
        );
        Finding::new(type_, false, "Stale", message)
    }
}

fn route_programmed(view: View<'_>, previous: &[Condition]) -> Finding {
    let type_ = types::ROUTE_PROGRAMMED;
    let Some(placement) = view.placement else {
        return Finding::new(
            type_,
            false,
            "NotPlaced",
            "there is no route without a placement",
        );
    };
    let pending = || {
        let message = format!("step {} was ordered", placement.step);
        Finding::new(type_, false, "Pending", message)
    };
    let acknowledged = || {
        let message = format!("every ready gateway has step {}", placement.step);
        Finding::new(type_, true, "Acknowledged", message)
    };
    if view.just_ordered {
        return pending();
    }
    let waiting = match &view.observation.observed.acknowledged {
        Acknowledgement::All => return acknowledged(),
        Acknowledgement::Waiting(pods) => pods,
    };
    let hearing = after(view.facts.traffic.hearing_since, HEARING_TIMEOUT) > view.facts.now;
    let was_acknowledged = || {
        let Finding(_, status, reason, message) = acknowledged();
        let said = (
            status.as_str(),
            reason,
            message,
            Some(view.facts.generation()),
        );
        previous.iter().any(|before| {
            before.type_ == type_
                && (before.status.as_str(), before.observed_generation) == (said.0, said.3)
                && (&before.reason, &before.message) == (&said.1, &said.2)
        })
    };
    // An operator or gateways that are new have not heard each other yet: that says nothing against what was acknowledged.
    if hearing && was_acknowledged() {
        return acknowledged();
    }
    if view.facts.now.duration_since(placement.step_since.0) < ACK_TIMEOUT {
        return pending();
    }
    let who = if waiting.is_empty() {
        "the plane has no ready gateway".to_owned()
    } else {
        format!("not acknowledged by {}", waiting.join(", "))
    };
    let message = format!("step {} {who}", placement.step);
    Finding::new(type_, false, "AckTimeout", message)
}

fn client_key_ready(view: View<'_>) -> Finding {
    let type_ = types::CLIENT_KEY_READY;
    if let Some(problem) = &view.keys.problem {
        return Finding::new(
            type_,
            false,
            problem.reason.as_str(),
            problem.message.clone(),
        );
    }
    let Some(key) = &view.keys.key else {
        return Finding::new(type_, false, "NotMade", "there is no key yet");
    };
    let holds = format!("Secret {} holds the key", key.secret_name);
    let Some(before) = key.former.first() else {
        return Finding::new(type_, true, "Made", holds);
    };
    let reason = if client_key::root_was_replaced(key) {
        "RootReplaced"
    } else {
        "Rotated"
    };
    let (secret, until) = (&before.secret_name, before.valid_until.0);
    let message = format!("{holds}; the one before it, in {secret}, is valid until {until}");
    Finding::new(type_, true, reason, message)
}

fn slo_met(view: View<'_>) -> Option<Finding> {
    let slo = view.validated.ok()?.input.slo_ttft?;
    let target = &view.placement?.target;
    let seen = view
        .facts
        .traffic
        .targets
        .get(target)
        .and_then(|seen| seen.ttft_p95);
    Some(match seen {
        None => Finding::new(
            types::SLO_MET,
            ConditionStatus::Unknown,
            "NotMeasured",
            "too few requests to tell",
        ),
        Some(ttft) if ttft > slo => {
            let message =
                format!("time to first token of {target} is above {slo} at the 95th percentile");
            Finding::new(types::SLO_MET, false, "TTFTAboveSLO", message)
        }
        Some(_) => {
            let message =
                format!("time to first token of {target} is within {slo} at the 95th percentile");
            Finding::new(types::SLO_MET, true, "WithinSLO", message)
        }
    })
}

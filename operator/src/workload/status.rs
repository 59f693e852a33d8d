//! The status of a workload: rendered here, written by `weir-operator-placement` and `weir-operator-status`.

mod conditions;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use weir_crds::decision::{Decision, HistoryEntry};
use weir_crds::placement::{Phase, Placement};
use weir_crds::usage::Usage;
use weir_crds::{InferenceWorkload, InferenceWorkloadStatus, names, text};

use super::apply::ChildProblems;
use super::decide;
use super::facts::Facts;
use super::keys::Keys;
use super::moves::{Held, whole_seconds};
use super::observe::Observation;
use super::validate::{self, SpecError, Validated};

pub use conditions::conditions;

/// Usage is written at most this often.
pub const USAGE_INTERVAL: SignedDuration = SignedDuration::from_mins(5);
const MOST_HISTORY: usize = 10;
/// As many as `operations.maxMovesPerWeek` may be, with those of the history.
const MOST_EARLIER_MOVES: usize = 1000 - MOST_HISTORY;
const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Why status could not be written.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The API server refused.
    #[error("{part} of {name} could not be written")]
    Write {
        /// `status` or `status.placement`.
        part: &'static str,
        /// Name of the workload.
        name: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

/// What a status is rendered from.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What was read.
    pub facts: &'a Facts,
    /// What it means, or why the spec cannot be understood.
    pub validated: Result<&'a Validated, &'a SpecError>,
    /// What was decided; `None` while nothing can be.
    pub decision: Option<&'a weir_placement::Decision>,
    /// Its split for this hour, where there is one.
    pub split: Option<&'a weir_placement::HourlySplit>,
    /// The placement in status, this reconcile's step included.
    pub placement: Option<&'a Placement>,
    /// Whether this reconcile wrote it, so that nobody can have acknowledged it.
    pub just_ordered: bool,
    /// What is seen of targets.
    pub observation: &'a Observation,
    /// What is wrong with children.
    pub problems: &'a ChildProblems,
    /// Where clients send requests, and the key that they present.
    pub keys: &'a Keys,
    /// What was metered over the object's life.
    pub usage: Option<&'a Usage>,
    /// A wish to move waits for a target that was rolled back.
    pub held: Option<&'a Held>,
}

/// The whole status but for the placement, which is written apart.
pub fn render(view: View<'_>) -> InferenceWorkloadStatus {
    let previous = view.facts.workload.status.clone().unwrap_or_default();
    let generation = view.facts.generation();
    let decision = decision(view, previous.decision.as_ref());
    let conditions = conditions(view, &previous.conditions, decision.as_ref());
    InferenceWorkloadStatus {
        observed_generation: Some(generation),
        endpoint: Some(view.keys.endpoint.clone()),
        client_key: view.keys.key.clone(),
        placement: None,
        history: history(view, &previous, decision.as_ref()),
        earlier_moves: previous.earlier_moves,
        decision,
        usage: usage(previous.usage.as_ref(), view.usage, view.facts.now),
        conditions,
    }
}

/// What was decided; the decision on record where it is the same but for times.
fn decision(view: View<'_>, previous: Option<&Decision>) -> Option<Decision> {
    let Some(decided) = view.decision else {
        return previous.cloned();
    };
    let mut rendered = decide::render(decided, previous, view.facts.now);
    rendered.split = view.split.map(decide::render_split);
    if let Some(held) = view.held {
        rendered.outcome = "Hold".to_owned();
        rendered.hold_until = held.until.map(whole_seconds);
        rendered.message = text::bounded(format!("{}; held: {}", rendered.message, held.message));
    }
    match previous {
        Some(previous) if decide::same(previous, &rendered) => Some(previous.clone()),
        _ => Some(rendered),
    }
}

/// Completed moves; the first placement is the first entry.
fn history(
    view: View<'_>,
    previous: &InferenceWorkloadStatus,
    decision: Option<&Decision>,
) -> Vec<HistoryEntry> {
    let first = view
        .placement
        .filter(|placement| previous.history.is_empty() && placement.phase == Phase::Steady);
    match first {
        None => previous.history.clone(),
        Some(placement) => vec![HistoryEntry {
            id: placement.decision_id.clone(),
            time: placement.since.clone(),
            from: None,
            to: placement.target.clone(),
            reason: decision
                .filter(|decision| decision.id == placement.decision_id)
                .map_or("Placed", |decision| &decision.reason)
                .to_owned(),
            uncounted: None,
        }],
    }
}

/// Puts the end of a move into the history. What counts of the week and has no place there any more stays as a time.
pub fn add_entry(status: &mut InferenceWorkloadStatus, entry: &HistoryEntry) {
    status.history.insert(0, entry.clone());
    let dropped = status
        .history
        .drain(MOST_HISTORY.min(status.history.len())..);
    let dropped: Vec<Time> = dropped
        .filter(validate::counts)
        .map(|dropped| dropped.time)
        .collect();
    let of_the_week = |at: &Time| entry.time.0.duration_since(at.0) < WEEK;
    let earlier = dropped
        .into_iter()
        .chain(std::mem::take(&mut status.earlier_moves));
    status.earlier_moves = earlier
        .filter(of_the_week)
        .take(MOST_EARLIER_MOVES)
        .collect();
}

/// The figures in status, until new ones are due.
fn usage(previous: Option<&Usage>, metered: Option<&Usage>, now: Timestamp) -> Option<Usage> {
    let Some(metered) = metered.filter(|metered| metered.requests > 0) else {
        return previous.cloned();
    };
    let Some(previous) = previous else {
        return Some(Usage {
            updated: Some(whole_seconds(now)),
            ..metered.clone()
        });
    };
    let same = Usage {
        since: previous.since.clone(),
        updated: previous.updated.clone(),
        ..metered.clone()
    } == *previous;
    let due = usage_due(previous).is_none_or(|due| now >= due);
    if same || !due {
        return Some(previous.clone());
    }
    Some(Usage {
        since: previous.since.clone().or_else(|| metered.since.clone()),
        updated: Some(whole_seconds(now)),
        ..metered.clone()
    })
}

/// When figures may be written again.
pub fn usage_due(previous: &Usage) -> Option<Timestamp> {
    let updated = previous.updated.as_ref()?.0;
    updated.checked_add(USAGE_INTERVAL).ok()
}

/// What was metered since this process leads, on top of what status had then.
pub fn sum_usage(base: &Usage, metered: &Usage) -> Usage {
    Usage {
        since: base.since.clone().or_else(|| metered.since.clone()),
        updated: None,
        requests: base.requests.saturating_add(metered.requests),
        errors: base.errors.saturating_add(metered.errors),
        input_tokens: base.input_tokens.saturating_add(metered.input_tokens),
        cached_input_tokens: base
            .cached_input_tokens
            .saturating_add(metered.cached_input_tokens),
        output_tokens: base.output_tokens.saturating_add(metered.output_tokens),
        local_share_percent: metered.local_share_percent.or(base.local_share_percent),
    }
}

/// What status has beyond what gateways still remember: they count from their own start, so a fresh leader hears old
/// figures again.
pub fn usage_base(status: Option<&Usage>, metered: &Usage) -> Usage {
    let Some(status) = status.filter(|status| status.requests > metered.requests) else {
        return Usage::default();
    };
    let beyond = |of: fn(&Usage) -> i64| (of(status) - of(metered)).max(0);
    Usage {
        since: status.since.clone(),
        updated: None,
        requests: beyond(|usage| usage.requests),
        errors: beyond(|usage| usage.errors),
        input_tokens: beyond(|usage| usage.input_tokens),
        cached_input_tokens: beyond(|usage| usage.cached_input_tokens),
        output_tokens: beyond(|usage| usage.output_tokens),
        local_share_percent: status.local_share_percent,
    }
}

#[cfg(test)]
mod tests;

/// Writes `status.placement` upon the version of the workload that it was worked out from: a later one refuses it.
///
/// # Errors
/// When the API server refuses, a conflict included.
pub async fn write_placement(
    client: &Client,
    workload: &InferenceWorkload,
    placement: &Placement,
) -> Result<InferenceWorkload, StatusError> {
    let body = body(workload, json!({ "placement": placement }));
    write(
        client,
        workload,
        names::MANAGER_PLACEMENT,
        "status.placement",
        &body,
    )
    .await
}

/// Writes everything else of the status, upon the same version.
///
/// # Errors
/// When the API server refuses, a conflict included.
pub async fn write_status(
    client: &Client,
    workload: &InferenceWorkload,
    status: &InferenceWorkloadStatus,
) -> Result<InferenceWorkload, StatusError> {
    let mut rest = json!(status);
    if let Some(fields) = rest.as_object_mut() {
        fields.remove("placement");
    }
    let body = body(workload, rest);
    write(client, workload, names::MANAGER_STATUS, "status", &body).await
}

/// Whether writing would change anything; the placement does not count.
pub fn differs(previous: Option<&InferenceWorkloadStatus>, next: &InferenceWorkloadStatus) -> bool {
    let mut previous = previous.cloned().unwrap_or_default();
    previous.placement = None;
    previous != *next
}

/// Whether somebody waits for the difference: another placement is decided for, a condition flips, or clients are told
/// something. Else only numbers changed, and the words that name them.
pub fn is_urgent(
    previous: Option<&InferenceWorkloadStatus>,
    next: &InferenceWorkloadStatus,
) -> bool {
    fn weighty(status: &InferenceWorkloadStatus) -> impl PartialEq + '_ {
        let decision = status.decision.as_ref();
        let decision = decision.map(|it| (&it.outcome, &it.reason, &it.target));
        let conditions = status.conditions.iter();
        let conditions = conditions.map(|it| (&it.type_, &it.status, &it.reason));
        (
            (status.observed_generation, decision),
            (&status.endpoint, &status.client_key, &status.history),
            conditions.collect::<Vec<_>>(),
        )
    }
    previous.is_none_or(|previous| weighty(previous) != weighty(next))
}

fn body(workload: &InferenceWorkload, status: Value) -> Value {
    json!({
        "apiVersion": format!("{}/{}", names::GROUP, names::VERSION),
        "kind": "InferenceWorkload",
        "metadata": {
            "name": workload.metadata.name,
            "namespace": workload.metadata.namespace,
            "uid": workload.metadata.uid,
            "resourceVersion": workload.metadata.resource_version,
        },
        "status": status,
    })
}

async fn write(
    client: &Client,
    workload: &InferenceWorkload,
    manager: &str,
    part: &'static str,
    body: &Value,
) -> Result<InferenceWorkload, StatusError> {
    let namespace = workload.namespace().unwrap_or_default();
    let api = Api::<InferenceWorkload>::namespaced(client.clone(), &namespace);
    let params = PatchParams::apply(manager).force();
    api.patch_status(&workload.name_any(), &params, &Patch::Apply(body))
        .await
        .map_err(|source| StatusError::Write {
            part,
            name: workload.name_any(),
            source: Box::new(source),
        })
}

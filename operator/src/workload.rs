//! Reconciles InferenceWorkloads in six steps, a file each: dereference (client) → validate (pure) → decide (pure) →
//! build (pure) → apply (client) → status (client). Moves are a pure state machine between decide and build.

pub mod apply;
pub mod build;
mod children;
pub mod client_key;
pub mod controller;
pub mod decide;
pub mod demand_record;
pub mod dereference;
pub mod elsewhere;
pub mod events;
pub mod facts;
pub mod failure;
pub mod keys;
pub mod labels;
pub mod lock;
mod memory;
pub mod moves;
mod numbers;
pub mod observe;
pub mod rivals;
pub mod status;
pub mod validate;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::{Resource, ResourceExt};
use weir_crds::placement::Placement;
use weir_crds::{InferenceWorkload, InferenceWorkloadStatus};
use weir_placement::{Decision, PlacementPolicy, Reason};

use apply::{ChildProblem, ChildProblems};
use build::Engine;
use events::Told;
use facts::Facts;
use memory::Memory;
use moves::{Advance, Transition};
use numbers::Numbers;
use observe::Observation;
use status::StatusError;
use validate::Validated;

use crate::context::Context;
use crate::queue::{Key, Requeue};
use crate::stores::Stores;

const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// A child that was refused is tried again after this.
const REFUSED_AGAIN: Duration = Duration::from_secs(60);
/// Every workload is looked at again after about this time, should a change have been missed. It writes nothing by itself.
const RESYNC: Duration = Duration::from_secs(600);
/// Who lost devices to others looks again after this: nothing tells it that they want them no more.
const COMPETES_AGAIN: Duration = Duration::from_secs(30);
/// Engines without a lock are looked at again after this: nothing tells that the last gateway without a key is gone.
const LOCKED_AGAIN: Duration = Duration::from_secs(30);
/// Times in status are cut to seconds, so a deadline is looked at a little later.
const AFTER_DEADLINE: Duration = Duration::from_millis(50);

/// Why a reconcile did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// A child could not be written for a reason that may pass; status tells it.
    #[error("not everything is as it is to be: {0}")]
    Child(String),
    /// Status could not be written.
    #[error("could not write status")]
    Status(#[from] StatusError),
}

/// Reconciles workloads, one at a call.
pub struct Reconciler {
    context: Context,
    engine: Engine,
    memory: Memory,
    numbers: Numbers,
}

impl Reconciler {
    /// For the replica that leads; what it remembers is only to spare requests.
    pub fn new(context: Context) -> Self {
        Self {
            engine: Engine {
                image: context.settings.engine_image.clone(),
                pull_policy: context.settings.engine_image_pull_policy.clone(),
                isolated_for: context
                    .settings
                    .engine_network_policy
                    .then(|| context.settings.namespace.clone()),
            },
            memory: Memory::default(),
            numbers: Numbers::new(context.budget.clone()),
            context,
        }
    }

    /// Brings one workload a step closer to what it is to be.
    ///
    /// # Errors
    /// When the API server is away or another writer came first; the queue tries again.
    pub async fn reconcile(&self, key: &Key) -> Result<Requeue, ReconcileError> {
        let namespace = key.namespace.as_deref();
        let Some(workload) = Stores::get(&self.context.stores.workloads, namespace, &key.name)
        else {
            return Ok(Requeue::OnChange);
        };
        let uid = workload.uid().unwrap_or_default();
        if workload.metadata.deletion_timestamp.is_some() {
            self.memory.forget(&uid);
            return Ok(Requeue::OnChange);
        }
        if self.memory.is_older_than_own_write(&uid, &workload) {
            return Ok(Requeue::After(LOOK_AGAIN));
        }
        self.memory.edited(&uid, &workload);
        let moment = self.context.clock.moment();
        let facts = dereference::dereference(&self.context, workload, &moment).await;
        Pass {
            reconciler: self,
            facts,
        }
        .run()
        .await
    }
}

/// One reconcile of one workload.
struct Pass<'a> {
    reconciler: &'a Reconciler,
    facts: Facts,
}

impl Pass<'_> {
    async fn run(self) -> Result<Requeue, ReconcileError> {
        let observation = observe::observe(&self.facts);
        let validated = match validate::validate(&self.facts) {
            Ok(validated) => validated,
            Err(error) => return self.report_invalid(&error, &observation).await,
        };
        if validate::waits_for_references(&self.facts, &validated) {
            return Ok(Requeue::After(LOOK_AGAIN));
        }
        let previous_status = self.facts.workload.status.as_ref();
        let decided = self.decide(&validated).await;
        let Some(decided) = decided else {
            return Ok(Requeue::After(self.look_again()));
        };
        let decision = decided.decision;
        let hours = &self.facts.traffic.hours;
        let split = decide::split(&decision, &validated, hours, self.facts.now);
        let mut wish = decide::wish(&decision, split.as_ref(), &validated.input);
        if decided.waits_for_rivals {
            wish.target = None;
        }
        let history = previous_status.map_or(&[][..], |status| &status.history);
        let moves = moves::View {
            previous: self.facts.placement(),
            wish: &wish,
            rules: &validated.rules,
            observed: &observation.observed,
            history,
            generation: self.facts.generation(),
            now: self.facts.now,
            witnessed: &self.facts.witnessed,
            not_before: self.dwells_until(&validated, &decision),
        };
        let advance = moves::advance(moves);
        let workload = self.order(&advance).await?;
        let step = |placement: Option<&Placement>| placement.map(|placement| placement.step);
        let just_ordered = step(advance.placement.as_ref()) != step(self.facts.placement());
        let problems = self.apply_children(&validated, moves, &advance).await;
        let keys = self.keys().await;
        let usage = self.usage();
        let facts = Facts {
            workload: Arc::new(workload),
            ..self.facts.clone()
        };
        let next = status::render(status::View {
            facts: &facts,
            validated: Ok(&validated),
            decision: Some(&decision),
            split: split.as_ref(),
            placement: advance.placement.as_ref(),
            just_ordered,
            observation: &observation,
            problems: &problems,
            keys: &keys,
            usage: usage.as_ref(),
            held: advance.held.as_ref(),
        });
        self.publish(&facts.workload, &next, &advance).await?;
        self.record_demand().await;
        let problems = problems.values().chain(&keys.problem);
        let again = tried_again(problems)?;
        let drain = validated.rules.drain;
        let pauses = again.into_iter().chain(self.keys_due(&keys));
        Ok(self.requeue((&next, drain), &decision, &advance, pauses.min()))
    }

    /// When this leader has itself seen the dwell of a workload that cost alone would move.
    fn dwells_until(&self, validated: &Validated, decision: &Decision) -> Option<Timestamp> {
        let since = self.facts.placement()?.since.0;
        let settled = validate::moves(&self.facts.workload).last().copied();
        let settled = self
            .facts
            .witnessed
            .since(settled.map_or(since, |at| at.max(since)));
        let policy = validated
            .policy
            .effective(validated.input.policy.as_deref());
        let dwell = policy.map_or_else(
            || PlacementPolicy::default().min_dwell,
            |policy| policy.min_dwell,
        );
        let seconds = i64::try_from(dwell.get()).unwrap_or(i64::MAX);
        let ends = moves::after(settled, SignedDuration::from_secs(seconds));
        (decision.reason == Reason::LowerCost).then_some(ends)
    }

    /// Writes the placement before anything that follows from it, and before that the end of a move into the history.
    async fn order(&self, advance: &Advance) -> Result<InferenceWorkload, ReconcileError> {
        let client = &self.reconciler.context.client;
        let mut workload = (*self.facts.workload).clone();
        if let Some(entry) = &advance.history {
            let mut with_entry = workload.status.clone().unwrap_or_default();
            status::add_entry(&mut with_entry, entry);
            workload = status::write_status(client, &workload, &with_entry).await?;
            self.remember(&workload);
        }
        let placement = advance.placement.as_ref();
        if let Some(placement) =
            placement.filter(|placement| Some(*placement) != self.facts.placement())
        {
            workload = status::write_placement(client, &workload, placement).await?;
            self.remember(&workload);
            for transition in &advance.transitions {
                tracing::info!(
                    workload = %format_args!("{}/{}", self.facts.namespace(), self.facts.name()),
                    step = placement.step, phase = ?placement.phase, ?transition, "placement changed"
                );
            }
        }
        Ok(workload)
    }

    fn usage(&self) -> Option<weir_crds::usage::Usage> {
        let metered = self.facts.traffic.usage.as_ref()?;
        let status = self.facts.workload.status.as_ref();
        let known = status.and_then(|status| status.usage.as_ref());
        let base = self
            .reconciler
            .memory
            .usage_base(self.facts.uid(), || status::usage_base(known, metered));
        Some(status::sum_usage(&base, metered))
    }

    /// Writes the rest of the status last, and tells what changed.
    async fn publish(
        &self,
        workload: &InferenceWorkload,
        next: &InferenceWorkloadStatus,
        advance: &Advance,
    ) -> Result<(), ReconcileError> {
        let context = &self.reconciler.context;
        let before = workload.status.as_ref();
        let mut told: Vec<Told> = advance
            .transitions
            .iter()
            .map(|transition| events::of_transition(transition, next.decision.as_ref()))
            .collect();
        let waits = status::differs(before, next)
            && !status::is_urgent(before, next)
            && !self.reconciler.numbers.may_be_written(&Key::of(workload));
        if status::differs(before, next) && !waits {
            let written = status::write_status(&context.client, workload, next).await?;
            self.remember(&written);
            told.extend(events::of_status(before, next));
        }
        let before_id = before
            .and_then(|before| before.decision.as_ref())
            .map(|before| &before.id);
        if let Some(decision) = &next.decision
            && before_id != Some(&decision.id)
            && !waits
        {
            context.metrics.decided(&decision.outcome);
        }
        for transition in &advance.transitions {
            let result = match transition {
                Transition::Moved { .. } => "completed",
                Transition::RolledBack { .. } => "rolled-back",
                _ => continue,
            };
            context.metrics.moves.with_label_values(&[result]).inc();
        }
        events::tell(&context.events, &workload.object_ref(&()), &told);
        Ok(())
    }

    async fn report_invalid(
        &self,
        error: &validate::SpecError,
        observation: &Observation,
    ) -> Result<Requeue, ReconcileError> {
        let keys = self.keys().await;
        let usage = self.usage();
        let next = status::render(status::View {
            facts: &self.facts,
            validated: Err(error),
            decision: None,
            split: None,
            placement: self.facts.placement(),
            just_ordered: false,
            observation,
            problems: &ChildProblems::new(),
            keys: &keys,
            usage: usage.as_ref(),
            held: None,
        });
        self.publish(&self.facts.workload, &next, &Advance::default())
            .await?;
        let again = tried_again(&keys.problem)?;
        let pauses = again.into_iter().chain(self.keys_due(&keys));
        let again = pauses.fold(self.look_again(), Duration::min);
        Ok(Requeue::After(again))
    }

    /// When to look again at a workload that nothing happens to: a fleet that was placed at one time is not looked at in step.
    fn look_again(&self) -> Duration {
        let uid = self.facts.uid();
        let resync = RESYNC.mul_f64(0.75 + 0.5 * memory::share_of(uid));
        let secret = self.reconciler.memory.secret_due_in(uid);
        // What is due by now was tried just now.
        let secret = secret.filter(|due| !due.is_zero());
        secret.map_or(resync, |due| (due + AFTER_DEADLINE).min(resync))
    }

    fn remember(&self, workload: &InferenceWorkload) {
        self.reconciler.memory.wrote(self.facts.uid(), workload);
    }

    /// When time alone may change something.
    fn requeue(
        &self,
        (next, drain): (&InferenceWorkloadStatus, SignedDuration),
        decision: &Decision,
        advance: &Advance,
        again: Option<Duration>,
    ) -> Requeue {
        let now = self.facts.now;
        let fresh_until = self
            .facts
            .price_books
            .values()
            .filter_map(|book| validate::fresh_until(book));
        let usage = next.usage.as_ref().and_then(status::usage_due);
        let step_since = advance
            .placement
            .as_ref()
            .map(|placement| placement.step_since.0);
        let witnessed = &self.facts.witnessed;
        let after_step =
            |pause| step_since.map(|since| moves::after(witnessed.since(since), pause));
        let deadlines = [
            advance.deadline,
            after_step(moves::DRAIN_SETTLE),
            after_step(drain),
            decision.next_evaluation,
            usage,
            after_step(moves::ACK_TIMEOUT),
            Some(moves::after(
                self.facts.traffic.hearing_since,
                moves::HEARING_TIMEOUT,
            )),
            self.demand_due(),
        ];
        let earliest = deadlines
            .into_iter()
            .flatten()
            .chain(fresh_until)
            .filter(|due| *due > now)
            .min();
        let due = earliest.map(|due| {
            Duration::try_from(due.duration_since(now)).unwrap_or_default() + AFTER_DEADLINE
        });
        let lost = matches!(
            decision.reason,
            Reason::OthersSaveMore | Reason::WaitingForGpu
        );
        let competes = lost.then_some(COMPETES_AGAIN);
        let open = self.has_open_engines().then_some(LOCKED_AGAIN);
        let pauses = due.into_iter().chain(again).chain(competes).chain(open);
        Requeue::After(pauses.fold(self.look_again(), Duration::min))
    }
}

/// After what time children that were refused are tried again; `None` where none was.
///
/// # Errors
/// Where the reason may pass: the queue tries again, at first after a short time.
fn tried_again<'a>(
    problems: impl IntoIterator<Item = &'a ChildProblem>,
) -> Result<Option<Duration>, ReconcileError> {
    let mut again = None;
    for problem in problems {
        if !problem.reason.lasting() {
            return Err(ReconcileError::Child(problem.message.clone()));
        }
        again = Some(REFUSED_AGAIN);
    }
    Ok(again)
}

//! Which children a reconcile wishes for, and which it wishes away.

use std::sync::Arc;

use weir_crds::names;
use weir_crds::placement::Placement;
use weir_engine_key::RootPublic;

use super::apply::{self, ChildProblem, ChildProblems, ProblemReason};
use super::build::{self, BuildError, Wanted};
use super::facts;
use super::moves::{self, Advance};
use super::validate::Validated;
use super::{Pass, labels, lock};
use crate::cli::Plane;

impl Pass<'_> {
    /// Writes what is to be and deletes what is no longer of use. Says what is in the way, by target.
    pub(super) async fn apply_children(
        &self,
        validated: &Validated,
        moves: moves::View<'_>,
        advance: &Advance,
    ) -> ChildProblems {
        let owner = &self.facts.owner();
        let client = &self.reconciler.context.client;
        let (wanted, mut problems) = self.wanted(moves, advance.placement.as_ref());
        problems.extend(apply::apply(client, owner, &self.facts.children, &wanted).await);
        let gone = self.removed(validated, moves, advance.placement.as_ref());
        problems.extend(apply::delete(client, owner, &self.facts.children, &gone).await);
        problems
    }

    /// The children of every local target that is wanted or exists.
    fn wanted(
        &self,
        moves: moves::View<'_>,
        placement: Option<&Placement>,
    ) -> (Wanted, ChildProblems) {
        let (mut wanted, mut problems) = (Wanted::new(), ChildProblems::new());
        let Some(placement) = placement else {
            return (wanted, problems);
        };
        for target in &facts::targets(&self.facts.workload.spec, Some(placement)) {
            let Some(local) = &target.local else {
                continue;
            };
            let existing = self.facts.existing_replicas(&target.name);
            let released = moves::released(moves, placement, &target.name);
            let replicas =
                moves::replicas(placement, &target.name, existing, moves.observed, released);
            let replicas = match (replicas, existing) {
                (Some(0), None) | (None, _) => continue,
                (Some(replicas), _) => replicas,
            };
            let Some(tier) = self.tier(placement, &target.name, &local.tiers) else {
                continue;
            };
            let Some(model) = self.facts.models.get(&local.model_ref.name) else {
                continue;
            };
            let built = build::build(&build::Plan {
                workload: &self.facts.workload,
                target: &target.name,
                local,
                tier,
                model,
                replicas,
                engine: &self.reconciler.engine,
                locked_by: self.lock(&target.name),
            });
            match built {
                Ok(children) => {
                    wanted.insert(target.name.clone(), Arc::new(children));
                }
                Err(error) => {
                    problems.insert(target.name.clone(), cannot_build(&error));
                }
            }
        }
        (wanted, problems)
    }

    /// What the engines of a target are locked by, if they are to be.
    fn lock(&self, target: &str) -> Option<RootPublic> {
        let context = &self.reconciler.context;
        if !context.settings.engine_key {
            return None;
        }
        let plane = Plane::from(self.facts.workload.spec.data_policy.egress);
        let locked = lock::is_locked(self.facts.deployment(target))
            || lock::all_send_keys(&context.stores.component_pods.state(), plane);
        locked.then_some(context.engine_root)
    }

    /// Whether engines are to be locked, and some are not.
    pub(super) fn has_open_engines(&self) -> bool {
        let mut deployments = self.facts.children.deployments.iter();
        self.reconciler.context.settings.engine_key
            && deployments.any(|each| !lock::is_locked(Some(each)))
    }

    /// The tier of a target: where it is or goes, or where its pods are, or the first that it may use.
    fn tier(
        &self,
        placement: &Placement,
        target: &str,
        tiers: &[String],
    ) -> Option<&weir_crds::GPUTier> {
        let of_placement = (placement.target == target)
            .then_some(placement.tier.as_ref())
            .flatten();
        let ongoing = placement.r#move.as_ref();
        let of_move = ongoing
            .filter(|ongoing| ongoing.to == target)
            .and_then(|ongoing| ongoing.tier.as_ref());
        let existing = self.facts.existing_tier(target);
        let existing = existing.filter(|existing| tiers.contains(existing));
        let name = of_placement
            .or(of_move)
            .or(existing.as_ref())
            .or(tiers.first())?;
        self.facts.tiers.get(name).map(AsRef::as_ref)
    }

    /// Targets that the spec no longer has, and substitutes that lost their place, when no request uses them.
    fn removed(
        &self,
        validated: &Validated,
        moves: moves::View<'_>,
        placement: Option<&Placement>,
    ) -> Vec<String> {
        let deployments = self
            .facts
            .children
            .deployments
            .iter()
            .map(|each| &each.metadata);
        let services = self
            .facts
            .children
            .services
            .iter()
            .map(|each| &each.metadata);
        let policies = self.facts.children.network_policies.iter();
        let policies = policies.map(|each| &each.metadata);
        let mut gone: Vec<String> = deployments
            .chain(services)
            .chain(policies)
            .filter_map(|meta| labels::target_of(meta))
            .filter(|target| {
                let of_spec = validated.rules.target(target).is_some();
                !of_spec || names::substitute_of(target).is_some()
            })
            .filter(|target| {
                placement.is_none_or(|placement| {
                    let listed = placement.weights.iter().any(|each| each.target == *target);
                    let uses = placement
                        .r#move
                        .as_ref()
                        .is_some_and(|ongoing| ongoing.from == *target || ongoing.to == *target);
                    !listed && !uses && moves::released(moves, placement, target)
                })
            })
            .map(str::to_owned)
            .collect();
        gone.sort();
        gone.dedup();
        gone
    }
}

fn cannot_build(error: &BuildError) -> ChildProblem {
    ChildProblem {
        reason: ProblemReason::CannotBuild,
        message: error.to_string(),
    }
}

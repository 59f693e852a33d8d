//! Replays one workload: each step is decided from what was known when it began, then observed.

use serde::Serialize;
use weir_placement::{
    DeclaredTokens, Egress, HourTokens, Learned, ObservedStep, ReplicaCapacity, Split,
    SplitParameters, SplitTerms, StepHours, StepMarket, TermsError, TokenPrice, decide_split,
};

use crate::bundle::{self, Hour, Step, WorkloadBundle, WorkloadDecision};

/// Rents that an hour's missing replica costs where nothing else serves it.
const WAITING_RENTS: f64 = 10.0;

/// Why a bundle cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The head of the bundle is refused.
    #[error("the bundle's head is not valid")]
    Head(#[source] TermsError),
    /// A step is refused.
    #[error("the step of {time} is not valid")]
    Step {
        /// When it begins.
        time: weir_placement::Timestamp,
        /// Why.
        source: TermsError,
    },
}

/// What a replay decided, and what that costs.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// One decision a step.
    pub decisions: Vec<WorkloadDecision>,
    /// The outcome.
    pub accounting: Accounting,
}

/// What a plan costs, in dollars.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Accounting {
    /// All of it.
    pub total_usd: f64,
    /// Rent of the replicas that are held.
    pub local_usd: f64,
    /// Tokens that a cloud model serves.
    pub cloud_usd: f64,
    /// Work that waits.
    pub waiting_usd: f64,
    /// Replicas that are added and models that are changed.
    pub switching_usd: f64,
    /// Steps with another number of replicas than the step before, and changes of model.
    pub moves: u32,
}

/// Replays a bundle.
pub fn replay(
    bundle: &WorkloadBundle,
    parameters: &SplitParameters,
) -> Result<Replay, ReplayError> {
    let terms = terms(bundle)?;
    let mut learned = Learned::default();
    let mut held = Split::default();
    let mut decisions = Vec::with_capacity(bundle.steps.len());
    let mut accounting = Accounting::default();
    for step in &bundle.steps {
        let market = market(step)?;
        let decided = decide_split(&terms, parameters, &learned, &held, &market);
        accounting.switch(bundle, step, &held, &decided);
        accounting.serve(step, &decided);
        decisions.push(WorkloadDecision {
            replicas: decided.replicas,
            cloud: decided.model.clone(),
        });
        let model = decided.model.clone().or(held.model);
        let replicas = decided.replicas;
        let observed = ObservedStep {
            market,
            held: decided,
            demand: step.hours.iter().map(tokens).collect(),
        };
        learned.observe(&terms, parameters, &observed);
        held = Split { replicas, model };
    }
    accounting.total_usd = accounting.local_usd
        + accounting.cloud_usd
        + accounting.waiting_usd
        + accounting.switching_usd;
    Ok(Replay {
        decisions,
        accounting,
    })
}

impl Accounting {
    fn switch(&mut self, bundle: &WorkloadBundle, step: &Step, held: &Split, decided: &Split) {
        let added = f64::from(decided.replicas.saturating_sub(held.replicas));
        self.switching_usd +=
            added * bundle.warm_hours.get() * step.local_usd_per_replica_hour.get();
        self.moves += u32::from(decided.replicas != held.replicas);
        if held.model.is_some() && decided.model.is_some() && held.model != decided.model {
            self.switching_usd += bundle.qualification_usd.get();
            self.moves += 1;
        }
    }

    fn serve(&mut self, step: &Step, decided: &Split) {
        let rent = step.local_usd_per_replica_hour.get();
        let replicas = f64::from(decided.replicas);
        self.local_usd += replicas * rent * step.hours.len() as f64;
        let price = decided.model.as_ref().and_then(|name| step.cloud.get(name));
        for hour in &step.hours {
            let needed = hour.replicas_needed.get();
            if needed <= replicas {
                continue;
            }
            match price {
                Some(price) => self.cloud_usd += (1.0 - replicas / needed) * full(hour, price),
                None => self.waiting_usd += WAITING_RENTS * rent * (needed - replicas),
            }
        }
    }
}

/// Dollars for all of an hour's tokens.
fn full(hour: &Hour, price: &bundle::CloudPrice) -> f64 {
    let input = hour.input_tokens.get() * price.input.get();
    let output = hour.output_tokens.get() * price.output.get();
    (input + output) / 1e6
}

fn terms(bundle: &WorkloadBundle) -> Result<SplitTerms, ReplayError> {
    let capacity = ReplicaCapacity::new(
        bundle.capacity.output_tokens_per_replica_hour,
        bundle.capacity.input_token_weight,
    )
    .map_err(ReplayError::Head)?;
    Ok(SplitTerms {
        egress: match bundle.egress {
            bundle::Egress::Allowed => Egress::Allowed,
            bundle::Egress::Forbidden => Egress::Forbidden,
        },
        capacity,
        max_replicas: bundle.max_replicas,
        warm_hours: bundle.warm_hours,
        qualification_usd: bundle.qualification_usd,
        declared: DeclaredTokens {
            input_per_month: bundle.declared.input_tokens_per_month,
            output_per_month: bundle.declared.output_tokens_per_month,
        },
    })
}

/// What is known of a step when it begins.
fn market(step: &Step) -> Result<StepMarket, ReplayError> {
    let hours = u32::try_from(step.hours.len()).unwrap_or(u32::MAX);
    let hours = StepHours::new(hours).map_err(|source| ReplayError::Step {
        time: step.time,
        source,
    })?;
    let offer = |(name, price): (&String, &bundle::CloudPrice)| {
        let price = TokenPrice {
            input: price.input,
            output: price.output,
        };
        (name.clone(), price)
    };
    Ok(StepMarket {
        time: step.time,
        hours,
        replica_usd_per_hour: step.local_usd_per_replica_hour,
        offers: step.cloud.iter().map(offer).collect(),
    })
}

fn tokens(hour: &Hour) -> HourTokens {
    HourTokens {
        input: hour.input_tokens,
        output: hour.output_tokens,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(value: f64) -> weir_placement::NonNegative {
        weir_placement::NonNegative::new(value).unwrap_or_default()
    }

    /// A replica serves a million output tokens an hour for two dollars; the cloud takes five.
    fn bundle(egress: &str, needs: &[f64]) -> WorkloadBundle {
        let step = |(index, need): (usize, &f64)| {
            serde_json::json!({
                "time": format!("2026-03-16T{index:02}:00Z"),
                "localUsdPerReplicaHour": 2.0,
                "cloud": {"mini": {"inputUsdPerMTok": 1.0, "outputUsdPerMTok": 5.0}},
                "hours": [{"replicasNeeded": need, "inputTokens": 0.0, "outputTokens": need * 1e6}],
            })
        };
        let steps: Vec<_> = needs.iter().enumerate().map(step).collect();
        let bundle = serde_json::from_value(serde_json::json!({
            "format": bundle::FORMAT, "egress": egress, "warmHours": 0.25, "qualificationUsd": 25.0, "maxReplicas": 3,
            "capacity": {"outputTokensPerReplicaHour": 1_000_000, "inputTokenWeight": 0.3},
            "declared": {"inputTokensPerMonth": 0.0, "outputTokensPerMonth": 7.3e8, "pattern": "Steady"},
            "steps": steps,
        }));
        bundle.unwrap_or_else(|error| panic!("{error}"))
    }

    fn run(bundle: &WorkloadBundle) -> Replay {
        replay(bundle, &SplitParameters::default()).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_replica_costs_its_rent_and_a_quarter_to_add_and_the_overflow_its_tokens() {
        let mut bundle = bundle("Allowed", &[2.0]);
        bundle.max_replicas = 1;
        let replay = run(&bundle);
        let expected = Accounting {
            total_usd: 2.0 + 5.0 + 0.5,
            local_usd: 2.0,
            cloud_usd: 5.0,
            waiting_usd: 0.0,
            switching_usd: 0.5,
            moves: 1,
        };
        assert_eq!(replay.decisions[0].cloud.as_deref(), Some("mini"));
        assert_eq!(replay.accounting, expected);
    }

    #[test]
    fn work_that_may_not_leave_waits_at_ten_rents() {
        let replay = run(&bundle("Forbidden", &[1.5]));
        assert_eq!(replay.decisions[0].cloud, None);
        assert_eq!(replay.accounting.waiting_usd, 10.0);
    }

    #[test]
    fn a_change_of_model_costs_the_qualification_also_when_it_is_forced() {
        let mut bundle = bundle("Allowed", &[1.0, 1.0]);
        let price = bundle.steps[1].cloud["mini"];
        bundle.steps[1].cloud = [("nano".to_owned(), price)].into();
        let replay = run(&bundle);
        assert_eq!(replay.decisions[1].cloud.as_deref(), Some("nano"));
        assert_eq!(replay.accounting.switching_usd, 0.5 + 25.0);
    }

    #[test]
    fn a_step_of_more_than_a_day_is_refused() {
        let mut bundle = bundle("Allowed", &[1.0]);
        let hour = bundle.steps[0].hours[0];
        bundle.steps[0].hours = vec![hour; 25];
        let refused = replay(&bundle, &SplitParameters::default());
        assert!(matches!(refused, Err(ReplayError::Step { .. })));
        bundle.steps.clear();
        bundle.capacity.output_tokens_per_replica_hour = amount(0.0);
        let refused = replay(&bundle, &SplitParameters::default());
        assert!(matches!(refused, Err(ReplayError::Head(_))));
    }
}

//! The policy as the decision sees it.

use weir_crds::InferencePlacementPolicySpec;
use weir_crds::policy::{
    Connectivity as DeclaredConnectivity, LocalCostBasis as DeclaredBasis, MoveBudgetSpec,
    SwitchingSpec, UtilizationBandSpec,
};
use weir_crds::quantity;
use weir_placement::{
    ConfirmationRule, Connectivity, LocalCostBasis, MicroUsd, MoveBudget, Percent, PlacementPolicy,
    Policy, Seconds, SwitchingRule, UtilizationBand,
};

use super::{Problem, SpecError, quantity_error};
use crate::workload::facts::Facts;

pub(super) fn policy(facts: &Facts, unresolved: &mut Vec<Problem>) -> Policy {
    let built_in = read_policy(&InferencePlacementPolicySpec::default()).unwrap_or_default();
    let mut policy = Policy::of(built_in);
    let Some(reference) = &facts.workload.spec.placement.policy_ref else {
        return policy;
    };
    let name = &reference.name;
    match facts
        .policy
        .as_ref()
        .map(|policy| read_policy(&policy.spec))
    {
        Some(Ok(read)) => {
            policy.named.insert(name.clone(), read);
        }
        Some(Err(error)) => unresolved.push(Problem {
            reason: "PolicyInvalid",
            message: format!("InferencePlacementPolicy {name} cannot be used: {error}"),
        }),
        None => unresolved.push(Problem {
            reason: "PolicyMissing",
            message: format!("InferencePlacementPolicy {name} does not exist"),
        }),
    }
    policy
}

pub(super) fn read_policy(
    spec: &InferencePlacementPolicySpec,
) -> Result<PlacementPolicy, SpecError> {
    Ok(PlacementPolicy {
        connectivity: match spec.connectivity {
            DeclaredConnectivity::Connected => Connectivity::Connected,
            DeclaredConnectivity::Disconnected => Connectivity::Disconnected,
        },
        min_savings_percent: Percent::clamped(
            u128::try_from(spec.min_savings_percent).unwrap_or(0),
        ),
        min_dwell: seconds("minDwell", &spec.min_dwell)?,
        min_observation: seconds("minObservation", &spec.min_observation)?,
        confirmation: ConfirmationRule {
            count: u32::try_from(spec.confirmation.count).unwrap_or(1),
            interval: seconds("confirmation.interval", &spec.confirmation.interval)?,
        },
        operations_cost_per_month: money("operationsUsdPerMonth", &spec.operations_usd_per_month)?,
        local_cost_basis: match spec.local_cost_basis {
            DeclaredBasis::Auto => LocalCostBasis::Auto,
            DeclaredBasis::Marginal => LocalCostBasis::Marginal,
            DeclaredBasis::FullyLoaded => LocalCostBasis::FullyLoaded,
        },
        switching: switching(&spec.switching)?,
        move_budget: spec
            .move_budget
            .as_ref()
            .map(move_budget)
            .unwrap_or_default(),
        utilization_band: spec.utilization_band.as_ref().map(band).transpose()?,
    })
}

fn seconds(field: &'static str, text: &str) -> Result<Seconds, SpecError> {
    let duration = quantity::duration(text).map_err(quantity_error(field))?;
    Ok(Seconds::clamped(duration.as_secs().into()))
}

fn money(field: &'static str, text: &str) -> Result<MicroUsd, SpecError> {
    let micros = quantity::micros(text).map_err(quantity_error(field))?;
    Ok(MicroUsd::clamped(micros.into()))
}

fn switching(spec: &SwitchingSpec) -> Result<SwitchingRule, SpecError> {
    Ok(SwitchingRule {
        warm_up: seconds("switching.warmUp", &spec.warm_up)?,
        requalification: money("switching.requalificationUsd", &spec.requalification_usd)?,
        pay_back: seconds("switching.payBack", &spec.pay_back)?,
    })
}

fn band(spec: &UtilizationBandSpec) -> Result<UtilizationBand, SpecError> {
    let percent = |percent: i32| Percent::clamped(u128::try_from(percent).unwrap_or(0));
    Ok(UtilizationBand {
        spill_above: percent(spec.spill_above_percent),
        pull_back_below: percent(spec.pull_back_below_percent),
        window: seconds("utilizationBand.window", &spec.window)?,
    })
}

fn move_budget(spec: &MoveBudgetSpec) -> MoveBudget {
    let percent = |percent: i32| Percent::clamped(u128::try_from(percent).unwrap_or(0));
    MoveBudget {
        per_hour: spec
            .moves_per_hour
            .map(|most| u32::try_from(most).unwrap_or(0)),
        percent_per_hour: spec.percent_per_hour.map(percent),
    }
}

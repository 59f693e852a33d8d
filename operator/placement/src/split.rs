//! The split of one workload: replicas for its base load, and the cloud model that serves the rest.

mod cost;
mod forecast;
mod history;
mod learned;
mod model;
mod of_decision;
mod outlook;
mod parameters;
mod recorded;
mod regression;
mod replicas;
mod terms;

use serde::{Deserialize, Serialize};

pub use learned::Learned;
pub use of_decision::{HourlySplit, split_hour};
pub use parameters::SplitParameters;
pub use terms::{
    DeclaredTokens, HourTokens, ObservedStep, ReplicaCapacity, SplitTerms, StepHours, StepMarket,
    TermsError, TokenPrice,
};

use cost::PricePerNeed;
use outlook::Outlook;

/// What is held for a step.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Split {
    /// Replicas that run.
    pub replicas: u32,
    /// The cloud model that the overflow goes to. `None`: none may be used, or none was offered yet.
    #[serde(default)]
    pub model: Option<String>,
}

/// The split for the step that begins at `market.time`.
///
/// `held` is what is in force: the replicas that run and the model that was used last. Deciding changes nothing that is
/// learned, so the same question has the same answer, and what was answered stands when it is asked again:
/// `decide_split(…, decide_split(…, held)) == decide_split(…, held)`.
/// Where the step before is unobserved, demand is unknown: what is held stays, as far as it is offered and allowed.
pub fn decide_split(
    terms: &SplitTerms,
    parameters: &SplitParameters,
    learned: &Learned,
    held: &Split,
    market: &StepMarket,
) -> Split {
    let model = model::choose(terms, parameters, learned, held, market);
    let price = PricePerNeed::of(terms, learned, market, model.as_deref());
    let replicas = match Outlook::of(terms, parameters, learned, market) {
        Outlook::Unknown => held.replicas.min(terms.max_replicas),
        Outlook::Demand(demand) => {
            let curve = cost::StepCost::new(terms, market, learned.shape(market.hours), price);
            replicas::choose(parameters, &curve, &demand, held.replicas)
        }
    };
    Split { replicas, model }
}

//! Pure: what the operator would decide for a workload, by its own `validate` and `decide`, if objects, prices or demand
//! were these.

mod complete;
mod curve;
mod show;

use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;
use weir_crds::InferenceWorkload;
use weir_crds::decision::Decision;
use weir_operator::workload::decide::{Considered, recall, render};
use weir_operator::workload::facts::Facts;
use weir_operator::workload::validate::{self, SpecError, Validated};
use weir_operator_core::price_book::parse::Document;
use weir_placement::{DemandFigures, DemandSource, RequestsPerMonth, UnitError};

use crate::facts::facts;
use crate::objects::Objects;
use crate::prices::{self, PriceError, PriceOverride};

pub use curve::{Curve, Point, sample};
pub use show::table;

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct WhatIf {
    /// Demand instead of what is declared or was observed.
    pub requests: Option<u64>,
    /// Prices of single models.
    pub prices: Vec<PriceOverride>,
    /// Prices of a feed.
    pub feed: Option<Document>,
    /// The namespace of workloads that name none.
    pub namespace: String,
}

/// Why nothing can be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The spec cannot be understood.
    #[error("InferenceWorkload {name}")]
    Spec {
        /// Name of the workload.
        name: String,
        /// What is wrong with it.
        source: Box<SpecError>,
    },
    /// Prices cannot be used.
    #[error(transparent)]
    Price(#[from] PriceError),
    /// A number is out of range.
    #[error("--requests {requests}")]
    Requests {
        /// The number.
        requests: u64,
        /// Its range.
        source: UnitError,
    },
    /// The operator would decide nothing.
    #[error("InferenceWorkload {0} has no decision")]
    Undecided(String),
}

/// What would be decided.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Planned {
    /// Namespace of the workload.
    pub namespace: String,
    /// Name of the workload.
    pub name: String,
    /// The decision for the workload as if it were new.
    pub decision: Decision,
    /// Where the demand comes from, when it is not what the spec declares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub demand: Option<String>,
    /// Where the workload is, and what would follow there: dwell, confirmation and the other rules count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_here: Option<FromHere>,
    /// What was assumed because no object says it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assumed: Vec<String>,
    /// What the decision lacks, and what to do about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Monthly cost over demand; `None` without a cost that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub curve: Option<Curve>,
}

/// Where a placed workload is, and what would follow there.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FromHere {
    /// The present target.
    pub target: String,
    /// What the operator would do next.
    pub decision: Decision,
}

/// Plans one workload. `objects` holds what it refers to; what is not there is named in the result.
///
/// # Errors
/// When the spec, a price or the demand cannot be understood.
pub fn plan(
    objects: &Objects,
    workload: &InferenceWorkload,
    what_if: &WhatIf,
    now: Timestamp,
) -> Result<Planned, PlanError> {
    let mut objects = objects.clone();
    let mut assumed = complete::assume_capacity(&mut objects, workload);
    prices::read_books(&mut objects, now)?;
    if let Some(feed) = &what_if.feed {
        assumed.extend(prices::apply_feed(&mut objects, feed, now)?);
    }
    assumed.extend(prices::apply_overrides(&mut objects, &what_if.prices, now)?);
    let facts = facts(&objects, workload, &what_if.namespace, now);
    let name = facts.name().to_owned();
    let mut validated = validate::validate(&facts).map_err(|source| PlanError::Spec {
        name: name.clone(),
        source: Box::new(source),
    })?;
    let demand = set_demand(&facts, &mut validated, what_if.requests)?;
    let status = facts.workload.status.as_ref();
    let undecided = || PlanError::Undecided(name.clone());
    let new = as_if_new(&validated);
    // An object that was never stored has no UID.
    let identity = match facts.uid() {
        "" => format!("{}/{name}", facts.namespace()),
        uid => uid.to_owned(),
    };
    let decided = Considered::new(&identity, &new, None)
        .decide_alone(now)
        .ok_or_else(undecided)?;
    let from_here = match facts.placement() {
        None => None,
        Some(placement) => {
            let next = Considered::new(&identity, &validated, status).decide_alone(now);
            Some(FromHere {
                target: placement.target.clone(),
                decision: render(&next.ok_or_else(undecided)?, None, now),
            })
        }
    };
    let missing = complete::missing(&objects, &facts, &validated, &decided);
    Ok(Planned {
        namespace: facts.namespace().to_owned(),
        curve: sample(&new, &decided, now),
        decision: render(&decided, None, now),
        name,
        demand,
        from_here,
        assumed,
        missing,
    })
}

/// The workload before its first placement; the devices that its pods hold are free for it.
fn as_if_new(validated: &Validated) -> Validated {
    let mut new = validated.clone();
    new.input.moves.clear();
    let Some(current) = new.input.current.take() else {
        return new;
    };
    for (tier, held) in current.held {
        if let Some(free) = new
            .tiers
            .get_mut(&tier)
            .and_then(|tier| tier.free_devices.as_mut())
        {
            *free = free.saturating_add(held);
        }
    }
    new
}

/// Takes the demand that is asked for, or else the observed one on record, which only gateways know otherwise. Says so.
fn set_demand(
    facts: &Facts,
    validated: &mut Validated,
    requests: Option<u64>,
) -> Result<Option<String>, PlanError> {
    let demand = &mut validated.input.demand;
    let recorded = match demand.source {
        DemandSource::Declared => None,
        DemandSource::Observed => recorded(facts, &demand.declared),
    };
    let mut origin = recorded.is_some().then(|| "observed, on record".to_owned());
    if let Some(figures) = recorded {
        demand.declared = figures;
        demand.source = DemandSource::Declared;
    }
    if let Some(requests) = requests {
        let number = RequestsPerMonth::new(requests)
            .map_err(|source| PlanError::Requests { requests, source })?;
        demand.declared.requests_per_month = Some(number);
        demand.source = DemandSource::Declared;
        origin = Some("given".to_owned());
    }
    Ok(origin)
}

fn recorded(facts: &Facts, declared: &DemandFigures) -> Option<DemandFigures> {
    let decision = facts.workload.status.as_ref()?.decision.as_ref()?;
    let inputs = &decision.inputs;
    if inputs.demand_source.as_deref() != Some("Observed") {
        return None;
    }
    let figures = recall::figures(inputs);
    figures.requests_per_month?;
    Some(DemandFigures {
        input_p50: figures.input_p50.or(declared.input_p50),
        input_p95: declared.input_p95,
        output_p50: figures.output_p50.or(declared.output_p50),
        output_p95: declared.output_p95,
        ..figures
    })
}

/// Workloads to plan: the named one, or all.
pub fn chosen<'a>(
    objects: &'a Objects,
    name: Option<&str>,
    namespace: Option<&str>,
) -> Vec<&'a InferenceWorkload> {
    match name {
        Some(name) => objects.workload(name, namespace).into_iter().collect(),
        None => objects
            .workloads
            .iter()
            .filter(|workload| {
                let stated = workload.namespace();
                namespace.is_none_or(|wanted| stated.is_none_or(|stated| stated == wanted))
            })
            .collect(),
    }
}

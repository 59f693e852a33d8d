//! Pure: what a what-if assumes where objects say nothing, and what it cannot do without.

use weir_crds::InferenceWorkload;
use weir_crds::quantity::decimal;
use weir_operator::workload::facts::Facts;
use weir_operator::workload::validate::Validated;
use weir_operator_core::tier::hourly_cost;
use weir_placement::{Decision, Doubt, Verdict};

use crate::objects::Objects;
use crate::prices::{price_key, source};

/// Tiers that no operator has counted yet get what their spec says they cost, one node and no limit of devices.
pub(super) fn assume_capacity(objects: &mut Objects, workload: &InferenceWorkload) -> Vec<String> {
    let mut assumed = Vec::new();
    let targets = workload.spec.targets.iter();
    let wanted = targets.filter_map(|target| target.local.as_ref());
    let wanted: Vec<&String> = wanted.flat_map(|local| &local.tiers).collect();
    for (name, tier) in &mut objects.tiers {
        let status = tier.status.get_or_insert_default();
        // A cost that cannot be read stays unknown, and the decision says so.
        if status.hourly_cost_usd.is_none() {
            status.hourly_cost_usd = hourly_cost(&tier.spec.cost).ok().map(decimal);
        }
        if status.nodes.is_none() {
            status.nodes = Some(1);
            if wanted.contains(&name) {
                assumed.push(format!("GPUTier {name} has free devices for every replica"));
            }
        }
    }
    assumed
}

/// What the decision lacks, each with what to do about it.
pub(super) fn missing(
    objects: &Objects,
    facts: &Facts,
    validated: &Validated,
    decision: &Decision,
) -> Vec<String> {
    // A reference that exists and does not fit is no lack: the gate for references rejects it by name.
    let unresolved = validated.unresolved.iter();
    let mut missing: Vec<String> = unresolved
        .filter_map(|problem| match problem.reason {
            "ReferenceMissing" | "PolicyMissing" => Some(format!(
                "{}: add it to the files, or name a cluster that has it",
                problem.message
            )),
            "PolicyInvalid" => Some(problem.message.clone()),
            _ => None,
        })
        .collect();
    for candidate in &decision.candidates {
        if candidate.verdict == Verdict::Rejected {
            continue;
        }
        for doubt in &candidate.doubts {
            let what = match doubt {
                Doubt::PriceMissing => price_missing(objects, facts, &candidate.name),
                Doubt::PriceStale => Some(
                    "its price is older than the book's staleAfter: give --price or --prices"
                        .to_owned(),
                ),
                Doubt::TierCostUnknown => Some("its tier's hourly cost is unknown".to_owned()),
                Doubt::ThroughputUnknown => Some(
                    "its throughput is unknown: state assumedThroughput in the ModelProfile"
                        .to_owned(),
                ),
                Doubt::DemandUnknown => Some(
                    "demand is unknown: give --requests N, and tokens in spec.demand".to_owned(),
                ),
                _ => None,
            };
            missing.extend(what.map(|what| format!("target {}: {what}", candidate.name)));
        }
    }
    missing
}

fn price_missing(objects: &Objects, facts: &Facts, target: &str) -> Option<String> {
    let external = facts.workload.spec.target(target)?.external?;
    let name = &external.provider_ref.name;
    let provider = objects.providers.get(name)?;
    let mut models = provider.spec.models.iter();
    let model = models.find(|model| model.name == external.model)?;
    let known = match &provider.spec.price_book_ref {
        None => format!("InferenceProvider {name} has no price book"),
        Some(book) => match objects.price_books.get(&book.name) {
            None => format!("InferencePriceBook {} does not exist", book.name),
            Some(book_object) => format!(
                "InferencePriceBook {} has no price of {}; its source is {}",
                book.name,
                price_key(model),
                source(book_object)
            ),
        },
    };
    let model = &external.model;
    Some(format!(
        "{known}: give --price {name}/{model}=INPUT:OUTPUT or --prices FILE"
    ))
}

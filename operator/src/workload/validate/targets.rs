//! Targets and tiers as the decision sees them.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use weir_crds::model::ModelProfileSpec;
use weir_crds::price_book::{ContextTierPrice, PriceEntry, TokenPrices};
use weir_crds::provider::{Circuit, ProviderModel, QualityScore};
use weir_crds::quantity;
use weir_crds::tier::{SharedWith, Sharing};
use weir_crds::workload as declared;
use weir_crds::{GPUTier, InferencePriceBook, InferenceProvider, ModelProfile, condition};
use weir_placement::{
    Bytes, ContextTier, CostKind, DeviceKind, ExternalTarget, LocalTarget, Location,
    MicroUsdPerHour, MicroUsdPerMillionRequests, MicroUsdPerMillionTokens, MilliTokensPerSecond,
    ModelFacts, Percent, Price, PriceBookRef, PriceState, Provisionable, Score, Seconds,
    SharedDevices, Target, TargetKind, Throughput, ThroughputSource, TierState, Tokens,
    Utilization,
};

use super::{Problem, SpecError};
use crate::workload::facts::Facts;

pub(super) fn targets(
    facts: &Facts,
    unresolved: &mut Vec<Problem>,
    pending: &mut Vec<String>,
) -> Result<Vec<Target>, SpecError> {
    let mut targets = Vec::with_capacity(facts.workload.spec.targets.len());
    for target in &facts.workload.spec.targets {
        let (location, found) = match (&target.local, &target.external) {
            (Some(wanted), None) => (Location::Local, local(facts, &target.name, wanted)),
            (None, Some(wanted)) => (
                Location::External,
                external(facts, &target.name, wanted, pending),
            ),
            _ => return Err(SpecError::Target(target.name.clone())),
        };
        let kind = found.unwrap_or_else(|problem| {
            let message = problem.message.clone();
            pending.push(message.clone());
            unresolved.push(problem);
            TargetKind::Unresolved { location, message }
        });
        targets.push(Target {
            name: target.name.clone(),
            kind,
        });
    }
    Ok(targets)
}

fn missing(kind: &str, name: &str) -> Problem {
    Problem {
        reason: "ReferenceMissing",
        message: format!("{kind} {name} does not exist"),
    }
}

fn invalid(kind: &str, name: &str, error: &dyn std::fmt::Display) -> Problem {
    Problem {
        reason: "ReferenceInvalid",
        message: format!("{kind} {name} cannot be used: {error}"),
    }
}

pub(super) fn local(
    facts: &Facts,
    name: &str,
    wanted: &declared::LocalTarget,
) -> Result<TargetKind, Problem> {
    let model_name = &wanted.model_ref.name;
    let model = facts
        .models
        .get(model_name)
        .ok_or_else(|| missing("ModelProfile", model_name))?;
    let memory = quantity::memory(&model.spec.memory)
        .map_err(|error| invalid("ModelProfile", model_name, &error))?;
    let quality = quality(&model.spec.quality)
        .map_err(|error| invalid("ModelProfile", model_name, &error))?;
    let placed_here = facts
        .placement()
        .filter(|placement| placement.target == name)
        .and_then(|placement| placement.tier.clone());
    let ttft = facts
        .traffic
        .targets
        .get(name)
        .and_then(|seen| seen.ttft_p95);
    Ok(TargetKind::Local(LocalTarget {
        model: ModelFacts {
            name: Some(model_name.clone()),
            equivalence_group: model.spec.equivalence_group.clone(),
            context: Some(super::tokens(model.spec.context_tokens)),
            capabilities: model.spec.capabilities.iter().cloned().collect(),
            quality,
        },
        memory: Some(Bytes::clamped(memory.into())),
        tiers: wanted.tiers.clone(),
        throughput: wanted
            .tiers
            .iter()
            .filter_map(|tier| Some((tier.clone(), throughput(model, tier)?)))
            .collect(),
        ttft_p95: placed_here.zip(ttft).into_iter().collect(),
        min_replicas: u32::try_from(wanted.scaling.min_replicas).unwrap_or(0),
        max_replicas: u32::try_from(wanted.scaling.max_replicas).unwrap_or(1),
    }))
}

/// What engines reported of the tier, or else what the profile assumes.
fn throughput(model: &ModelProfile, tier: &str) -> Option<Throughput> {
    let rate = |whole: i64| MilliTokensPerSecond::from_whole(u64::try_from(whole).ok()?).ok();
    let measured = model.status.iter().flat_map(|status| &status.measured);
    let measured = measured
        .filter(|measured| measured.tier == tier)
        .find_map(|measured| rate(measured.output_tokens_per_second));
    let assumed = |spec: &ModelProfileSpec| {
        let of_tier = spec
            .assumed_throughput
            .iter()
            .find(|assumed| assumed.tier == tier)?;
        rate(of_tier.output_tokens_per_second)
    };
    match measured {
        Some(rate) => Some(Throughput {
            rate,
            source: ThroughputSource::Measured,
        }),
        None => Some(Throughput {
            rate: assumed(&model.spec)?,
            source: ThroughputSource::Assumed,
        }),
    }
}

fn quality(scores: &[QualityScore]) -> Result<BTreeMap<String, Score>, weir_placement::UnitError> {
    scores
        .iter()
        .map(|score| Ok((score.benchmark.clone(), Score::parse_decimal(&score.score)?)))
        .collect()
}

pub(super) fn external(
    facts: &Facts,
    name: &str,
    wanted: &declared::ExternalTarget,
    pending: &mut Vec<String>,
) -> Result<TargetKind, Problem> {
    let provider_name = &wanted.provider_ref.name;
    let provider = facts
        .providers
        .get(provider_name)
        .ok_or_else(|| missing("InferenceProvider", provider_name))?;
    let model = provider
        .spec
        .models
        .iter()
        .find(|model| model.name == wanted.model)
        .ok_or_else(|| Problem {
            reason: "ModelNotOffered",
            message: format!(
                "InferenceProvider {provider_name} has no model {}",
                wanted.model
            ),
        })?;
    let quality = quality(&model.quality)
        .map_err(|error| invalid("InferenceProvider", provider_name, &error))?;
    let allowed = &provider.spec.allowed_namespaces;
    Ok(TargetKind::External(ExternalTarget {
        provider: provider_name.clone(),
        model: ModelFacts {
            name: Some(model.name.clone()),
            equivalence_group: model.equivalence_group.clone(),
            context: model
                .context_tokens
                .map(|tokens| Tokens::clamped(u128::try_from(tokens).unwrap_or(0))),
            capabilities: model.capabilities.iter().cloned().collect(),
            quality,
        },
        price: price(facts, provider, model, pending),
        jurisdiction: provider.spec.jurisdiction.clone(),
        zero_retention: Some(provider.spec.zero_retention),
        namespace_allowed: weir_terms::admits(allowed, facts.namespace()),
        ttft_p95: facts
            .traffic
            .targets
            .get(name)
            .and_then(|seen| seen.ttft_p95),
        healthy: healthy(provider),
    }))
}

/// Whether the provider answers, as the cloud plane measured it; `None` before it did.
pub(crate) fn healthy(provider: &InferenceProvider) -> Option<bool> {
    let status = provider.status.as_ref()?;
    let healthy = status
        .conditions
        .iter()
        .find(|each| each.type_ == condition::types::HEALTHY);
    match healthy.map(|condition| condition.status.as_str()) {
        Some("True") => Some(true),
        Some("False") => Some(false),
        _ => status.circuit.map(|circuit| circuit == Circuit::Closed),
    }
}

/// What the provider's status says of why it does not answer, as the end of a sentence.
pub(crate) fn unhealthy_because(provider: &InferenceProvider) -> String {
    let status = provider.status.as_ref();
    let mut conditions = status.into_iter().flat_map(|status| &status.conditions);
    let healthy = conditions.find(|each| each.type_ == condition::types::HEALTHY);
    match healthy.filter(|healthy| healthy.status == "False") {
        Some(healthy) => format!(": {}", healthy.message),
        None => String::new(),
    }
}

fn price(
    facts: &Facts,
    provider: &InferenceProvider,
    model: &ProviderModel,
    pending: &mut Vec<String>,
) -> Option<Price> {
    let book_name = &provider.spec.price_book_ref.as_ref()?.name;
    let Some(book) = facts.price_books.get(book_name) else {
        pending.push(format!("InferencePriceBook {book_name} does not exist"));
        return None;
    };
    let key = model.price_key.as_ref().unwrap_or(&model.name);
    let status = book.status.as_ref();
    let entry = status.and_then(|status| status.prices.iter().find(|entry| entry.model == *key));
    let read = status.is_some_and(|status| status.revision.is_some());
    let (Some(entry), Some(status)) = (entry, status) else {
        if !read {
            pending.push(format!("InferencePriceBook {book_name} was not read yet"));
        }
        return None;
    };
    let held = status.held.iter().any(|held| held.model == *key);
    let state = match (is_fresh(book, facts.now), held) {
        (false, _) => PriceState::Stale,
        (true, true) => PriceState::Held,
        (true, false) => PriceState::Fresh,
    };
    let book = PriceBookRef {
        name: book_name.clone(),
        revision: status.revision.clone().unwrap_or_default(),
        as_of: status.as_of.as_ref().map(|time| time.0),
    };
    read_price(entry, book, state)
}

/// A price of which any part cannot be read is no price.
pub(super) fn read_price(
    entry: &PriceEntry,
    book: PriceBookRef,
    state: PriceState,
) -> Option<Price> {
    let tier = |tier: &ContextTierPrice| {
        let above = Tokens::new(u64::try_from(tier.above_input_tokens).ok()?).ok()?;
        read_tokens(&tier.tokens, above)
    };
    let context_tiers = entry.context_tiers.iter().map(tier);
    let mut context_tiers: Vec<_> = context_tiers.collect::<Option<_>>()?;
    context_tiers.sort_by_key(|tier: &ContextTier| tier.above);
    let fee = entry.usd_per_million_requests.as_deref();
    let base = read_tokens(&entry.tokens, Tokens::MIN)?;
    Some(Price {
        input: base.input,
        cached_input: base.cached_input,
        cache_write: base.cache_write,
        output: base.output,
        reasoning: base.reasoning,
        per_request: fee
            .map(MicroUsdPerMillionRequests::parse_decimal)
            .transpose()
            .ok()?,
        context_tiers,
        book,
        state,
    })
}

fn read_tokens(prices: &TokenPrices, above: Tokens) -> Option<ContextTier> {
    let read = |text: &String| MicroUsdPerMillionTokens::parse_decimal(text);
    let optional = |text: &Option<String>| text.as_ref().map(read).transpose().ok();
    Some(ContextTier {
        above,
        input: read(&prices.input_usd_per_million_tokens).ok()?,
        cached_input: optional(&prices.cached_input_usd_per_million_tokens)?,
        cache_write: optional(&prices.cache_write_usd_per_million_tokens)?,
        output: read(&prices.output_usd_per_million_tokens).ok()?,
        reasoning: optional(&prices.reasoning_usd_per_million_tokens)?,
    })
}

/// Whether the source confirmed the prices within `staleAfter`. Never confirmed is not fresh.
pub(crate) fn is_fresh(book: &InferencePriceBook, now: Timestamp) -> bool {
    fresh_until(book).is_some_and(|until| now <= until)
}

/// Until when the prices of a book may be acted on.
pub(crate) fn fresh_until(book: &InferencePriceBook) -> Option<Timestamp> {
    let as_of = book.status.as_ref()?.as_of.as_ref()?.0;
    let stale_after = quantity::duration(&book.spec.stale_after).ok()?;
    let stale_after = SignedDuration::try_from(stale_after).ok()?;
    Some(as_of.saturating_add(stale_after).unwrap_or(Timestamp::MAX))
}

pub(super) fn tiers(
    facts: &Facts,
    unresolved: &mut Vec<Problem>,
    pending: &mut Vec<String>,
) -> BTreeMap<String, TierState> {
    let wanted = facts.workload.spec.targets.iter();
    let names = wanted
        .filter_map(|target| target.local.as_ref())
        .flat_map(|local| &local.tiers);
    let mut tiers = BTreeMap::new();
    for name in names {
        if tiers.contains_key(name) {
            continue;
        }
        let Some(tier) = facts.tiers.get(name) else {
            pending.push(format!("GPUTier {name} does not exist"));
            let problem = missing("GPUTier", name);
            if !unresolved.contains(&problem) {
                unresolved.push(problem);
            }
            continue;
        };
        if tier
            .status
            .as_ref()
            .is_none_or(|status| status.nodes.is_none())
        {
            pending.push(format!("GPUTier {name} was not counted yet"));
        }
        let utilization = facts.utilization.get(name).copied().unwrap_or_default();
        tiers.insert(name.clone(), tier_state(tier, utilization));
    }
    tiers
}

/// How many devices the tiers have.
pub(super) fn devices(facts: &Facts) -> BTreeMap<String, u32> {
    let counted = |(name, tier): (&String, &Arc<GPUTier>)| {
        let devices = tier.status.as_ref()?.devices?;
        Some((name.clone(), u32::try_from(devices).ok()?))
    };
    facts.tiers.iter().filter_map(counted).collect()
}

fn tier_state(tier: &GPUTier, utilization: Utilization) -> TierState {
    let status = tier.status.clone().unwrap_or_default();
    let is_cpu = tier.spec.sharing == Sharing::CPU;
    TierState {
        kind: if is_cpu {
            DeviceKind::Cpu
        } else {
            DeviceKind::Gpu
        },
        nodes: status
            .nodes
            .and_then(|nodes| u32::try_from(nodes).ok())
            .unwrap_or(0),
        free_devices: status
            .free
            .map(|free| u32::try_from(free.max(0)).unwrap_or(u32::MAX)),
        device_memory: quantity::memory(&tier.spec.memory)
            .ok()
            .map(|bytes| Bytes::clamped(bytes.into())),
        hourly_cost: status
            .hourly_cost_usd
            .as_deref()
            .and_then(|cost| MicroUsdPerHour::parse_decimal(cost).ok()),
        marginal_hourly_cost: status
            .marginal_hourly_cost_usd
            .as_deref()
            .and_then(|cost| MicroUsdPerHour::parse_decimal(cost).ok()),
        cost_kind: match &tier.spec.cost.rented {
            None => CostKind::Owned,
            Some(rented) if rented.committed => CostKind::Committed,
            Some(_) => CostKind::Rented,
        },
        utilization,
        occupancy: status
            .occupancy_percent
            .map(|percent| Percent::clamped(u128::try_from(percent).unwrap_or(0))),
        shared: status.shared_with.iter().map(shared).collect(),
        provisionable: provisionable(tier),
    }
}

fn shared(with: &SharedWith) -> (String, SharedDevices) {
    let count = |count: i64| u32::try_from(count.max(0)).unwrap_or(u32::MAX);
    let shared = SharedDevices {
        free: count(with.free),
        each: count(with.each),
    };
    (with.tier.clone(), shared)
}

/// Devices that can still be provisioned; none where that cannot be read.
fn provisionable(tier: &GPUTier) -> Option<Provisionable> {
    let wanted = tier.spec.provisionable.as_ref()?;
    let devices = tier.status.as_ref()?.provisionable?;
    let hourly_cost = wanted.usd_per_hour.as_deref();
    Some(Provisionable {
        devices: u32::try_from(devices.max(0)).unwrap_or(u32::MAX),
        ready_after: Seconds::clamped(ready_after(tier)?.as_secs().unsigned_abs().into()),
        hourly_cost: match hourly_cost.map(MicroUsdPerHour::parse_decimal) {
            None => None,
            Some(Ok(cost)) => Some(cost),
            Some(Err(_)) => return None,
        },
    })
}

/// How long devices of a tier take to be provisioned, where any can be.
pub(crate) fn ready_after(tier: &GPUTier) -> Option<SignedDuration> {
    let wanted = tier.spec.provisionable.as_ref()?;
    let ready_after = quantity::duration(&wanted.ready_after).ok()?;
    SignedDuration::try_from(ready_after).ok()
}

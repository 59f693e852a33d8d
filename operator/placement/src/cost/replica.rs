//! The cluster's curve: a step for each replica, idle committed devices at what running them adds.

use super::line::{Line, Step, whole};
use super::{EXACT_PER_MICRO, ExactCost, HOURS_PER_MONTH, SECONDS_PER_MONTH};
use crate::plan::CostBasis;
use crate::snapshot::{DemandFigures, LocalTarget, Pattern, Throughput};
use crate::units::{MicroUsd, MicroUsdPerHour, RequestsPerMonth, Seconds};

/// A prompt token takes three tenths of an answer token's work: prefill is bound by arithmetic and decode by memory
/// bandwidth, so prompts pass several times as fast. Reuse of prompts by a local cache is not counted.
pub(crate) const INPUT_WEIGHT_TENTHS: u128 = 3;
pub(crate) const OUTPUT_WEIGHT_TENTHS: u128 = 10;
/// More replicas than any target may ask for; bounds the walk over cost steps.
const REPLICA_BOUND: u32 = 10_000;

/// Busiest hour over the mean in percent, until enough hours are observed for demand to have a profile of its own. Traffic of a working day fills half of the hours of
/// a month and is absent in the other half, which alone makes two. Bursty clients are idle in 84 % of the hours or more
/// (clients of 0.1 to 1 million requests a month in public traces), so the other 16 % carry at least six times the mean.
/// Batches wait for room.
fn expected_peak(pattern: Pattern) -> u128 {
    match pattern {
        Pattern::Interactive => 200,
        Pattern::Bursty => 600,
        Pattern::Batch => 100,
    }
}

/// What an hour of a replica costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplicaRate {
    /// Fully loaded.
    pub(crate) full: MicroUsdPerHour,
    /// What running a device adds that is paid for anyway, and how many such devices are idle.
    pub(crate) idle: Option<(MicroUsdPerHour, u32)>,
    /// The policy's cost of operating one hosted workload, by the month.
    pub(crate) operations: MicroUsd,
    /// Replicas beyond those that there are devices for.
    pub(crate) to_come: Option<ToCome>,
}

/// Replicas whose devices have to be provisioned first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ToCome {
    /// Replicas that there are devices for.
    pub(crate) beyond: u32,
    /// What an hour of a further one costs, at least what one costs that is there.
    pub(crate) hourly: MicroUsdPerHour,
    /// How long one costs before a pod can run on it.
    pub(crate) ready_after: Seconds,
}

/// What a replica is to carry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work<'a> {
    pub(crate) throughput: Option<Throughput>,
    pub(crate) figures: &'a DemandFigures,
    pub(crate) pattern: Pattern,
}

/// How a local target's cost grows: by a step for each replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplicaCurve {
    rate: ReplicaRate,
    pub(crate) min: u32,
    pub(crate) max: u32,
    /// Replicas that there is room for, where that bounds them.
    room: u32,
    /// Seconds that a new replica costs before it serves, and replicas that are warm anyway.
    warm_up: (u128, u32),
    /// `None` when throughput or the token mix is unknown.
    capacity: Option<Capacity>,
}

/// What one replica carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Capacity {
    /// Work that it does in a month, and that of one request in hours of the mean load, in like units.
    work: u128,
    request: u128,
    /// The busy hour over the mean one, in percent.
    peak: u128,
}

impl Capacity {
    /// Requests a month that so many replicas carry in hours of this load; `None` when that is unbounded.
    fn carries(&self, replicas: u32, load: u128) -> Option<u128> {
        (u128::from(replicas) * self.work).checked_div(self.request * load)
    }
}

impl ReplicaCurve {
    /// A target that serves has at least one replica. Unknown throughput is no obstacle where only one number of
    /// replicas is possible.
    pub(crate) fn new(
        target: &LocalTarget,
        rate: ReplicaRate,
        work: Work<'_>,
        warm_up: Seconds,
    ) -> Self {
        let max = target.max_replicas.clamp(1, REPLICA_BOUND);
        let Work {
            throughput,
            figures,
            pattern,
        } = work;
        let fraction = |rate: Throughput| {
            let input = u128::from(figures.input_p50?.get()) * INPUT_WEIGHT_TENTHS;
            let output = u128::from(figures.output_p50?.get()) * OUTPUT_WEIGHT_TENTHS;
            let tenths_per_month = u128::from(rate.rate.get()) * 10 * SECONDS_PER_MONTH;
            let observed = figures.peak_to_mean.map(|peak| u128::from(peak.get()));
            let peak = observed.unwrap_or_else(|| expected_peak(pattern));
            Some(Capacity {
                work: tenths_per_month,
                request: (input + output) * 10,
                peak,
            })
        };
        Self {
            rate,
            min: target.min_replicas.clamp(1, max),
            max,
            room: u32::MAX,
            warm_up: (u128::from(warm_up.get()), target.min_replicas.min(max)),
            capacity: throughput.and_then(fraction),
        }
    }

    /// The curve as far as there is room for so many replicas.
    pub(crate) fn within(self, room: u32) -> Self {
        Self { room, ..self }
    }

    /// The same for a target whose remaining work goes elsewhere: no more replicas than there is room for.
    pub(crate) fn limited(self) -> Self {
        let max = self.max.min(self.room).max(self.min);
        Self { max, ..self }
    }

    /// Most requests per month that `replicas` carry; `None` when that is unknown or unbounded.
    pub(crate) fn carries(&self, replicas: u32) -> Option<u128> {
        let capacity = self.capacity?;
        capacity.carries(replicas, capacity.peak)
    }

    /// Requests a month that one replica carries in hours of this load, in percent of the mean one's; `None` when that is
    /// unknown or unbounded.
    pub(crate) fn one_carries(&self, load: u64) -> Option<u128> {
        self.capacity?.carries(1, load.into())
    }

    /// Replicas for that many requests, and whether the most allowed are too few; `None` when it cannot be told.
    pub(crate) fn replicas(&self, requests: Option<RequestsPerMonth>) -> Option<(u32, bool)> {
        let needed = || {
            let Capacity {
                work,
                request,
                peak,
            } = self.capacity?;
            Some((u128::from(requests?.get()) * request * peak).div_ceil(work))
        };
        let Some(needed) = needed() else {
            return (self.min == self.max).then_some((self.min, false));
        };
        let limited = needed > u128::from(self.max);
        let replicas = u32::try_from(needed)
            .unwrap_or(u32::MAX)
            .clamp(self.min, self.max);
        Some((replicas, limited))
    }

    /// What an hour of so many replicas costs, in micro-USD. Devices beyond the idle ones have to be bought or rented, and
    /// those beyond what is there to be provisioned.
    fn hourly(&self, replicas: u32) -> u128 {
        let full = u128::from(self.rate.full.get());
        let (new, hourly) = self.to_come(replicas);
        let there = replicas - new;
        let (marginal, idle) = self.rate.idle.unwrap_or((self.rate.full, 0));
        let marginal = u128::from(marginal.get()).min(full);
        let already_paid = there.min(idle);
        u128::from(already_paid) * marginal
            + u128::from(there - already_paid) * full
            + u128::from(new) * hourly
    }

    /// How many of so many replicas have to be provisioned, and what an hour of one costs, in micro-USD.
    fn to_come(&self, replicas: u32) -> (u32, u128) {
        let full = u128::from(self.rate.full.get());
        self.rate.to_come.map_or((0, full), |to_come| {
            let hourly = u128::from(to_come.hourly.get()).max(full);
            (replicas.saturating_sub(to_come.beyond), hourly)
        })
    }

    /// Which costs of so many replicas are counted.
    pub(crate) fn basis(&self, replicas: u32) -> CostBasis {
        match self.rate.idle {
            Some((_, idle)) if idle >= replicas => CostBasis::Marginal,
            Some((_, idle)) if idle > 0 => CostBasis::Mixed,
            _ => CostBasis::FullyLoaded,
        }
    }

    pub(crate) fn operations(&self) -> MicroUsd {
        self.rate.operations
    }

    /// What so many replicas cost in a month, in exact units and beyond what can be shown.
    pub(crate) fn rent(&self, replicas: u32) -> u128 {
        let rent = self.hourly(replicas) * HOURS_PER_MONTH;
        (rent + u128::from(self.rate.operations.get())) * EXACT_PER_MICRO
    }

    pub(crate) fn cost(&self, replicas: u32) -> ExactCost {
        ExactCost(self.rent(replicas)).min(ExactCost::MOST)
    }

    /// What so many replicas cost before they serve, in micro-USD.
    pub(crate) fn warm_up(&self, replicas: u32) -> u128 {
        let (seconds, warm) = self.warm_up;
        let warm = warm.min(replicas);
        let added = self.hourly(replicas) - self.hourly(warm);
        let (new, hourly) = self.to_come(replicas);
        let (waited_for, _) = self.to_come(warm);
        let wait = self.rate.to_come.map_or(0, |it| it.ready_after.get());
        let waiting = u128::from(new - waited_for) * hourly * u128::from(wait);
        (added * seconds + waiting).div_ceil(3_600)
    }

    /// The steps from the fewest replicas on, over requests per month, as far as there is room. The last one has no end
    /// where room does not bound it.
    pub(crate) fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        let bounded = self.capacity.is_some_and(|capacity| capacity.request > 0);
        let last = if bounded { self.max } else { self.min };
        (self.min..=last.min(self.room)).filter_map(move |replicas| {
            let fewest = if replicas == self.min {
                0
            } else {
                self.carries(replicas - 1)? + 1
            };
            let most = if replicas == last {
                u128::MAX
            } else {
                self.carries(replicas)?
            };
            (fewest <= most).then_some(Step {
                range: (whole(fewest), whole(most)),
                cost: Line::constant(self.cost(replicas).0),
                warm_up: self.warm_up(replicas),
            })
        })
    }
}

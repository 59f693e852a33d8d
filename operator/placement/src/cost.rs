//! What a target costs in a month: by the token in the cloud, in steps of whole replicas in the cluster.

use crate::snapshot::{DemandFigures, ExternalTarget, LocalTarget, Price, Throughput};
use crate::units::{MicroUsd, MicroUsdPerHour, MicroUsdPerMillionTokens, RequestsPerMonth};

/// A year's hours by twelve.
pub(crate) const HOURS_PER_MONTH: u128 = 730;
const SECONDS_PER_MONTH: u128 = HOURS_PER_MONTH * 3_600;
/// Busiest hour over the mean: traffic of a working day fills half of the hours of a month and is absent in the
/// other half, which alone makes two. A constant until demand has a profile of its own.
const PEAK_TO_MEAN: u128 = 2;
/// A prompt token takes three tenths of an answer token's work: prefill is bound by arithmetic and decode by memory
/// bandwidth, so prompts pass several times as fast. Reuse of prompts by a local cache is not counted.
const INPUT_WEIGHT_TENTHS: u128 = 3;
const OUTPUT_WEIGHT_TENTHS: u128 = 10;
/// More replicas than any target may ask for; bounds the walk over cost steps.
const REPLICA_BOUND: u32 = 10_000;

/// An exact monthly cost: units of ten to the minus eight micro-USD, the product of a price per million tokens, a
/// token count and a percentage. Comparisons use it; what is shown is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ExactCost(pub(crate) u128);

/// Units of `ExactCost` in a micro-USD.
pub(crate) const EXACT_PER_MICRO: u128 = 100_000_000;

impl ExactCost {
    pub(crate) fn to_micro_usd(self) -> MicroUsd {
        MicroUsd::clamped((self.0 + EXACT_PER_MICRO / 2) / EXACT_PER_MICRO)
    }

    /// Cost of a million tokens when this buys the figures' prompts and answers for a month.
    pub(crate) fn per_million_tokens(
        self,
        figures: &DemandFigures,
    ) -> Option<MicroUsdPerMillionTokens> {
        let requests = u128::from(figures.requests_per_month?.get());
        let tokens = u128::from(figures.input_p50?.get() + figures.output_p50?.get()) * requests;
        if tokens == 0 {
            return None;
        }
        let per_million_at_once = EXACT_PER_MICRO / 1_000_000;
        let divisor = tokens * per_million_at_once;
        Some(MicroUsdPerMillionTokens::clamped(
            (self.0 + divisor / 2) / divisor,
        ))
    }
}

/// How an external target's cost grows: by a constant for each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenCurve {
    /// Prompt tokens of a request in hundredths, without and with the provider's cache, and answer tokens in hundredths.
    uncached: u128,
    cached: u128,
    output: u128,
    price: Price,
}

impl TokenCurve {
    /// `None` without a price or a known token mix. The medians stand for the means. An unknown cached share is
    /// billed in full.
    pub(crate) fn new(target: &ExternalTarget, figures: &DemandFigures) -> Option<Self> {
        let (input, output) = (figures.input_p50?, figures.output_p50?);
        let cached_percent = figures
            .cached_input
            .map_or(0, |share| u128::from(share.get()));
        let input = u128::from(input.get());
        Some(Self {
            uncached: input * (100 - cached_percent),
            cached: input * cached_percent,
            output: u128::from(output.get()) * 100,
            price: target.price.clone()?,
        })
    }

    /// Exact cost of one request.
    pub(crate) fn per_request(&self) -> u128 {
        self.per_request_without_input() + self.input_weight() * price(self.price.input)
    }

    pub(crate) fn cost(&self, requests: RequestsPerMonth) -> ExactCost {
        ExactCost(u128::from(requests.get()) * self.per_request())
    }

    /// How often the input price counts in a request's cost; the cached share counts with it where it has no price.
    pub(crate) fn input_weight(&self) -> u128 {
        match self.price.cached_input {
            Some(_) => self.uncached,
            None => self.uncached + self.cached,
        }
    }

    /// How often the output price counts in a request's cost.
    pub(crate) fn output_weight(&self) -> u128 {
        self.output
    }

    pub(crate) fn per_request_without_input(&self) -> u128 {
        let cached = self
            .price
            .cached_input
            .map_or(0, |cached| self.cached * price(cached));
        cached + self.output * price(self.price.output)
    }

    pub(crate) fn per_request_without_output(&self) -> u128 {
        self.per_request() - self.output * price(self.price.output)
    }

    pub(crate) fn price(&self) -> &Price {
        &self.price
    }
}

fn price(price: MicroUsdPerMillionTokens) -> u128 {
    u128::from(price.get())
}

/// How a local target's cost grows: by a step for each replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplicaCurve {
    hourly: u128,
    pub(crate) operations: MicroUsd,
    pub(crate) min: u32,
    pub(crate) max: u32,
    /// Requests a month that one replica carries at the peak, as a fraction; `None` when throughput or the token mix is unknown.
    capacity: Option<(u128, u128)>,
}

impl ReplicaCurve {
    /// A target that serves has at least one replica. Unknown throughput is no obstacle where only one number of
    /// replicas is possible.
    pub(crate) fn new(
        target: &LocalTarget,
        hourly: MicroUsdPerHour,
        operations: MicroUsd,
        throughput: Option<Throughput>,
        figures: &DemandFigures,
    ) -> Self {
        let max = target.max_replicas.clamp(1, REPLICA_BOUND);
        let work = |rate: Throughput| {
            let input = u128::from(figures.input_p50?.get()) * INPUT_WEIGHT_TENTHS;
            let output = u128::from(figures.output_p50?.get()) * OUTPUT_WEIGHT_TENTHS;
            let tenths_per_month = u128::from(rate.rate.get()) * 10 * SECONDS_PER_MONTH;
            Some((tenths_per_month, (input + output) * PEAK_TO_MEAN * 1_000))
        };
        Self {
            hourly: u128::from(hourly.get()),
            operations,
            min: target.min_replicas.clamp(1, max),
            max,
            capacity: throughput.and_then(work),
        }
    }

    /// Most requests per month that `replicas` carry; `None` when that is unknown or unbounded.
    pub(crate) fn carries(&self, replicas: u32) -> Option<u128> {
        let (rate, work) = self.capacity?;
        (u128::from(replicas) * rate).checked_div(work)
    }

    /// Replicas for that many requests, and whether the most allowed are too few; `None` when it cannot be told.
    pub(crate) fn replicas(&self, requests: Option<RequestsPerMonth>) -> Option<(u32, bool)> {
        let needed = || {
            let (rate, work) = self.capacity?;
            Some((u128::from(requests?.get()) * work).div_ceil(rate))
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

    pub(crate) fn cost(&self, replicas: u32) -> ExactCost {
        let rent = u128::from(replicas) * self.hourly * HOURS_PER_MONTH;
        ExactCost((rent + u128::from(self.operations.get())) * EXACT_PER_MICRO)
    }

    /// The steps from the one that holds `from` on: replicas, fewest and most requests. The last one has no end.
    pub(crate) fn steps(&self) -> impl DoubleEndedIterator<Item = Step> + '_ {
        let bounded = self.capacity.is_some_and(|(_, work)| work > 0);
        let last = if bounded { self.max } else { self.min };
        (self.min..=last).filter_map(move |replicas| {
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
                fewest,
                most,
                cost: self.cost(replicas).0,
            })
        })
    }
}

/// A range of requests per month over which a local target costs the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) fewest: u128,
    pub(crate) most: u128,
    pub(crate) cost: u128,
}

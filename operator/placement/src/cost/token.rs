//! The cloud's curve: a constant for each request, from what it is billed for prompts, cached prompts and answers.

use super::line::{Line, Step};
use super::{ExactCost, SHARES};
use crate::snapshot::{ContextTier, DemandFigures, Pattern, Price};
use crate::units::{MicroUsdPerMillionTokens, RequestsPerMonth, Tokens};

const WHOLE: u128 = 100;

/// How an external target's cost grows: by a constant for each request, linear in each listed price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenCurve {
    /// How often the listed input and output prices count in a request's cost.
    input_weight: u128,
    output_weight: u128,
    /// What is billed at other prices: the cached share, and long prompts.
    rest: u128,
    price: Price,
}

impl TokenCurve {
    /// `None` without a known token mix. The medians stand for the means. An unknown cached share is billed in full.
    /// The batch discount holds for requests that may wait.
    pub(crate) fn new(price: &Price, figures: &DemandFigures, pattern: Pattern) -> Option<Self> {
        let (input, output) = (figures.input_p50?, figures.output_p50?);
        let discount = price
            .batch_discount
            .filter(|_| pattern == Pattern::Batch)
            .map_or(0, |discount| u128::from(discount.get()));
        let cached = figures
            .cached_input
            .map_or(0, |share| u128::from(share.get()));
        let request = Request {
            uncached: u128::from(input.get()) * (WHOLE - cached),
            cached: u128::from(input.get()) * cached,
            output: u128::from(output.get()) * WHOLE,
            paid: WHOLE - discount,
        };
        let shares = shares(&price.context_tiers, input, figures.input_p95);
        let short = WHOLE - shares.iter().sum::<u128>();
        let first = request.billed(price.cached_input, short);
        let long: u128 = price
            .context_tiers
            .iter()
            .zip(&shares)
            .map(|(tier, share)| {
                let billed = request.billed(tier.cached_input, *share);
                billed.at(tier.input, tier.output)
            })
            .sum();
        Some(Self {
            input_weight: first.input_weight,
            output_weight: first.output_weight,
            rest: first.rest + long,
            price: price.clone(),
        })
    }

    /// Exact cost of one request; it can be cut into the shares of the work.
    pub(crate) fn per_request(&self) -> u128 {
        self.per_request_without_input() + self.input_weight * number(self.price.input)
    }

    /// What any number of requests costs.
    pub(crate) fn step(&self) -> Step {
        Step {
            range: (0, i128::MAX),
            cost: Line::new(0, self.per_request()),
            warm_up: 0,
        }
    }

    pub(crate) fn cost(&self, requests: RequestsPerMonth) -> ExactCost {
        let cost = u128::from(requests.get()).saturating_mul(self.per_request());
        ExactCost(cost).min(ExactCost::MOST)
    }

    /// How often the listed input price counts in a request's cost; the cached share counts with it where it has no
    /// price of its own.
    pub(crate) fn input_weight(&self) -> u128 {
        self.input_weight
    }

    /// How often the listed output price counts in a request's cost.
    pub(crate) fn output_weight(&self) -> u128 {
        self.output_weight
    }

    pub(crate) fn per_request_without_input(&self) -> u128 {
        self.rest + self.output_weight * number(self.price.output)
    }

    pub(crate) fn per_request_without_output(&self) -> u128 {
        self.rest + self.input_weight * number(self.price.input)
    }

    pub(crate) fn price(&self) -> &Price {
        &self.price
    }
}

/// Tokens of a request in hundredths, and the percent of list prices that is paid.
struct Request {
    uncached: u128,
    cached: u128,
    output: u128,
    paid: u128,
}

/// A share of the requests at one set of prices.
struct Billed {
    input_weight: u128,
    output_weight: u128,
    rest: u128,
}

impl Request {
    /// `cached` is the price of the cached share where it has one of its own.
    fn billed(&self, cached: Option<MicroUsdPerMillionTokens>, share: u128) -> Billed {
        let scale = share * self.paid * SHARES;
        match cached {
            Some(cached) => Billed {
                input_weight: self.uncached * scale,
                output_weight: self.output * scale,
                rest: self.cached * scale * number(cached),
            },
            None => Billed {
                input_weight: (self.uncached + self.cached) * scale,
                output_weight: self.output * scale,
                rest: 0,
            },
        }
    }
}

impl Billed {
    fn at(&self, input: MicroUsdPerMillionTokens, output: MicroUsdPerMillionTokens) -> u128 {
        self.input_weight * number(input) + self.output_weight * number(output) + self.rest
    }
}

fn number(price: MicroUsdPerMillionTokens) -> u128 {
    u128::from(price.get())
}

/// Percent of the requests that each tier of rising thresholds bills: those above its threshold and not above the next.
fn shares(tiers: &[ContextTier], p50: Tokens, p95: Option<Tokens>) -> Vec<u128> {
    let above: Vec<u128> = tiers
        .iter()
        .map(|tier| share_above(tier.above, p50, p95))
        .collect();
    let next = above.iter().skip(1).copied().chain([0]);
    above
        .iter()
        .zip(next)
        .map(|(own, next)| own.saturating_sub(next))
        .collect()
}

/// Percent of the prompts that are longer than `threshold`, rounded up. Prompt lengths are taken to lie evenly below the
/// median, and from there evenly along the line through the 95th percentile to its end. Without a 95th percentile no
/// prompt is longer than the median.
fn share_above(threshold: Tokens, p50: Tokens, p95: Option<Tokens>) -> u128 {
    let (threshold, median) = (u128::from(threshold.get()), u128::from(p50.get()));
    if threshold < median {
        return WHOLE - 50 * threshold / median;
    }
    let beyond = p95.map_or(0, |p95| u128::from(p95.get()).saturating_sub(median));
    if beyond == 0 {
        return 0;
    }
    50_u128.saturating_sub(45 * (threshold - median) / beyond)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::half_of_the_median(500, 1_000, Some(10_000), 75)]
    #[case::nothing_is_shorter(0, 1_000, Some(10_000), 100)]
    #[case::at_the_median(1_000, 1_000, Some(10_000), 50)]
    #[case::between(4_000, 1_000, Some(10_000), 35)]
    #[case::at_the_95th(10_000, 1_000, Some(10_000), 5)]
    #[case::at_the_end_of_the_line(11_000, 1_000, Some(10_000), 0)]
    #[case::far_beyond(200_000, 1_000, Some(10_000), 0)]
    #[case::no_95th(1_000, 1_000, None, 0)]
    #[case::a_95th_at_the_median(1_000, 1_000, Some(1_000), 0)]
    #[case::no_prompt_at_all(0, 0, None, 0)]
    fn the_share_of_long_prompts_follows_the_quantiles(
        #[case] threshold: u128,
        #[case] p50: u128,
        #[case] p95: Option<u128>,
        #[case] percent: u128,
    ) {
        let tokens = Tokens::clamped;
        assert_eq!(
            share_above(tokens(threshold), tokens(p50), p95.map(tokens)),
            percent
        );
    }
}

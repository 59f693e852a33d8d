//! The cloud's curve: a constant for each request, from what it is billed for prompts, cached prompts, answers and itself.
//!
//! Where the bill depends on what nobody meters, it is counted at worst: all of a prompt that the cache does not answer is
//! written into it, and all of an answer is reasoning, where those cost more.

use super::line::{Line, Range, Step};
use super::{ExactCost, SHARES};
use crate::snapshot::{ContextTier, DemandFigures, Price};
use crate::units::{MicroUsdPerMillionTokens, RequestsPerMonth, Tokens};

const WHOLE: u128 = 100;

/// How an external target's cost grows: by a constant for each request, linear in each listed price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenCurve {
    input: Part,
    output: Part,
    /// What is billed at other prices: the cached share, long prompts, and the request itself.
    rest: u128,
}

/// What of a request's cost depends on one listed price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    listed: MicroUsdPerMillionTokens,
    /// How often the listed price counts.
    weight: u128,
    /// How often the dearer of the listed price and another one counts, and that other one.
    at_least: (u128, MicroUsdPerMillionTokens),
}

impl Part {
    fn new(listed: MicroUsdPerMillionTokens) -> Self {
        Self {
            listed,
            weight: 0,
            at_least: (0, MicroUsdPerMillionTokens::MIN),
        }
    }

    /// Tokens that cost the listed price, or another one where that is dearer.
    fn count(&mut self, tokens: u128, dearer: Option<MicroUsdPerMillionTokens>) {
        match dearer {
            Some(dearer) => self.at_least = (tokens, dearer),
            None => self.weight += tokens,
        }
    }

    fn cost(&self) -> u128 {
        let (tokens, least) = self.at_least;
        self.weight * number(self.listed) + tokens * number(self.listed.max(least))
    }

    /// The price as it is listed now.
    pub(crate) fn listed(&self) -> MicroUsdPerMillionTokens {
        self.listed
    }

    fn counts(&self) -> bool {
        self.weight + self.at_least.0 > 0
    }
}

impl TokenCurve {
    /// `None` without a known token mix. The medians stand for the means. An unknown cached share is billed in full.
    pub(crate) fn new(price: &Price, figures: &DemandFigures) -> Option<Self> {
        let (input, output) = (figures.input_p50?, figures.output_p50?);
        let cached = figures
            .cached_input
            .map_or(0, |share| u128::from(share.get()));
        let request = Request {
            uncached: u128::from(input.get()) * (WHOLE - cached),
            cached: u128::from(input.get()) * cached,
            output: u128::from(output.get()) * WHOLE,
        };
        let shares = shares(&price.context_tiers, input, figures.input_p95);
        let short = WHOLE - shares.iter().sum::<u128>();
        let mut curve = request.billed(&base(price), short);
        let long = price.context_tiers.iter().zip(&shares);
        curve.rest += long
            .map(|(tier, share)| request.billed(tier, *share).per_request())
            .sum::<u128>();
        let fee = price.per_request.map_or(0, |fee| u128::from(fee.get()));
        curve.rest += fee * WHOLE * WHOLE * SHARES;
        Some(curve)
    }

    /// Exact cost of one request; it can be cut into the shares of the work.
    pub(crate) fn per_request(&self) -> u128 {
        self.rest + self.input.cost() + self.output.cost()
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

    /// What depends on the listed input price; the cached share does where it has no price of its own.
    pub(crate) fn input(&self) -> &Part {
        &self.input
    }

    /// What depends on the listed output price.
    pub(crate) fn output(&self) -> &Part {
        &self.output
    }

    /// Whether the output price weighs more than the input price in a request's cost.
    pub(crate) fn output_weighs_more(&self) -> bool {
        self.output.cost() >= self.input.cost() && self.output.counts()
    }

    /// A request's cost over the listed price of one part, in ranges over which it grows evenly.
    pub(crate) fn over(&self, part: &Part) -> Vec<(Range, Line)> {
        let most = i128::from(MicroUsdPerMillionTokens::MAX.get());
        let others = self.per_request() - part.cost();
        let (tokens, least) = part.at_least;
        let turn = i128::from(least.get());
        let below = Line::new(others + tokens * number(least), part.weight);
        let above = Line::new(others, part.weight + tokens);
        if tokens == 0 || turn == 0 {
            return vec![((0, most), above)];
        }
        vec![((0, turn), below), ((turn + 1, most), above)]
    }
}

/// The prices of short prompts, as those of long ones are stated.
fn base(price: &Price) -> ContextTier {
    ContextTier {
        above: Tokens::MIN,
        input: price.input,
        cached_input: price.cached_input,
        cache_write: price.cache_write,
        output: price.output,
        reasoning: price.reasoning,
    }
}

/// Tokens of a request in hundredths.
struct Request {
    uncached: u128,
    cached: u128,
    output: u128,
}

impl Request {
    /// A share of the requests at one set of prices. Where nothing is answered by a cache, nothing is written into one.
    fn billed(&self, prices: &ContextTier, share: u128) -> TokenCurve {
        let scale = share * SHARES;
        let mut input = Part::new(prices.input);
        let written = prices.cache_write.filter(|_| self.cached > 0);
        input.count(self.uncached * scale, written);
        let rest = match prices.cached_input {
            Some(cached) => self.cached * scale * number(cached),
            None => {
                input.count(self.cached * scale, None);
                0
            }
        };
        let mut output = Part::new(prices.output);
        output.count(self.output * scale, prices.reasoning);
        TokenCurve {
            input,
            output,
            rest,
        }
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

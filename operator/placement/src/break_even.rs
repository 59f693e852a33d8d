//! Where two cost curves cross: the break-even volume, and what would flip a decision. Derived, not searched.

use crate::cost::{EXACT_PER_MICRO, ExactCost, ReplicaCurve, SECONDS_PER_MONTH, Step, TokenCurve};
use crate::plan::{Comparison, FlipCondition, FlipQuantity};
use crate::policy::PlacementPolicy;
use crate::units::{MicroUsdPerMillionTokens, Percent, RequestsPerMonth};

/// Least requests per month at which the local curve costs no more than the external one.
pub(crate) fn break_even(local: &ReplicaCurve, external: &TokenCurve) -> Option<RequestsPerMonth> {
    let per_request = external.per_request();
    let first = local.steps().find_map(|step| {
        let meets = if step.cost == 0 {
            0
        } else {
            step.cost.checked_div(per_request)? + u128::from(step.cost % per_request > 0)
        };
        let volume = meets.max(step.fewest);
        (volume <= step.most).then_some(volume)
    })?;
    RequestsPerMonth::new(u64::try_from(first).ok()?).ok()
}

/// What a move must save: a share of the cost that is left, and enough to pay for the move in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hurdle {
    least: Percent,
    /// In micro-USD.
    requalification: u128,
    /// In seconds.
    pay_back: u128,
}

impl Hurdle {
    pub(crate) fn new(policy: &PlacementPolicy, other_model: bool) -> Self {
        let fee = u128::from(policy.switching.requalification.get());
        Self {
            least: policy.min_savings_percent,
            requalification: if other_model { fee } else { 0 },
            pay_back: u128::from(policy.switching.pay_back.get()).max(1),
        }
    }

    /// What the move costs once, in micro-USD.
    pub(crate) fn once(&self, warm_up: u128) -> u128 {
        self.requalification + warm_up
    }

    /// What must be saved in a month to pay back in time, in exact units; anything at all where nothing is to be paid.
    fn saving(&self, warm_up: u128) -> u128 {
        let micros = (self.once(warm_up) * SECONDS_PER_MONTH).div_ceil(self.pay_back);
        micros.saturating_mul(EXACT_PER_MICRO).max(1)
    }

    fn remaining(&self) -> u128 {
        100 - u128::from(self.least.get())
    }

    /// Whether the share that is asked for is saved by leaving a cost of `incumbent` for one of `rival`.
    pub(crate) fn saves_enough(&self, incumbent: u128, rival: u128) -> bool {
        rival < incumbent && rival * 100 <= incumbent * self.remaining()
    }

    /// Whether leaving `incumbent` for a rival of this cost and warm-up is worth a move.
    pub(crate) fn is_cleared(&self, incumbent: u128, (rival, warm_up): (u128, u128)) -> bool {
        self.saves_enough(incumbent, rival) && incumbent - rival >= self.saving(warm_up)
    }

    /// Highest cost of a rival without warm-up that is worth leaving `incumbent` for; `None` when not even a free one is.
    fn highest_rival(&self, incumbent: u128) -> Option<u128> {
        let paid_back = incumbent.checked_sub(self.saving(0))?;
        Some((incumbent * self.remaining() / 100).min(paid_back))
    }

    /// Lowest incumbent cost that is worth leaving for such a rival; `None` when none is.
    fn lowest_incumbent(&self, (rival, warm_up): (u128, u128)) -> Option<u128> {
        let remaining = self.remaining();
        let scaled = (rival * 100).checked_div(remaining)?;
        let inexact = !(rival * 100).is_multiple_of(remaining);
        let paid_back = rival.saturating_add(self.saving(warm_up));
        Some((scaled + u128::from(inexact)).max(paid_back))
    }
}

/// A threshold on requests per month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VolumeFlips {
    /// Strictly below this many.
    pub(crate) below: Option<u128>,
    /// Strictly above this many.
    pub(crate) above: Option<u128>,
}

/// The volumes nearest to `requests` at which a local incumbent is worth leaving for an external rival.
/// Within a step the local cost is constant and the external one grows, so a step's flipping part is its beginning.
pub(crate) fn leave_local(
    local: &ReplicaCurve,
    external: &TokenCurve,
    requests: RequestsPerMonth,
    hurdle: Hurdle,
) -> VolumeFlips {
    let here = u128::from(requests.get());
    let flips_up_to = |step: &Step| {
        let affordable = hurdle
            .highest_rival(step.cost)?
            .checked_div(external.per_request());
        let end = affordable.unwrap_or(u128::MAX).min(step.most);
        (end >= step.fewest).then_some(end)
    };
    let below = local
        .steps()
        .rev()
        .filter(|step| step.fewest < here)
        .find_map(|step| {
            flips_up_to(&step)
                .filter(|end| *end < here)
                .map(|end| end + 1)
        });
    let above = local
        .steps()
        .filter(|step| step.fewest > here)
        .find_map(|step| flips_up_to(&step).map(|_| step.fewest - 1));
    VolumeFlips { below, above }
}

/// The volumes nearest to `requests` at which an external incumbent is worth leaving for a local rival.
/// A step's flipping part is its end.
pub(crate) fn leave_external(
    external: &TokenCurve,
    local: &ReplicaCurve,
    requests: RequestsPerMonth,
    hurdle: Hurdle,
) -> VolumeFlips {
    let here = u128::from(requests.get());
    let flips_from = |step: &Step| {
        let needed = hurdle.lowest_incumbent((step.cost, step.warm_up))?;
        let per_request = external.per_request();
        let start = (needed.checked_div(per_request)? + u128::from(needed % per_request > 0))
            .max(step.fewest);
        (start <= step.most).then_some(start)
    };
    let below = local
        .steps()
        .rev()
        .filter(|step| step.most < here)
        .find_map(|step| flips_from(&step).map(|_| step.most + 1));
    let above = local
        .steps()
        .filter(|step| step.most > here)
        .find_map(|step| {
            flips_from(&step)
                .filter(|start| *start > here)
                .map(|start| start - 1)
        });
    VolumeFlips { below, above }
}

/// The component of a price that weighs most in a request's cost.
struct Component {
    quantity: fn(String) -> FlipQuantity,
    name: &'static str,
    /// How often it counts in a request's cost.
    weight: u128,
    /// The rest of a request's cost.
    rest: u128,
    now: MicroUsdPerMillionTokens,
}

fn component(curve: &TokenCurve) -> Component {
    let input_part = curve.per_request() - curve.per_request_without_input();
    let output_part = curve.per_request() - curve.per_request_without_output();
    if output_part >= input_part && curve.output_weight() > 0 {
        Component {
            quantity: FlipQuantity::OutputPrice,
            name: "output",
            weight: curve.output_weight(),
            rest: curve.per_request_without_output(),
            now: curve.price().output,
        }
    } else {
        Component {
            quantity: FlipQuantity::InputPrice,
            name: "input",
            weight: curve.input_weight(),
            rest: curve.per_request_without_input(),
            now: curve.price().input,
        }
    }
}

/// The price of an external rival below which an incumbent of cost `incumbent` is worth leaving for it.
pub(crate) fn rival_price(
    (name, rival): (&str, &TokenCurve),
    incumbent: ExactCost,
    requests: RequestsPerMonth,
    hurdle: Hurdle,
) -> Option<FlipCondition> {
    let part = component(rival);
    let per_request = hurdle
        .highest_rival(incumbent.0)?
        .checked_div(u128::from(requests.get()))?;
    let highest = per_request
        .checked_sub(part.rest)?
        .checked_div(part.weight)?;
    let threshold = u64::try_from(highest + 1).ok()?;
    (threshold <= part.now.get())
        .then(|| price_condition(&part, name, Comparison::Below, threshold, name))
}

/// The price of an external incumbent above which it is worth leaving for a rival of this cost and warm-up.
pub(crate) fn incumbent_price(
    (name, incumbent): (&str, &TokenCurve),
    (to, rival): (&str, (ExactCost, u128)),
    requests: RequestsPerMonth,
    hurdle: Hurdle,
) -> Option<FlipCondition> {
    let part = component(incumbent);
    let requests = u128::from(requests.get());
    if requests == 0 || part.weight == 0 {
        return None;
    }
    let per_request = hurdle
        .lowest_incumbent((rival.0.0, rival.1))?
        .div_ceil(requests);
    let lowest = per_request.checked_sub(part.rest)?.div_ceil(part.weight);
    let threshold = u64::try_from(lowest.checked_sub(1)?).ok()?;
    let possible = threshold >= part.now.get() && threshold < MicroUsdPerMillionTokens::MAX.get();
    possible.then(|| price_condition(&part, name, Comparison::Above, threshold, to))
}

fn price_condition(
    part: &Component,
    of: &str,
    comparison: Comparison,
    threshold: u64,
    to: &str,
) -> FlipCondition {
    let sign = sign(comparison);
    let dollars = MicroUsdPerMillionTokens::clamped(threshold.into()).to_decimal();
    FlipCondition {
        quantity: (part.quantity)(of.to_owned()),
        comparison,
        threshold,
        to: to.to_owned(),
        text: format!("{of} {} price {sign} {dollars} per 1M", part.name),
    }
}

/// A condition on volume; `None` when the threshold is beyond any volume.
pub(crate) fn volume_condition(
    comparison: Comparison,
    threshold: u128,
    to: &str,
) -> Option<FlipCondition> {
    let threshold = u64::try_from(threshold).ok()?;
    if threshold >= RequestsPerMonth::MAX.get() {
        return None;
    }
    Some(FlipCondition {
        quantity: FlipQuantity::RequestsPerMonth,
        comparison,
        threshold,
        to: to.to_owned(),
        text: format!("requestsPerMonth {} {threshold}", sign(comparison)),
    })
}

fn sign(comparison: Comparison) -> char {
    match comparison {
        Comparison::Below => '<',
        Comparison::Above => '>',
    }
}

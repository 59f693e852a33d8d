//! What would make another target worth a move: volumes and prices, each derived from where two cost curves are as far
//! apart as a move asks for.

use crate::candidate::{Curve, Evaluated, taker};
use crate::choose::View;
use crate::cost::{Line, Range, Step, TokenCurve};
use crate::hurdle::Hurdle;
use crate::plan::{Comparison, FlipCondition, FlipQuantity};
use crate::units::{MicroUsdPerMillionTokens, RequestsPerMonth};

/// Conditions under which the target at `at` is worth leaving for another that it is not worth leaving for now.
pub(crate) fn flip_conditions(view: View<'_>, at: usize) -> Vec<FlipCondition> {
    let chosen = &view.evaluated[at];
    let (Some(requests), Some(_)) = (view.demand.figures.requests_per_month, chosen.exact) else {
        return Vec::new();
    };
    let others = view.evaluated.iter().enumerate();
    let rivals = others
        .filter(|(other, evaluated)| *other != at && evaluated.feasible())
        .map(|(_, evaluated)| evaluated)
        .filter(|evaluated| !chosen.is_worth_leaving_for(evaluated, view.policy));
    let flips = Flips {
        view,
        requests,
        chosen,
        rivals: rivals.collect(),
    };
    let mut conditions = flips.of_volume();
    // What others ask comes first, then what the chosen one asks.
    let priced = |own: bool| {
        let all = view.evaluated.iter().enumerate();
        all.filter(move |(other, _)| (*other == at) == own)
    };
    for (_, external) in priced(false).chain(priced(true)) {
        if let Some(Curve::External(curve)) = &external.curve {
            conditions.extend(flips.of_price(external, curve));
        }
    }
    conditions
}

struct Flips<'a> {
    view: View<'a>,
    requests: RequestsPerMonth,
    chosen: &'a Evaluated,
    rivals: Vec<&'a Evaluated>,
}

/// A threshold just beyond which another target is worth a move.
struct Threshold<'a> {
    side: Comparison,
    at: u64,
    to: &'a str,
}

impl<'a> Flips<'a> {
    fn of_volume(&self) -> Vec<FlipCondition> {
        let thresholds = self.thresholds(self.requests.get(), over_volume);
        let possible = thresholds.filter(|it| it.at < RequestsPerMonth::MAX.get());
        let condition = |Threshold { side, at, to }: Threshold<'_>| FlipCondition {
            quantity: FlipQuantity::RequestsPerMonth,
            comparison: side,
            threshold: at,
            to: to.to_owned(),
            text: format!("requestsPerMonth {} {at}", sign(side)),
        };
        possible.map(condition).collect()
    }

    /// What the component of an external target's price flips that weighs most in a request's cost.
    fn of_price(&self, external: &Evaluated, curve: &TokenCurve) -> Vec<FlipCondition> {
        let (of, part) = (external.name(), Component::of(curve));
        let over = |target: &Evaluated| self.over_price(target, external, &part);
        let condition = |Threshold { side, at, to }: Threshold<'_>| {
            let dollars = MicroUsdPerMillionTokens::clamped(at.into()).to_decimal();
            FlipCondition {
                quantity: (part.quantity)(of.to_owned()),
                comparison: side,
                threshold: at,
                to: to.to_owned(),
                text: format!("{of} {} price {} {dollars} per 1M", part.name, sign(side)),
            }
        };
        let thresholds = self.thresholds(part.now.get(), over);
        thresholds.map(condition).collect()
    }

    /// The nearest threshold on each side of `here`, from what targets cost `over` something; of several flips at one
    /// place the one to the target that is cheapest there.
    fn thresholds(
        &self,
        here: u64,
        over: impl Fn(&Evaluated) -> Vec<Step>,
    ) -> impl Iterator<Item = Threshold<'a>> {
        let here = i128::from(here);
        let own = over(self.chosen);
        let rivals: Vec<_> = self.rivals.iter().map(|it| (*it, over(it))).collect();
        let nearest_on = |side| {
            let flips = rivals.iter().filter_map(|(rival, steps)| {
                let hurdle = self.chosen.hurdle(rival, self.view.policy);
                let (flip, cost) = nearest(&own, steps, here, side, hurdle)?;
                Some((here.abs_diff(flip), cost, flip, rival.name()))
            });
            let (.., flip, to) = flips.min_by_key(|(distance, cost, ..)| (*distance, *cost))?;
            let before = match side {
                Comparison::Below => flip + 1,
                Comparison::Above => flip - 1,
            };
            let at = u64::try_from(before).ok()?;
            Some(Threshold { side, at, to })
        };
        let sides = [Comparison::Below, Comparison::Above];
        sides.map(nearest_on).into_iter().flatten()
    }

    /// What `target` costs over a component of the price of `external`, which may be its own or that of its overflow.
    fn over_price(&self, target: &Evaluated, external: &Evaluated, part: &Component) -> Vec<Step> {
        let range = (0, MicroUsdPerMillionTokens::MAX.get().into());
        let taker = taker(self.view.evaluated);
        let takes = taker.is_some_and(|taker| taker.name() == external.name());
        let evenly = |(range, cost): (Range, Line)| Step {
            range,
            cost,
            warm_up: target.warm_up,
        };
        let pieces = || part.request.iter().copied();
        match (&target.curve, target.exact) {
            (Some(Curve::External(_)), _) if target.name() == external.name() => {
                let requests = self.requests.get().into();
                let of_all = |(range, request): (Range, Line)| (range, request.times(requests));
                pieces().map(of_all).map(evenly).collect()
            }
            (Some(Curve::Mixed(mix)), _) if takes => {
                let steps = |(range, request)| mix.steps_of_price(self.requests, request, range);
                pieces().flat_map(steps).collect()
            }
            (_, Some(exact)) => vec![evenly((range, Line::constant(exact.0)))],
            (_, None) => Vec::new(),
        }
    }
}

/// What a target costs over requests per month.
fn over_volume(target: &Evaluated) -> Vec<Step> {
    let curve = target.curve.iter();
    curve.flat_map(Curve::steps).collect()
}

/// The nearest number on one side of `here` at which leaving `own` for `rival` is worth a move, and what `rival` costs there.
fn nearest(
    own: &[Step],
    rival: &[Step],
    here: i128,
    side: Comparison,
    hurdle: Hurdle,
) -> Option<(i128, i128)> {
    let cleared = |(range, own, rival): (Range, &Step, &Step)| {
        let (first, last) = match side {
            Comparison::Below => (range.0, range.1.min(here - 1)),
            Comparison::Above => (range.0.max(here + 1), range.1),
        };
        let range = (first <= last).then_some((first, last))?;
        let (first, last) = hurdle.cleared_in(range, own.cost, (rival.cost, rival.warm_up))?;
        let at = match side {
            Comparison::Below => last,
            Comparison::Above => first,
        };
        Some((at, rival.cost.value(at)))
    };
    let mut both = overlaps(own, rival).into_iter();
    match side {
        Comparison::Below => both.rev().find_map(cleared),
        Comparison::Above => both.find_map(cleared),
    }
}

/// Where a step of one and a step of the other hold, in rising order as both are.
fn overlaps<'a>(one: &'a [Step], other: &'a [Step]) -> Vec<(Range, &'a Step, &'a Step)> {
    let (mut both, mut at, mut beside) = (Vec::new(), 0, 0);
    while let (Some(a), Some(b)) = (one.get(at), other.get(beside)) {
        let range = (a.range.0.max(b.range.0), a.range.1.min(b.range.1));
        if range.0 <= range.1 {
            both.push((range, a, b));
        }
        if a.range.1 <= b.range.1 {
            at += 1;
        } else {
            beside += 1;
        }
    }
    both
}

/// The component of a price that weighs most in a request's cost.
struct Component {
    quantity: fn(String) -> FlipQuantity,
    name: &'static str,
    /// A request's cost over this component, in ranges over which it grows evenly.
    request: Vec<(Range, Line)>,
    now: MicroUsdPerMillionTokens,
}

impl Component {
    fn of(curve: &TokenCurve) -> Self {
        let (quantity, name, part): (fn(String) -> FlipQuantity, _, _) =
            if curve.output_weighs_more() {
                (FlipQuantity::OutputPrice, "output", curve.output())
            } else {
                (FlipQuantity::InputPrice, "input", curve.input())
            };
        Self {
            quantity,
            name,
            request: curve.over(part),
            now: part.listed(),
        }
    }
}

fn sign(comparison: Comparison) -> char {
    match comparison {
        Comparison::Below => '<',
        Comparison::Above => '>',
    }
}

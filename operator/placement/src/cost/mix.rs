//! A local target's curve where the cloud takes what its replicas do not: rent for so many replicas, and the cloud's price for
//! the rest. Of all numbers of replicas the cheapest counts.
//!
//! At a given volume the rent grows with each replica by no less than with the one before, and what a replica takes off the
//! cloud's bill shrinks; both follow from idle devices being used first and from hours being filled from below. So the
//! cheapest number of replicas is the least that the next one does not pay for itself after, it grows with volume and with
//! the cloud's price, and where it changes follows from where the two are equal.

use super::line::{Line, Range, Step, whole};
use super::{ExactCost, ReplicaCurve};
use crate::snapshot::LoadCurve;
use crate::units::{Percent, RequestsPerMonth};

const SHARES: usize = LoadCurve::SHARES;
const MOST_REQUESTS: u128 = RequestsPerMonth::MAX.get() as u128;

/// Replicas of a local target for the base of the work, and an external target for the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mix {
    replicas: ReplicaCurve,
    /// For each share of the work the most requests a month at which one replica carries all of it; the least first.
    knees: [u128; SHARES],
    /// What the external target takes for one share of a request, in exact units.
    price: u128,
}

/// The cheapest number of replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) replicas: u32,
    /// Whether more replicas than the target may have, or than there is room for, would pay for themselves.
    pub(crate) limited: bool,
}

impl Mix {
    /// `price` is what the external target takes for a request, and for what there is no room for as well. `None` when what a replica carries is unknown or unbounded.
    pub(crate) fn new(replicas: ReplicaCurve, load: &LoadCurve, price: u128) -> Option<Self> {
        let replicas = replicas.limited();
        let mut knees = [0; SHARES];
        let busiest_first = load.loads().iter().rev();
        for (knee, load) in knees.iter_mut().zip(busiest_first) {
            *knee = replicas.one_carries(load.get())?;
        }
        Some(Self {
            replicas,
            knees,
            price: price / SHARES as u128,
        })
    }

    pub(crate) fn curve(&self) -> &ReplicaCurve {
        &self.replicas
    }

    /// The cheapest number of replicas, the least among equals.
    pub(crate) fn base(&self, requests: RequestsPerMonth) -> Base {
        let pays = |replicas: u32| {
            let taken = self.overflow(replicas, requests) - self.overflow(replicas + 1, requests);
            taken.saturating_mul(self.price) > self.next_costs(replicas)
        };
        let (mut least, mut most) = (self.replicas.min, self.replicas.max);
        while least < most {
            let middle = least + (most - least) / 2;
            if pays(middle) {
                least = middle + 1;
            } else {
                most = middle;
            }
        }
        Base {
            replicas: least,
            limited: least == self.replicas.max && pays(least),
        }
    }

    /// What so many replicas cost, and the external target for what they leave.
    pub(crate) fn cost(&self, replicas: u32, requests: RequestsPerMonth) -> ExactCost {
        let bill = self.overflow(replicas, requests).saturating_mul(self.price);
        let cost = self.replicas.rent(replicas).saturating_add(bill);
        ExactCost(cost).min(ExactCost::MOST)
    }

    /// The share of the work that so many replicas leave to the external target, and what it takes for it; `None` when
    /// they leave nothing.
    pub(crate) fn overflow_of(
        &self,
        replicas: u32,
        requests: RequestsPerMonth,
    ) -> Option<(Percent, ExactCost)> {
        let overflow = self.overflow(replicas, requests);
        let whole = u128::from(requests.get()) * SHARES as u128;
        let percent = (overflow * 100 + whole / 2).checked_div(whole)?;
        let bill = ExactCost(overflow.saturating_mul(self.price)).min(ExactCost::MOST);
        (overflow > 0).then_some((Percent::clamped(percent), bill))
    }

    /// What so many replicas leave to the external target, in shares of a request.
    fn overflow(&self, replicas: u32, requests: RequestsPerMonth) -> u128 {
        let requests = u128::from(requests.get());
        let left = |knee: &u128| requests.saturating_sub(knee.saturating_mul(replicas.into()));
        self.knees.iter().map(left).sum()
    }

    /// What one more replica costs.
    fn next_costs(&self, replicas: u32) -> u128 {
        self.replicas.rent(replicas + 1) - self.replicas.rent(replicas)
    }

    /// The most requests a month for which no more than `replicas` pay for themselves; `None` when that is so for any.
    ///
    /// What the next replica takes over grows with volume from where these are full in the busiest share's hours to where
    /// it is full itself in the quietest's, evenly between the places where a share begins or ends to fill it.
    fn enough_up_to(&self, replicas: u32) -> Option<u128> {
        let affordable = self.next_costs(replicas).checked_div(self.price)?;
        if self.knees.iter().sum::<u128>() <= affordable {
            return None;
        }
        let at = |replicas: u32, change: i8| {
            let begin = move |knee: &u128| (knee.saturating_mul(replicas.into()), change);
            self.knees.iter().map(begin)
        };
        let mut turns: Vec<(u128, i8)> = at(replicas, 1).chain(at(replicas + 1, -1)).collect();
        turns.sort_unstable();
        let (mut taken, mut filling, mut here) = (0_u128, 0_i8, 0_u128);
        for (turn, change) in turns {
            let rate = u128::try_from(filling).unwrap_or(0);
            let then = taken.saturating_add(rate.saturating_mul(turn - here));
            if then > affordable {
                return Some(here + (affordable - taken) / rate);
            }
            (taken, here, filling) = (then, turn, filling + change);
        }
        None
    }

    /// The steps from the fewest replicas on, over requests per month: for each number of replicas those volumes for which it
    /// is the cheapest, apart where a further share begins to overflow.
    pub(crate) fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        let replicas = self.replicas.min..=self.replicas.max;
        let of_each = replicas.scan(Some(0), move |next, replicas| {
            let fewest = next.filter(|fewest| *fewest <= MOST_REQUESTS)?;
            let enough = self.enough_up_to(replicas);
            let most = enough
                .filter(|_| replicas < self.replicas.max)
                .unwrap_or(u128::MAX);
            *next = most.checked_add(1);
            Some(self.steps_of(replicas, (fewest, most)))
        });
        of_each.flatten()
    }

    fn steps_of(&self, replicas: u32, (fewest, most): (u128, u128)) -> Vec<Step> {
        let full = |knee: &u128| knee.saturating_mul(replicas.into());
        let rent = Line::constant(self.replicas.rent(replicas));
        let warm_up = self.replicas.warm_up(replicas);
        let (mut steps, mut from, mut carried, mut shares) = (Vec::new(), fewest, 0_u128, 0_u128);
        for until in self.knees.iter().map(full).chain([u128::MAX]) {
            let to = until.min(most);
            if from <= to {
                let overflow = Line::new(0, shares).minus(Line::constant(carried));
                steps.push(Step {
                    range: (whole(from), whole(to)),
                    cost: rent.plus(overflow.times(whole(self.price))),
                    warm_up,
                });
                from = to.saturating_add(1);
            }
            if until >= most {
                break;
            }
            carried = carried.saturating_add(until);
            shares += 1;
        }
        steps
    }

    /// The steps over a price on which what the external target takes for a request depends as `listed` says, at a volume.
    pub(crate) fn steps_of_price(
        &self,
        requests: RequestsPerMonth,
        listed: Line,
        (first, last): Range,
    ) -> Vec<Step> {
        let listed = listed.part(SHARES as i128);
        let mut steps = Vec::new();
        let mut from = first;
        for replicas in self.replicas.min..=self.replicas.max {
            let overflow = self.overflow(replicas, requests);
            let taken = overflow - self.overflow(replicas + 1, requests);
            let enough = if taken == 0 || replicas == self.replicas.max {
                Some((from, last))
            } else {
                let affordable = Line::constant(self.next_costs(replicas) / taken);
                affordable.minus(listed).not_negative((from, last))
            };
            let Some((_, to)) = enough else { continue };
            let bill = listed.times(whole(overflow));
            steps.push(Step {
                range: (from, to),
                cost: Line::constant(self.replicas.rent(replicas)).plus(bill),
                warm_up: self.replicas.warm_up(replicas),
            });
            from = to + 1;
            if from > last {
                break;
            }
        }
        steps
    }
}

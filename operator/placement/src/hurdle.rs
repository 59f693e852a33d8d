//! What a move must save.

use crate::cost::{EXACT_PER_MICRO, Line, Range, SECONDS_PER_MONTH};
use crate::policy::PlacementPolicy;
use crate::units::Percent;

/// A share of the cost that is left, and enough to pay for the move in time.
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

    /// The part of a range over which leaving `incumbent` for such a rival is worth a move.
    pub(crate) fn cleared_in(
        &self,
        range: Range,
        incumbent: Line,
        (rival, warm_up): (Line, u128),
    ) -> Option<Range> {
        let remaining = i128::try_from(self.remaining()).unwrap_or(100);
        let share = incumbent.times(remaining).minus(rival.times(100));
        let pay_back = incumbent
            .minus(rival)
            .minus(Line::constant(self.saving(warm_up)));
        pay_back.not_negative(share.not_negative(range)?)
    }
}

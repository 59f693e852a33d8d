//! Costs that grow evenly over a range.

/// From the first to the last number of a range, both in it.
pub(crate) type Range = (i128, i128);

/// `at + slope · z` for whole `z`, in exact units. What exceeds the integer stands at its end: such costs are beyond any
/// that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) at: i128,
    pub(crate) slope: i128,
}

impl Line {
    pub(crate) fn new(at: u128, slope: u128) -> Self {
        Self {
            at: whole(at),
            slope: whole(slope),
        }
    }

    pub(crate) fn constant(at: u128) -> Self {
        Self::new(at, 0)
    }

    pub(crate) fn value(self, z: i128) -> i128 {
        self.at.saturating_add(self.slope.saturating_mul(z))
    }

    #[must_use]
    pub(crate) fn times(self, factor: i128) -> Self {
        Self {
            at: self.at.saturating_mul(factor),
            slope: self.slope.saturating_mul(factor),
        }
    }

    /// One of so many equal parts that it can be cut into.
    #[must_use]
    pub(crate) fn part(self, parts: i128) -> Self {
        Self {
            at: self.at / parts,
            slope: self.slope / parts,
        }
    }

    #[must_use]
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            at: self.at.saturating_add(other.at),
            slope: self.slope.saturating_add(other.slope),
        }
    }

    #[must_use]
    pub(crate) fn minus(self, other: Self) -> Self {
        self.plus(other.times(-1))
    }

    /// The part of a range in which the line is not negative; `None` where it is nowhere.
    pub(crate) fn not_negative(self, (first, last): Range) -> Option<Range> {
        let (first, last) = match self.slope {
            0 if self.at < 0 => return None,
            0 => (first, last),
            rises if rises > 0 => {
                let needed = self.at.saturating_neg();
                let root = needed.div_euclid(rises) + i128::from(needed.rem_euclid(rises) > 0);
                (first.max(root), last)
            }
            falls => (first, last.min(self.at.div_euclid(falls.saturating_neg()))),
        };
        (first <= last).then_some((first, last))
    }
}

/// A range over which a local target keeps so many replicas and its cost grows evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) range: Range,
    pub(crate) cost: Line,
    /// What its replicas cost before they serve, in micro-USD.
    pub(crate) warm_up: u128,
}

/// As a signed number; what is larger is larger than any cost.
pub(crate) fn whole(number: u128) -> i128 {
    i128::try_from(number).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_part_that_is_not_negative_is_found_exactly(
            at in -50..50_i128, slope in -6..=6_i128, first in -20..20_i128, length in 0..40_i128
        ) {
            let line = Line { at, slope };
            let last = first + length;
            let holds: Vec<i128> = (first..=last).filter(|z| at + slope * z >= 0).collect();
            let ends = holds.first().zip(holds.last()).map(|(first, last)| (*first, *last));
            prop_assert_eq!(line.not_negative((first, last)), ends);
        }
    }
}

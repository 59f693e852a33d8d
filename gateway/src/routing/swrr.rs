//! Smooth weighted round robin: the exact shares of the weights, as evenly spread as they can be.

/// The state of a rotation. The algorithm is nginx's (`ngx_http_upstream_get_peer`): each pick adds every weight to
/// its entry's credit, takes the largest credit and subtracts the sum of the weights from it.
#[derive(Debug, Default)]
pub(crate) struct Rotation {
    weights: Vec<u32>,
    credits: Vec<i64>,
}

impl Rotation {
    /// The index whose turn it is; `None` when every weight is 0. Other weights than last time begin anew.
    pub(crate) fn pick(&mut self, weights: impl Iterator<Item = u32> + Clone) -> Option<usize> {
        if !weights.clone().eq(self.weights.iter().copied()) {
            self.weights = weights.collect();
            self.credits = vec![0; self.weights.len()];
        }
        let total: i64 = self.weights.iter().map(|weight| i64::from(*weight)).sum();
        for (credit, weight) in self.credits.iter_mut().zip(&self.weights) {
            *credit += i64::from(*weight);
        }
        let mut best: Option<usize> = None;
        for (index, weight) in self.weights.iter().enumerate() {
            if *weight > 0 && best.is_none_or(|best| self.credits[index] > self.credits[best]) {
                best = Some(index);
            }
        }
        self.credits[best?] -= total;
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shares_are_exact_over_one_round() {
        let mut rotation = Rotation::default();
        let picks: Vec<_> = (0..10)
            .filter_map(|_| rotation.pick([7, 0, 3].into_iter()))
            .collect();
        assert_eq!(picks.iter().filter(|pick| **pick == 0).count(), 7);
        assert_eq!(picks.iter().filter(|pick| **pick == 2).count(), 3);
        assert_eq!(&picks[..4], [0, 2, 0, 0]);
    }

    #[test]
    fn nothing_is_picked_without_a_weight() {
        assert_eq!(Rotation::default().pick([0, 0].into_iter()), None);
        assert_eq!(Rotation::default().pick(std::iter::empty()), None);
    }

    proptest! {
        #[test]
        fn a_target_never_strays_from_its_share_by_more_than_the_number_of_targets(
            weights in prop::collection::vec(0u32..=100, 1..6), picks in 1usize..300,
        ) {
            let total: u32 = weights.iter().sum();
            prop_assume!(total > 0);
            let mut rotation = Rotation::default();
            let mut counts = vec![0u32; weights.len()];
            for _ in 0..picks {
                counts[rotation.pick(weights.iter().copied()).expect("a weight")] += 1;
            }
            for (count, weight) in counts.iter().zip(&weights) {
                let fair = f64::from(*weight) * picks as f64 / f64::from(total);
                prop_assert!((f64::from(*count) - fair).abs() <= weights.len() as f64);
                prop_assert!(*weight > 0 || *count == 0);
            }
        }
    }
}

//! A ridge regression of demand's change on a few signals, with forgetting: recursive least squares in normal form.
//! (Haykin, Adaptive Filter Theory, ch. 10; the ridge is renewed as old observations are forgotten, so it never fades.)

use serde::{Deserialize, Serialize};

/// Signals of a change.
pub(super) const SIGNALS: usize = 5;

/// One value a signal, in replicas.
pub(super) type Signals = [f64; SIGNALS];

/// Sums that determine the coefficients.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Regression {
    /// Σ signal · signal, without the ridge.
    gram: [Signals; SIGNALS],
    /// Σ signal · change.
    moment: Signals,
}

impl Regression {
    pub(super) fn observe(&mut self, signals: &Signals, change: f64, retention: f64) {
        for (row, a) in signals.iter().enumerate() {
            for (column, b) in signals.iter().enumerate() {
                self.gram[row][column] = self.gram[row][column] * retention + a * b;
            }
            self.moment[row] = self.moment[row] * retention + a * change;
        }
    }

    /// The change that these signals announce; `None` where arithmetic gives out.
    pub(super) fn change(&self, signals: &Signals, ridge: f64) -> Option<f64> {
        let coefficients = self.coefficients(ridge)?;
        let change: f64 = coefficients.iter().zip(signals).map(|(c, s)| c * s).sum();
        change.is_finite().then_some(change)
    }

    /// Cholesky: the sums plus a positive ridge are positive definite.
    fn coefficients(&self, ridge: f64) -> Option<Signals> {
        let mut lower = [[0.0; SIGNALS]; SIGNALS];
        for row in 0..SIGNALS {
            for column in 0..=row {
                let known: f64 = (0..column).map(|k| lower[row][k] * lower[column][k]).sum();
                let rest = self.gram[row][column] - known;
                if row == column {
                    let pivot = rest + ridge;
                    if !(pivot.is_finite() && pivot > 0.0) {
                        return None;
                    }
                    lower[row][row] = pivot.sqrt();
                } else {
                    lower[row][column] = rest / lower[column][column];
                }
            }
        }
        let mut half = [0.0; SIGNALS];
        for row in 0..SIGNALS {
            let known: f64 = (0..row).map(|k| lower[row][k] * half[k]).sum();
            half[row] = (self.moment[row] - known) / lower[row][row];
        }
        let mut coefficients = [0.0; SIGNALS];
        for row in (0..SIGNALS).rev() {
            let known: f64 = (row + 1..SIGNALS)
                .map(|k| lower[k][row] * coefficients[k])
                .sum();
            coefficients[row] = (half[row] - known) / lower[row][row];
        }
        Some(coefficients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_observed_announces_no_change() {
        let change = Regression::default().change(&[1.0; SIGNALS], 1.0);
        assert_eq!(change, Some(0.0));
    }

    #[test]
    fn a_linear_law_is_found() {
        let mut regression = Regression::default();
        let law = [0.5, -0.25, 0.0, 1.0, 0.125];
        let mut signals = [0.3, 0.1, 0.7, 0.2, 0.9];
        for step in 0..400 {
            for (index, signal) in signals.iter_mut().enumerate() {
                *signal = (*signal * 1.7 + 0.31 * (index + step % 7) as f64).fract();
            }
            let change: f64 = law.iter().zip(&signals).map(|(c, s)| c * s).sum();
            regression.observe(&signals, change, 1.0);
        }
        let found = regression.coefficients(1e-6);
        let close = |found: Signals| found.iter().zip(&law).all(|(f, l)| (f - l).abs() < 1e-4);
        assert!(found.is_some_and(close), "{found:?}");
    }

    #[test]
    fn what_cannot_be_solved_announces_nothing() {
        let mut regression = Regression::default();
        regression.observe(&[f64::MAX; SIGNALS], 1.0, 1.0);
        assert_eq!(regression.change(&[1.0; SIGNALS], 1.0), None);
    }
}

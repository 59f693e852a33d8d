//! What holding a replica for the next hour is worth, when GPU-hours have prices and entering costs part of an hour.
//!
//! Each replica is a chain of two states, held or not. With savings `f[h]` and prices `p[h]` the advantage of being held
//! after hour `h` over not being held is `a[h] = clamp(f[h] - p[h] + a[h + 1], 0, w f[h])`: a held replica can be let go
//! for nothing, and one that is not held can enter for `w f[h]`. Prices decouple the replicas, as in Whittle's index
//! ("Restless bandits", J. Appl. Probab. 25A, 1988).

use super::experts::HORIZON;

/// Savings or prices of the hours ahead, in dollars.
pub(super) type Path = [f64; HORIZON];

/// The price of a GPU-hour: what the best replica that finds no GPU would save, hour by hour.
pub(super) fn prices(forecasts: &[Path], gpus: usize) -> Path {
    let mut prices = [0.0; HORIZON];
    if gpus >= forecasts.len() {
        return prices;
    }
    let mut hour: Vec<f64> = Vec::with_capacity(forecasts.len());
    for (ahead, price) in prices.iter_mut().enumerate() {
        hour.clear();
        hour.extend(forecasts.iter().map(|forecast| forecast[ahead]));
        let descending = |a: &f64, b: &f64| b.total_cmp(a);
        *price = *hour.select_nth_unstable_by(gpus, descending).1;
    }
    prices
}

/// Dollars by which holding the replica in the first hour beats not holding it. Grows with any hour's forecast.
pub(super) fn index(forecast: &Path, prices: &Path, warm_hours: f64, held: bool) -> f64 {
    let ahead = (1..HORIZON).rev().fold(0.0, |advantage: f64, hour| {
        let entry = warm_hours * forecast[hour];
        (forecast[hour] - prices[hour] + advantage).clamp(0.0, entry)
    });
    let entry = if held { 0.0 } else { warm_hours * forecast[0] };
    forecast[0] - prices[0] + ahead - entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_price_is_the_first_saving_that_finds_no_gpu() {
        let forecasts: Vec<Path> = [5.0, 1.0, 3.0].map(|saving| [saving; HORIZON]).to_vec();
        assert_eq!(prices(&forecasts, 2), [1.0; HORIZON]);
        assert_eq!(prices(&forecasts, 3), [0.0; HORIZON]);
    }

    #[test]
    fn a_short_gain_does_not_pay_for_entering() {
        let mut forecast = [0.0; HORIZON];
        forecast[0] = 4.0;
        let prices = [3.0; HORIZON];
        assert_eq!(index(&forecast, &prices, 0.5, true), 1.0);
        assert_eq!(index(&forecast, &prices, 0.5, false), -1.0);
    }

    #[test]
    fn what_will_be_needed_again_is_kept_through_a_pause_that_costs_less_than_entering() {
        let mut forecast = [4.0; HORIZON];
        forecast[0] = 0.0;
        let prices = [1.0; HORIZON];
        assert_eq!(index(&forecast, &prices, 0.5, true), 1.0);
    }
}

//! Cheap point forecasts of one replica's hourly savings. None is good everywhere; `learned` weighs them by their errors.

/// How many forecasts there are.
pub(super) const EXPERTS: usize = 10;

/// Hours ahead that are forecast, the hour to be decided first.
pub(super) const HORIZON: usize = 12;

/// Share by which a deviation from the season fades with every hour ahead.
const SEASONAL_PERSISTENCE: f64 = 0.85;

/// The same for deviations of the last hour from the recent level: a burst, and a slower wave.
const LEVEL_PERSISTENCE: [f64; 2] = [0.7, 0.9];

/// Share of the last hour's change that goes on into the next, and of that into the one after it.
const CHANGE_SHARE: f64 = 0.5;

/// Days that the season looks back, and by how much a day weighs less than the next.
const SEASON_DAYS: usize = 7;
const SEASON_DAY_WEIGHT: f64 = 0.8;

const DAY: usize = 24;
const WEEK: usize = 7 * DAY;

/// Forecasts of the hours that follow a history.
pub(super) struct Experts<'a> {
    history: &'a [Option<f64>],
    last: f64,
    change: f64,
    fast: f64,
    slow: f64,
    mean: f64,
    season_now: Option<f64>,
}

impl<'a> Experts<'a> {
    /// Prepares forecasts from hourly values, the oldest first; `None` when no value is known.
    pub(super) fn new(history: &'a [Option<f64>]) -> Option<Self> {
        let last = history.iter().rev().find_map(|value| *value)?;
        let before = history.iter().rev().nth(1).copied().flatten();
        let level = |rate, hours| smoothed(history, rate, hours).unwrap_or(last);
        let season_now = (history.len() > DAY)
            .then(|| season(history, history.len() - 1))
            .flatten();
        Some(Self {
            history,
            last,
            change: before.map_or(0.0, |before| last - before),
            fast: level(0.4, DAY),
            slow: level(0.1, 3 * DAY),
            mean: level(0.0, WEEK),
            season_now,
        })
    }

    /// What each expert says of the hour `ahead` hours after the first unknown one.
    pub(super) fn forecast(&self, ahead: usize) -> [f64; EXPERTS] {
        let hour = self.history.len() + ahead;
        let fade = |persistence: f64| (0..=ahead).fold(1.0, |product, _| product * persistence);
        let yesterday = hour.checked_sub(DAY).and_then(|hour| self.history[hour]);
        let season = season(self.history, hour).unwrap_or(self.slow);
        let adjusted = self.season_now.map_or(season, |now| {
            (season + (self.fast - now) * fade(SEASONAL_PERSISTENCE)).max(0.0)
        });
        let reverting = |persistence| self.slow + (self.last - self.slow) * fade(persistence);
        [
            self.last,
            (self.last + self.change * fade(CHANGE_SHARE)).max(0.0),
            self.fast,
            self.slow,
            self.mean,
            yesterday.unwrap_or(self.slow),
            season,
            adjusted,
            reverting(LEVEL_PERSISTENCE[0]),
            reverting(LEVEL_PERSISTENCE[1]),
        ]
    }
}

/// Mean of the known ones of the last `hours`, where an hour weighs `1 - rate` of the next.
fn smoothed(history: &[Option<f64>], rate: f64, hours: usize) -> Option<f64> {
    let (mut sum, mut total, mut weight) = (0.0, 0.0, 1.0);
    for value in history.iter().rev().take(hours) {
        if let Some(value) = value {
            sum += weight * value;
            total += weight;
        }
        weight *= 1.0 - rate;
    }
    (total > 0.0).then(|| sum / total)
}

/// Mean of the same hour of earlier days and, at half the weight, of its neighbours; recent days weigh more.
fn season(history: &[Option<f64>], hour: usize) -> Option<f64> {
    let (mut sum, mut total, mut day_weight) = (0.0, 0.0, 1.0);
    for day in 1..=SEASON_DAYS {
        for (neighbour, share) in [(1, 1.0), (0, 0.5), (2, 0.5)] {
            let at = (hour + neighbour).checked_sub(day * DAY + 1);
            if let Some(Some(value)) = at.and_then(|at| history.get(at)) {
                sum += day_weight * share * value;
                total += day_weight * share;
            }
        }
        day_weight *= SEASON_DAY_WEIGHT;
    }
    (total > 0.0).then(|| sum / total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forecast(history: &[Option<f64>], ahead: usize) -> Option<[f64; EXPERTS]> {
        Experts::new(history).map(|experts| experts.forecast(ahead))
    }

    #[test]
    fn nothing_known_is_no_forecast() {
        assert_eq!(forecast(&[None, None], 0), None);
    }

    #[test]
    fn what_never_changed_is_forecast_to_stay_by_every_expert() {
        let history = vec![Some(3.0); 100];
        for ahead in [0, 11] {
            let far = |said: &f64| (said - 3.0).abs() > 1e-9;
            assert!(forecast(&history, ahead).is_some_and(|all| !all.iter().any(far)));
        }
    }

    #[test]
    fn an_unknown_hour_is_not_a_zero() {
        let mut history = vec![Some(3.0); 100];
        history[99] = None;
        history[77] = None;
        let least = forecast(&history, 1).map(|all| all.into_iter().fold(f64::MAX, f64::min));
        assert!(least.is_some_and(|least| (least - 3.0).abs() < 1e-9));
    }

    #[test]
    fn the_season_sees_the_peak_of_every_day() {
        let history: Vec<_> = (0..96)
            .map(|hour| Some(if hour % DAY == 9 { 8.0 } else { 0.0 }))
            .collect();
        let said = forecast(&history, 9).unwrap_or_default();
        assert_eq!(said[5], 8.0);
        assert!((said[6] - 4.0).abs() < 1e-9);
    }
}

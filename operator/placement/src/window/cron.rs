//! Cron schedules of five fields (minute, hour, day of month, month, day of week), as crontab(5) describes them. Our own
//! reader, because those on crates.io bring a second library of calendar time or read zone files.

use jiff::civil::{DateTime, Time};

/// Every date that can come comes within nine years: leap days pause for eight around 2100.
const MOST_DAYS: usize = 9 * 366;
const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const LONGEST_MONTHS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// A schedule of five fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// Sunday is bit 0.
    weekdays: u64,
    /// Whether one of the two fields of days starts with `*`: then both must match, otherwise one is enough.
    both_days: bool,
}

/// Why a schedule cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Not five fields.
    #[error("a schedule has 5 fields, not {0}")]
    Fields(usize),
    /// A field that is not a list of numbers, names, ranges and steps within its bounds.
    #[error("{text:?} is not a {field} between {min} and {max}")]
    Field {
        /// Name of the field.
        field: &'static str,
        /// What was given.
        text: String,
        /// Smallest number.
        min: u32,
        /// Largest number.
        max: u32,
    },
    /// A date that no year has, such as 30 February.
    #[error("no year has such a date")]
    Never,
}

/// The bounds and the names of a field.
struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    /// The name at place 0 is `min`.
    names: &'static [&'static str],
}

impl Schedule {
    /// Reads a schedule such as `0 2 * * 6`: numbers, names, `*`, ranges, steps and lists. Sunday is 0 or 7.
    ///
    /// # Errors
    /// When a field cannot be read or the date never comes.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(ScheduleError::Fields(fields.len()));
        };
        let field = |name, min, max, names| Field {
            name,
            min,
            max,
            names,
        };
        let weekdays = field("day of week", 0, 7, &WEEKDAYS).parse(weekday)?;
        let schedule = Self {
            text: fields.join(" "),
            minutes: field("minute", 0, 59, &[]).parse(minute)?,
            hours: field("hour", 0, 23, &[]).parse(hour)?,
            days: field("day of month", 1, 31, &[]).parse(day)?,
            months: field("month", 1, 12, &MONTHS).parse(month)?,
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            both_days: day.starts_with('*') || weekday.starts_with('*'),
        };
        if schedule.comes() {
            Ok(schedule)
        } else {
            Err(ScheduleError::Never)
        }
    }

    /// The five fields.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn comes(&self) -> bool {
        let possible = |(month, days): (u32, u32)| {
            has(self.months, month) && (1..=days).any(|day| has(self.days, day))
        };
        !self.both_days || (1..).zip(LONGEST_MONTHS).any(possible)
    }

    /// The first time of the schedule that is not before `from`; `None` when there is none in nine years.
    pub(crate) fn next_from(&self, from: DateTime) -> Option<DateTime> {
        let mut date = from.date();
        let mut earliest = from.time();
        for _ in 0..MOST_DAYS {
            if self.on(date)
                && let Some(time) = self.time_from(earliest)
            {
                return Some(date.to_datetime(time));
            }
            date = date.tomorrow().ok()?;
            earliest = Time::midnight();
        }
        None
    }

    fn on(&self, date: jiff::civil::Date) -> bool {
        let number = |number: i8| u32::try_from(number).unwrap_or(0);
        let day = has(self.days, number(date.day()));
        let weekday = has(
            self.weekdays,
            number(date.weekday().to_sunday_zero_offset()),
        );
        has(self.months, number(date.month()))
            && if self.both_days {
                day && weekday
            } else {
                day || weekday
            }
    }

    fn time_from(&self, earliest: Time) -> Option<Time> {
        let times = (0..24_i8).flat_map(|hour| (0..60_i8).map(move |minute| (hour, minute)));
        let listed = |(hour, minute): &(i8, i8)| {
            let bit = |number: i8| u32::try_from(number).unwrap_or(0);
            has(self.hours, bit(*hour)) && has(self.minutes, bit(*minute))
        };
        times
            .filter(listed)
            .map(|(hour, minute)| Time::constant(hour, minute, 0, 0))
            .find(|time| *time >= earliest)
    }
}

fn has(set: u64, number: u32) -> bool {
    set >> number & 1 == 1
}

impl Field {
    fn parse(&self, text: &str) -> Result<u64, ScheduleError> {
        let refused = || ScheduleError::Field {
            field: self.name,
            text: text.to_owned(),
            min: self.min,
            max: self.max,
        };
        text.split(',')
            .map(|part| self.part(part).ok_or_else(refused))
            .try_fold(0, |set, part| Ok(set | part?))
    }

    /// `*`, a number, a range, and each of `*` and a range with a step.
    fn part(&self, part: &str) -> Option<u64> {
        let (range, step) = match part.split_once('/') {
            None => (part, None),
            Some((range, step)) => (range, Some(number(step).filter(|step| *step > 0)?)),
        };
        let (first, last) = match (range, range.split_once('-')) {
            ("*", _) => (self.min, self.max),
            (_, Some((first, last))) => (self.value(first)?, self.value(last)?),
            (_, None) if step.is_some() => return None,
            (_, None) => (self.value(range)?, self.value(range)?),
        };
        let ordered = first <= last;
        let step = usize::try_from(step.unwrap_or(1)).ok()?;
        let set = |set: u64, number: u32| set | 1 << number;
        ordered.then(|| (first..=last).step_by(step).fold(0, set))
    }

    fn value(&self, text: &str) -> Option<u32> {
        let named = self
            .names
            .iter()
            .zip(self.min..)
            .find(|(name, _)| text.eq_ignore_ascii_case(name));
        let value = named.map(|(_, value)| value).or_else(|| number(text))?;
        (self.min..=self.max).contains(&value).then_some(value)
    }
}

/// A number without a sign.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::weekly("0 2 * * 6", "2026-11-25T00:00:00", "2026-11-28T02:00:00")]
    #[case::itself("0 2 * * 6", "2026-11-28T02:00:00", "2026-11-28T02:00:00")]
    #[case::a_second_late("0 2 * * 6", "2026-11-28T02:00:01", "2026-12-05T02:00:00")]
    #[case::steps("*/15 9-17/4 * * *", "2026-11-25T09:46:00", "2026-11-25T13:00:00")]
    #[case::lists("5,35 0 * * *", "2026-11-25T00:06:00", "2026-11-25T00:35:00")]
    #[case::names("0 0 * FEB sun", "2026-11-25T00:00:00", "2027-02-07T00:00:00")]
    #[case::sunday_is_seven_too("0 0 * * 7", "2026-11-25T00:00:00", "2026-11-29T00:00:00")]
    #[case::either_day("0 0 13 * 5", "2026-11-28T00:00:00", "2026-12-04T00:00:00")]
    #[case::both_days_with_a_star("0 0 */2 * 5", "2026-11-28T00:00:00", "2026-12-11T00:00:00")]
    #[case::leap_day("0 0 29 2 *", "2096-03-01T00:00:00", "2104-02-29T00:00:00")]
    #[case::end_of_year("59 23 31 12 *", "2026-12-31T23:59:00", "2026-12-31T23:59:00")]
    fn the_next_time_is_found(#[case] schedule: &str, #[case] from: &str, #[case] next: &str) {
        let schedule = Schedule::parse(schedule).expect("a schedule");
        let time = |text: &str| text.parse::<DateTime>().expect("a time");
        assert_eq!(schedule.next_from(time(from)), Some(time(next)));
    }

    #[rstest]
    #[case("")]
    #[case("* * * *")]
    #[case("* * * * * *")]
    #[case("60 * * * *")]
    #[case("* 24 * * *")]
    #[case("* * 0 * *")]
    #[case("* * 32 * *")]
    #[case("* * * 13 *")]
    #[case("* * * * 8")]
    #[case("*/0 * * * *")]
    #[case("5/10 * * * *")]
    #[case("9-5 * * * *")]
    #[case("+5 * * * *")]
    #[case("1, * * * *")]
    #[case("a * * * *")]
    #[case("0 0 30 2 *")]
    #[case("0 0 31 4,6 *")]
    fn what_is_no_schedule_is_refused(#[case] text: &str) {
        assert!(Schedule::parse(text).is_err());
    }

    #[test]
    fn the_thirtieth_of_february_may_be_a_friday_instead() {
        assert!(Schedule::parse("0 0 30 2 5").is_ok());
    }
}

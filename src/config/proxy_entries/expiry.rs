//! The end of a token's validity.

use toml::value::{Datetime, Offset};

/// The seconds of a day.
const DAY: i64 = 24 * 60 * 60;

/// When a token ceases to be valid, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expiry(u64);

impl Expiry {
    /// Returns the first millisecond since the Unix epoch at which the token is not valid.
    pub(super) fn epoch_ms(self) -> u64 {
        self.0
    }

    /// Converts a date and time of RFC 3339, or a date, whose day is still valid in UTC.
    ///
    /// # Errors
    /// What to write instead.
    pub(super) fn new(text: Datetime) -> Result<Self, String> {
        let expected = "expected a date, 2027-12-31, or a date and time with an offset, 2027-12-31T18:00:00Z";
        let date = text.date.ok_or(expected)?;
        let days = days_since_epoch(date.year.into(), date.month.into(), date.day.into());
        let seconds = match (text.time, text.offset) {
            // Until the end of the day.
            (None, _) => (days + 1) * DAY,
            (Some(_), None) => {
                return Err(format!("the offset from UTC is missing: write {text}Z, or {text}+02:00"));
            }
            (Some(time), Some(offset)) => {
                let minutes = match offset {
                    Offset::Z => 0,
                    Offset::Custom { minutes } => i64::from(minutes),
                };
                let (hour, minute) = (i64::from(time.hour), i64::from(time.minute));
                days * DAY + hour * 3600 + (minute - minutes) * 60 + time.second.map_or(0, i64::from)
            }
        };
        // One before the epoch is as expired as the epoch.
        Ok(Self(u64::try_from(seconds).unwrap_or(0) * 1000))
    }
}

/// Returns the number of days from 1970-01-01 to a date of the Gregorian calendar.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March here, so that the leap day is the last of its year; 400 years have 146,097 days.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

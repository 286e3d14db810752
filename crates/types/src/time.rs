use std::fmt;
use std::str::FromStr;

/// Milliseconds since 1970-01-01T00:00:00Z, as some device's clock claimed.
///
/// Times are shown to people and used for retention; correctness never rests on them.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode,
)]
#[cbor(transparent)]
pub struct Timestamp(#[n(0)] pub u64);

impl Timestamp {
    /// Whole milliseconds from `earlier` to `self`, zero if `earlier` is later.
    pub fn saturating_since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339, UTC, milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.0 / 86_400_000, self.0 % 86_400_000);
        // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
        let z = days + 719_468;
        let (era, day_of_era) = (z / 146_097, z % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
            ms / 3_600_000,
            ms / 60_000 % 60,
            ms / 1000 % 60,
            ms % 1000
        )
    }
}

/// A text that is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a time is written as 2026-11-21 or 2026-11-21T14:30:00Z, in UTC")]
pub struct TimeError;

impl FromStr for Timestamp {
    type Err = TimeError;

    /// RFC 3339 in UTC, from 1970 to 9999: a day (its first moment), or a day and a time of day to
    /// the minute, second or millisecond, with `T` between them and `Z` at the end.
    fn from_str(text: &str) -> Result<Self, TimeError> {
        let number = |text: &str, digits: usize, range: std::ops::RangeInclusive<u64>| {
            let is_plain = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
            let number = text.parse().ok().filter(|number| is_plain && range.contains(number));
            number.ok_or(TimeError)
        };
        let (date, time) = match text.split_once('T') {
            Some((date, time)) => (date, Some(time.strip_suffix('Z').ok_or(TimeError)?)),
            None => (text, None),
        };
        let mut parts = date.split('-');
        let mut part = || parts.next().ok_or(TimeError);
        let year = number(part()?, 4, 1970..=9999)?;
        let month = number(part()?, 2, 1..=12)?;
        let day = number(part()?, 2, 1..=31)?;
        let mut ms = days_from_civil(year, month, day)? * 86_400_000;
        if parts.next().is_some() {
            return Err(TimeError);
        }
        if let Some(time) = time {
            let mut parts = time.split(':');
            let mut part = || parts.next().ok_or(TimeError);
            ms += number(part()?, 2, 0..=23)? * 3_600_000;
            ms += number(part()?, 2, 0..=59)? * 60_000;
            if let Some(seconds) = parts.next() {
                let (whole, thousandths) = seconds.split_once('.').unwrap_or((seconds, "000"));
                ms += number(whole, 2, 0..=59)? * 1000 + number(thousandths, 3, 0..=999)?;
            }
            if parts.next().is_some() {
                return Err(TimeError);
            }
        }
        Ok(Self(ms))
    }
}

/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
fn days_from_civil(year: u64, month: u64, day: u64) -> Result<u64, TimeError> {
    let shifted_year = year - u64::from(month <= 2);
    let (era, year_of_era) = (shifted_year / 400, shifted_year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468).ok_or(TimeError)?;
    // The 31st of a month of 30 days is not the 1st of the next.
    let back = Timestamp(days * 86_400_000).to_string();
    let is_that_day = back.starts_with(&format!("{year:04}-{month:02}-{day:02}T"));
    if is_that_day { Ok(days) } else { Err(TimeError) }
}

/// A hybrid logical clock's reading: a wall-clock claim, and a counter for readings within one
/// millisecond (Kulkarni et al., "Logical Physical Clocks", 2014). Ordered; a claim only.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode,
)]
#[cbor(array)]
pub struct Clock {
    /// The wall-clock part.
    #[n(0)]
    pub wall: Timestamp,
    /// Counts readings within one `wall`.
    #[n(1)]
    pub count: u32,
}

impl Clock {
    /// Before every other reading.
    pub const ZERO: Self = Self { wall: Timestamp(0), count: 0 };

    /// The reading after `self`, on a device whose wall clock shows `now`.
    #[must_use]
    pub fn tick(self, now: Timestamp) -> Self {
        if now > self.wall {
            Self { wall: now, count: 0 }
        } else {
            match self.count.checked_add(1) {
                Some(count) => Self { wall: self.wall, count },
                None => Self { wall: Timestamp(self.wall.0.saturating_add(1)), count: 0 },
            }
        }
    }

    /// The reading after `self` and a peer's `other`. A peer more than
    /// [`crate::limits::CLOCK_AHEAD_MS_MAX`] ahead of `now` does not move this clock.
    #[must_use]
    pub fn observe(self, other: Self, now: Timestamp) -> Self {
        if other.is_flagged(now) { self } else { self.max(other) }
    }

    /// Whether this reading lies further in the future of `now` than an honest clock would.
    pub fn is_flagged(self, now: Timestamp) -> bool {
        self.wall.saturating_since_ms(now) > crate::limits::CLOCK_AHEAD_MS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_print_as_rfc_3339() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_226_735_042, "2026-11-21T02:05:35.042Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
        ] {
            assert_eq!(Timestamp(ms).to_string(), text);
            assert_eq!(text.parse(), Ok(Timestamp(ms)));
        }
    }

    #[test]
    fn days_and_times_of_day_are_read_and_nothing_else() {
        let of = |text: &str| text.parse::<Timestamp>().map(|time| time.to_string());
        assert_eq!(of("2026-11-21").unwrap(), "2026-11-21T00:00:00.000Z");
        assert_eq!(of("2024-02-29T23:59Z").unwrap(), "2024-02-29T23:59:00.000Z");
        assert_eq!(of("1970-01-01T00:00:01Z").unwrap(), "1970-01-01T00:00:01.000Z");
        for text in [
            "",
            "2026",
            "2026-11",
            "1969-12-31",
            "2026-02-29",
            "2026-11-31",
            "2026-13-01",
            "2026-11-21T14:30",
            "2026-11-21T24:00Z",
            "2026-11-21T14:30:60Z",
            "2026-11-21T14:30:00.1Z",
            "2026-11-21T14Z",
            "+026-11-21",
            "2026-11-21-01",
            "2026-11-21T1:2:3:4Z",
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(TimeError), "{text}");
        }
    }

    #[test]
    fn a_clock_never_goes_back_and_ignores_one_far_ahead() {
        let now = Timestamp(1_000_000);
        let clock = Clock::ZERO.tick(now);
        assert!(clock.tick(Timestamp(5)) > clock);
        let near = Clock { wall: Timestamp(1_000_500), count: 3 };
        assert_eq!(clock.observe(near, now), near);
        let far = Clock { wall: Timestamp(1_000_000 + 10 * 60 * 1000 + 1), count: 0 };
        assert_eq!(clock.observe(far, now), clock);
        let full = Clock { wall: now, count: u32::MAX };
        assert!(full.tick(now) > full);
    }
}

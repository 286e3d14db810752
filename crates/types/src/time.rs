use std::fmt;

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

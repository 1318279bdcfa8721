//! When an entry was written: wall clock, time since boot, and which boot. The values are arguments;
//! no clock is read here.

/// Three answers to "when". The wall clock may jump; within one boot `mono_us` only grows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Wall clock, microseconds since 1970-01-01 UTC.
    pub unix_us: u64,
    /// Microseconds since the machine started.
    pub mono_us: u64,
    /// The boot's own id, a UUID.
    pub boot: String,
}

/// The last instant that can be written: 9999-12-31T23:59:59.999999Z.
const MAX_UNIX_US: u64 = 253_402_300_799_999_999;

/// RFC 3339 in UTC with exactly six decimals. Later than the year 9999 becomes the last instant of it.
#[must_use]
pub fn rfc3339(unix_us: u64) -> String {
    let unix_us = unix_us.min(MAX_UNIX_US);
    let (seconds, micros) = (unix_us / 1_000_000, unix_us % 1_000_000);
    let (days, in_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (in_day / 3600, in_day / 60 % 60, in_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Reads what [`rfc3339`] writes, and nothing else: no date that does not exist, no leap second, nothing before 1970.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    const FORM: &[u8] = b"0000-00-00T00:00:00.000000Z";
    let fits = text.bytes().zip(FORM).all(|(byte, form)| match form {
        b'0' => byte.is_ascii_digit(),
        other => byte == *other,
    });
    if text.len() != FORM.len() || !fits {
        return None;
    }
    let digits = text.as_bytes();
    let number = |range: std::ops::Range<usize>| -> Option<u64> {
        let value = |sum, digit: &u8| sum * 10 + u64::from(digit - b'0');
        Some(digits.get(range)?.iter().fold(0, value))
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    if year < 1970 || day == 0 || day > length || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(seconds * 1_000_000 + number(20..26)?)
}

/// Days from 1970-01-01 to a date not before it (Hinnant's `days_from_civil`).
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let in_year = (153 * month_from_march + 2) / 5 + day - 1;
    let in_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + in_year;
    era * 146_097 + in_era - 719_468
}

/// Whether `text` is a UUID in lower case with hyphens, as a boot id is.
#[must_use]
pub fn is_uuid(text: &str) -> bool {
    const FORM: &[u8] = b"xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    text.len() == FORM.len()
        && text.bytes().zip(FORM).all(|(byte, form)| match form {
            b'-' => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// Year, month and day of a count of days since 1970-01-01 (Hinnant's `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, in_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

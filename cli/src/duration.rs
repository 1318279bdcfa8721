//! Durations as people write them: `500ms`, `90s`, `15m`, `2h`, `1d`. Never guesses a unit.

use cortex_model::limits::DURATION_MAX_MS;
use cortex_model::{Code, Fault};

/// Milliseconds of a duration, 1 ms to 400 days.
///
/// # Errors
/// `CX-0105` when it cannot be read or is out of range.
pub(crate) fn parse(text: &str) -> Result<u64, Fault> {
    let bad = |why: &str| {
        Fault::new(Code::BadDuration, format!("duration {text:?} cannot be used: {why}")).with_hint(
            "write a whole number and a unit: 500ms, 90s, 15m, 2h or 1d, between 1 ms and 400 days",
        )
    };
    let cut = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(cut);
    let number: u64 = match digits {
        "" => return Err(bad("it does not begin with a number")),
        digits => digits.parse().map_err(|_| bad("the number is too large"))?,
    };
    let ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" => return Err(bad("the unit is missing")),
        _ => return Err(bad("the unit is not known")),
    };
    match number.checked_mul(ms) {
        Some(0) => Err(bad("it is zero")),
        Some(ms) if ms <= DURATION_MAX_MS => Ok(ms),
        _ => Err(bad("it is longer than 400 days")),
    }
}

/// A duration for people: the two largest units that matter.
pub(crate) fn show(ms: u64) -> String {
    let (s, m, h, d) = (ms / 1_000, ms / 60_000, ms / 3_600_000, ms / 86_400_000);
    let two = |a: u64, ua: &str, b: u64, ub: &str| {
        if b == 0 { format!("{a}{ua}") } else { format!("{a}{ua}{b}{ub}") }
    };
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 if ms.is_multiple_of(1_000) => format!("{s}s"),
        1_000..60_000 => format!("{s}.{}s", ms % 1_000 / 100),
        60_000..3_600_000 => two(m, "m", s % 60, "s"),
        3_600_000..86_400_000 => two(h, "h", m % 60, "m"),
        _ => two(d, "d", h % 24, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        let table = [
            ("500ms", 500),
            ("90s", 90_000),
            ("15m", 900_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("400d", DURATION_MAX_MS),
        ];
        for (text, ms) in table {
            assert_eq!(parse(text).unwrap(), ms, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for bad in [
            "",
            "5",
            "s",
            "0s",
            "-1s",
            "1.5h",
            "1 h",
            "1H",
            "401d",
            "1w",
            "1h30",
            "+1s",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert_eq!(parse(bad).unwrap_err().code, Code::BadDuration, "{bad:?}");
        }
    }

    #[test]
    fn durations_are_shown_short() {
        let table = [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (1_250, "1.2s"),
            (90_000, "1m30s"),
            (7_200_000, "2h"),
            (90_000_000, "1d1h"),
        ];
        for (ms, text) in table {
            assert_eq!(show(ms), text);
        }
    }
}

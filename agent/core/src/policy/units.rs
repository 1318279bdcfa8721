//! Sizes, durations and shares of a processor as people write them.

use super::rules::Cpu;

/// `4MiB`, `10GiB`, `512KiB`, `1GB`, `4096`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(format!("{text:?} is no size; write for example 512MiB or 4GiB")),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("{text:?} is no size; write a whole number and a unit"))?;
    match number.checked_mul(factor) {
        Some(bytes) if bytes > 0 => Ok(bytes),
        Some(_) | None => Err(format!("{text:?} is no size that can be")),
    }
}

/// `90s`, `15m`, `2h`, `7d`, `500ms`; in milliseconds.
pub(super) fn duration_ms(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(format!("{text:?} is no duration; write for example 90s, 15m or 2h")),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("{text:?} is no duration; write a whole number and a unit"))?;
    match number.checked_mul(factor) {
        Some(ms) if ms > 0 && ms <= cortex_model::limits::DURATION_MAX_MS => Ok(ms),
        Some(_) | None => Err(format!("{text:?} is no duration that can be")),
    }
}

/// `150%` of one processor, or `50% of machine`.
pub(super) fn cpu(text: &str) -> Result<Cpu, String> {
    let bad = || {
        format!("{text:?} is no share of a processor; write for example 150% or \"50% of machine\"")
    };
    let (percent, machine) = match text.strip_suffix("of machine") {
        Some(share) => (share.trim_end(), true),
        None => (text, false),
    };
    let percent: u32 = percent.strip_suffix('%').ok_or_else(bad)?.parse().map_err(|_| bad())?;
    match (percent, machine) {
        (1..=100, true) => Ok(Cpu::OfMachine(percent)),
        (1..=1_000_000, false) => Ok(Cpu::Percent(percent)),
        _ => Err(bad()),
    }
}

fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_exactly_or_not_at_all() {
        assert_eq!(bytes("4MiB"), Ok(4 << 20));
        assert_eq!(bytes("10 GiB"), Ok(10 << 30));
        assert_eq!(duration_ms("15m"), Ok(900_000));
        assert_eq!(cpu("150%"), Ok(Cpu::Percent(150)));
        assert_eq!(cpu("50% of machine"), Ok(Cpu::OfMachine(50)));
        for text in ["", "4", "4 X", "-1s", "1.5h", "0s", "999999d"] {
            assert!(duration_ms(text).is_err(), "{text}");
        }
        for text in ["", "0", "1.5GiB", "99999999999GiB", "4mib"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        for text in ["", "%", "0%", "150", "150% of machine", "-5%"] {
            assert!(cpu(text).is_err(), "{text}");
        }
    }
}

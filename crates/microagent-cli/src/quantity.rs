//! Sizes and times as people write them, in both directions.

use std::time::{SystemTime, UNIX_EPOCH};

const MIB_PER_GIB: u64 = 1024;
const MIB_PER_TIB: u64 = 1024 * MIB_PER_GIB;

/// Parses a size in MiB: a plain number, or one with a unit of `m`, `g` or `t` (`512m`, `1g`, `2GiB`).
pub(crate) fn parse_mib(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "m" | "mb" | "mib" => 1,
        "g" | "gb" | "gib" => MIB_PER_GIB,
        "t" | "tb" | "tib" => MIB_PER_TIB,
        _ => return Err("a size is a number of MiB, or one with a unit as in `512m` or `2g`".to_owned()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| "a size is a whole number, as in `512`, `512m` or `2g`".to_owned())
}

/// [`parse_mib`] for sizes of memory.
pub(crate) fn parse_memory_mib(text: &str) -> Result<u32, String> {
    u32::try_from(parse_mib(text)?).map_err(|_| "no machine has that much memory".to_owned())
}

pub(crate) use microagent::spec::parse_duration;

fn split_unit(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// A number of bytes for people: in powers of 1000 as registries count, with three digits at most.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    let mut size: u64 = 1000;
    while unit + 1 < UNITS.len() && bytes >= size * 1000 - size / 2 {
        size *= 1000;
        unit += 1;
    }
    let tenths = (u128::from(bytes) * 10 + u128::from(size / 2)) / u128::from(size);
    if tenths < 1000 {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    } else {
        format!("{} {}", (tenths + 5) / 10, UNITS[unit])
    }
}

/// How long ago a time was that is given in seconds since the Unix epoch, for people: in one unit.
pub(crate) fn ago(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    span(now.saturating_sub(seconds))
}

fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_mib_unless_they_say_otherwise() {
        for (text, mib) in [("512", 512), ("512m", 512), ("1g", 1024), ("2GiB", 2048), ("1T", 1 << 20)] {
            assert_eq!(parse_mib(text), Ok(mib), "{text}");
        }
        for text in ["", "g", "-1", "1.5g", "12k", "99999999999999999999", "18446744073709551615t"] {
            assert!(parse_mib(text).is_err(), "{text}");
        }
        assert!(parse_memory_mib("5000t").is_err());
    }

    #[test]
    fn the_past_is_told_in_the_largest_unit_that_fits() {
        let told = [0, 59, 60, 3599, 3600, 86_399, 86_400].map(span);
        assert_eq!(told, ["0 s ago", "59 s ago", "1 min ago", "59 min ago", "1 h ago", "23 h ago", "1 d ago"]);
        assert_eq!(ago(u64::MAX), "0 s ago");
    }

    #[test]
    fn byte_counts_have_at_most_three_digits() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (3_400_000, "3.4 MB"),
            (99_960_000, "100 MB"),
            (999_999_999, "1.0 GB"),
            (u64::MAX, "18.4 EB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
    }
}

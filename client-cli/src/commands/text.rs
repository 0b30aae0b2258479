//! Small pieces of text that several commands print or parse.
//!
//! Durations, times and excerpts, without any I/O.

use prost_types::Timestamp;

/// Parses a duration such as `7d`, `12h`, `30m` or `90s`; returns seconds.
///
/// # Errors
/// If the text is anything else.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    parse_seconds(text)
        .ok_or_else(|| format!("invalid duration `{text}`: expected 7d, 12h, 30m, 90s or the like"))
}

fn parse_seconds(text: &str) -> Option<u64> {
    let split = text.len().saturating_sub(1);
    let unit = match text.get(split..)? {
        "d" => 86_400,
        "h" => 3_600,
        "m" => 60,
        "s" => 1,
        _ => return None,
    };
    let count: u64 = text[..split].parse().ok()?;
    count.checked_mul(unit).filter(|seconds| *seconds > 0)
}

/// Formats a time as `2026-11-23 10:30:00 UTC`; empty if there is none.
pub(super) fn time(moment: Option<&Timestamp>) -> String {
    let found = moment.and_then(|moment| {
        chrono::DateTime::from_timestamp(moment.seconds, u32::try_from(moment.nanos).unwrap_or(0))
    });
    found.map(|moment| moment.format("%Y-%m-%d %H:%M:%S UTC").to_string()).unwrap_or_default()
}

/// Seconds from one time to another.
pub(super) fn seconds_between(start: &Timestamp, end: &Timestamp) -> f64 {
    (end.seconds - start.seconds) as f64 + f64::from(end.nanos - start.nanos) / 1e9
}

/// Cuts a text to `length` characters, ending with `…` if there are more.
pub(super) fn cut(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(length.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// The beginning of a text on a single line, for messages.
pub(super) fn excerpt(text: &str) -> String {
    cut(&text.split_whitespace().collect::<Vec<_>>().join(" "), 40)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        let check = |text, expected| assert_eq!(seconds(text).ok(), expected, "{text}");
        check("7d", Some(604_800));
        check("12h", Some(43_200));
        check("90s", Some(90));
        check("7", None);
        check("d", None);
        check("0d", None);
        check("-1d", None);
        check("1y", None);
        check("ñ", None);
    }

    #[test]
    fn a_moment_says_its_zone() {
        let moment = Timestamp { seconds: 1_763_893_800, nanos: 0 };
        assert_eq!(time(Some(&moment)), "2025-11-23 10:30:00 UTC");
        assert_eq!(time(None), "");
    }

    #[test]
    fn long_text_is_cut_by_characters() {
        assert_eq!(cut("ñandú", 5), "ñandú");
        assert_eq!(cut("ñandúes", 5), "ñand…");
    }
}

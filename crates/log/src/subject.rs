//! Subjects of messages and patterns over them, with the rules of NATS: tokens between dots, `*`
//! stands for one token, `>` at the end for one or more.

use crate::error::{LogError, Result};
use crate::limits::{KV_KEY_MAX, SUBJECT_MAX};

/// Whether `subject` falls under `pattern`.
#[must_use]
pub fn matches(pattern: &str, subject: &str) -> bool {
    let (mut wanted, mut given) = (pattern.split('.'), subject.split('.'));
    loop {
        match (wanted.next(), given.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some(w), Some(g)) if w == "*" || w == g => {}
            (_, _) => return false,
        }
    }
}

/// Checks a subject to publish on.
///
/// # Errors
/// [`LogError::BadName`] for empty tokens, wildcards, blanks or more than 255 bytes.
pub fn check_subject(subject: &str) -> Result<()> {
    let ok = well_formed(subject) && !subject.split('.').any(|t| t == "*" || t == ">");
    if ok { Ok(()) } else { Err(LogError::bad_name("subject", subject)) }
}

/// Checks a pattern to subscribe to.
///
/// # Errors
/// [`LogError::BadName`] for empty tokens, blanks, a `>` that is not last, or more than 255 bytes.
pub fn check_pattern(pattern: &str) -> Result<()> {
    let tail_last = !pattern.strip_suffix('>').unwrap_or(pattern).split('.').any(|t| t == ">");
    if well_formed(pattern) && tail_last {
        Ok(())
    } else {
        Err(LogError::bad_name("pattern", pattern))
    }
}

pub(crate) fn has_wildcard(pattern: &str) -> bool {
    pattern.split('.').any(|t| t == "*" || t == ">")
}

pub(crate) fn check_bucket(bucket: &str) -> Result<()> {
    let ok = (1..=64).contains(&bucket.len())
        && bucket.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if ok { Ok(()) } else { Err(LogError::bad_name("bucket", bucket)) }
}

pub(crate) fn check_kv_key(key: &str) -> Result<()> {
    let ok = key.len() <= KV_KEY_MAX
        && key.split('.').all(|t| !t.is_empty())
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'=' | b'/' | b'.'));
    if ok { Ok(()) } else { Err(LogError::bad_name("key", key)) }
}

fn well_formed(s: &str) -> bool {
    s.len() <= SUBJECT_MAX
        && s.split('.').all(|t| !t.is_empty())
        && s.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_nats() {
        for (pattern, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.b", "a", false),
            ("a", "a.b", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("*.b", "a.b", true),
            ("a.>", "a.b", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("a.*.c", "a.b.c", true),
            ("a.*.c", "a.b.d", false),
        ] {
            assert_eq!(matches(pattern, subject), expected, "{pattern} {subject}");
        }
    }

    #[test]
    fn malformed_names_are_refused() {
        for bad in ["", "a..b", ".a", "a.", "a b", "a.*", "a.>", "ä"] {
            assert!(check_subject(bad).is_err(), "{bad}");
        }
        for bad in ["", "a..b", "a.>.b", ">.a", "a b"] {
            assert!(check_pattern(bad).is_err(), "{bad}");
        }
        for good in ["a", "a.*", "a.>", ">", "*.b", "_INBOX.x1"] {
            assert!(check_pattern(good).is_ok(), "{good}");
        }
        assert!(check_kv_key("0.12.3").is_ok());
        assert!(check_kv_key("a..b").is_err());
        assert!(check_kv_key("").is_err());
        assert!(check_bucket("CX_NODES").is_ok());
        assert!(check_bucket("a.b").is_err());
    }
}

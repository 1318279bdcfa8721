//! Text of strangers, made safe to be shown: what a terminal would obey, what turns the direction of reading, what
//! cannot be seen, and letters that look like others are written as numbers.

/// The text with everything but visible ASCII written as `\u{..}`, and whether that was needed.
#[must_use]
pub fn escape(text: &str) -> (String, bool) {
    let (mut safe, mut odd) = (String::with_capacity(text.len()), false);
    for c in text.chars() {
        if c == ' ' || c.is_ascii_graphic() {
            safe.push(c);
        } else {
            odd = true;
            safe.extend(c.escape_unicode());
        }
    }
    (safe, odd)
}

//! Text from elsewhere that people read: what could hide, move or forge what stands beside it is written out.

/// Whether a character can change how others are shown: it controls a terminal, begins a line, turns the direction of writing, or cannot be
/// seen at all.
#[must_use]
pub fn hides(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// The text with such characters written as `\n` or `\u{202e}`.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if hides(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_or_hides_other_text_is_written_out_and_the_rest_stays() {
        let plain = "grüße, 日本語, עברית, a\\b 'c' \u{1f980}";
        assert_eq!(visible(plain), plain);
        assert_eq!(visible("a\nb\u{1b}[2J\u{9b}1m\u{7f}"), r"a\nb\u{1b}[2J\u{9b}1m\u{7f}");
        let turned = "\u{202e}cod.txt\u{202c}\u{2067}\u{200b}\u{2028}\u{feff}";
        assert!(visible(turned).is_ascii(), "{}", visible(turned));
    }
}

//! Takes secret values out of output before it leaves the machine: as they are, and as base64, in URLs, in JSON and in hex,
//! also where they are cut into pieces by the borders of what was read. Hygiene, not a wall: a program that wants to give
//! a secret away can write it in another form.

use crate::policy::Secret;
use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What stands in the place of a secret.
pub const MASK: &[u8] = b"***";

/// Values shorter than this are not looked for: they would be found everywhere.
pub const SHORTEST: usize = 8;

/// All forms of all secrets of one attempt.
#[derive(Clone, Debug)]
pub struct Mask {
    finder: Arc<AhoCorasick>,
    patterns: Arc<Vec<Vec<u8>>>,
}

impl Mask {
    /// Prepares to look for these values. `None`: there is nothing to look for.
    ///
    /// # Errors
    /// There is too much to look for.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Result<Option<Self>, String> {
        let mut patterns = BTreeSet::new();
        for secret in secrets.into_iter().filter(|secret| secret.0.len() >= SHORTEST) {
            patterns.extend(forms(&secret.0).into_iter().filter(|form| form.len() >= SHORTEST));
        }
        if patterns.is_empty() {
            return Ok(None);
        }
        let patterns: Vec<Vec<u8>> = patterns.into_iter().collect();
        let finder = AhoCorasick::builder().match_kind(MatchKind::Standard).build(&patterns);
        let finder = finder.map_err(|err| err.to_string())?;
        Ok(Some(Self { finder: Arc::new(finder), patterns: Arc::new(patterns) }))
    }

    /// Begins a stream of output.
    #[must_use]
    pub fn stream(&self) -> MaskedStream {
        MaskedStream { mask: self.clone(), held: Vec::new(), covered: 0 }
    }
}

/// One stream of output on its way.
#[derive(Clone, Debug)]
pub struct MaskedStream {
    mask: Mask,
    /// The end of what came, which may be the beginning of a secret.
    held: Vec<u8>,
    /// How much of that belongs to a secret whose mask was written already.
    covered: usize,
}

impl MaskedStream {
    /// Takes more output and gives what can go on. What may be the beginning of a secret is held back.
    #[must_use]
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        let keep = self.undecided();
        self.emit(self.held.len() - keep)
    }

    /// The end of the stream: gives what was held back.
    #[must_use]
    pub fn finish(&mut self) -> Vec<u8> {
        self.emit(self.held.len())
    }

    /// The longest end that is the beginning of a form, and not all of it.
    fn undecided(&self) -> usize {
        let longest = self.mask.patterns.iter().map(Vec::len).max().unwrap_or(0);
        let most = self.held.len().min(longest.saturating_sub(1));
        let begins = |tail: &[u8]| {
            self.mask.patterns.iter().any(|form| form.len() > tail.len() && form.starts_with(tail))
        };
        (1..=most).rev().find(|len| begins(&self.held[self.held.len() - len..])).unwrap_or(0)
    }

    /// Gives what stands before `until`, each run of overlapping secrets replaced by one mask.
    fn emit(&mut self, until: usize) -> Vec<u8> {
        let found = self.mask.finder.find_overlapping_iter(&self.held);
        let mut hits: Vec<(usize, usize)> = found.map(|hit| (hit.start(), hit.end())).collect();
        hits.sort_unstable();
        // Runs of secrets that overlap: where each begins and ends, and whether its mask was written before.
        let mut runs: Vec<(usize, usize, bool)> = Vec::new();
        if self.covered > 0 {
            runs.push((0, self.covered, true));
        }
        for (start, end) in hits.into_iter().filter(|(start, _)| *start < until) {
            match runs.last_mut() {
                Some(run) if start < run.1 => run.1 = run.1.max(end),
                Some(_) | None => runs.push((start, end, false)),
            }
        }
        let mut out = Vec::with_capacity(until);
        let mut at = 0;
        for (start, end, written) in runs {
            out.extend_from_slice(&self.held[at..start.max(at)]);
            if !written {
                out.extend_from_slice(MASK);
            }
            at = end;
        }
        if at < until {
            out.extend_from_slice(&self.held[at..until]);
        }
        self.covered = at.saturating_sub(until);
        self.held.drain(..until);
        out
    }
}

/// The ways in which a value is usually written.
fn forms(value: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![value.to_vec()];
    for skip in 0..3_usize {
        // Inside of something larger the value may begin at any of three places; what its neighbours decide is cut off.
        let shifted: Vec<u8> = std::iter::repeat_n(0, skip).chain(value.iter().copied()).collect();
        let first = if skip == 0 { 0 } else { skip + 1 };
        let whole = (shifted.len() * 8) / 6;
        for text in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
            forms.extend(text.as_bytes().get(first..whole.min(text.len())).map(<[u8]>::to_vec));
        }
    }
    for upper in [true, false] {
        let mut url = Vec::new();
        for byte in value {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    url.push(*byte)
                }
                byte if upper => url.extend(format!("%{byte:02X}").bytes()),
                byte => url.extend(format!("%{byte:02x}").bytes()),
            }
        }
        forms.push(url);
    }
    if let Ok(text) = std::str::from_utf8(value) {
        let json = serde_json::Value::from(text).to_string();
        forms.push(json.as_bytes()[1..json.len() - 1].to_vec());
    }
    let hex = cortex_audit::leaf::hex(value);
    forms.push(hex.to_ascii_uppercase().into_bytes());
    forms.push(hex.into_bytes());
    forms
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: &str = "tok-\"1/2+3\"-äöü-end";

    fn mask(secrets: &[&str]) -> Mask {
        let secrets: Vec<Secret> =
            secrets.iter().map(|text| Secret(text.as_bytes().to_vec())).collect();
        Mask::new(&secrets).unwrap().unwrap()
    }

    fn run(mask: &Mask, text: &[u8], piece: usize) -> Vec<u8> {
        let mut stream = mask.stream();
        let mut out: Vec<u8> =
            text.chunks(piece.max(1)).flat_map(|piece| stream.push(piece)).collect();
        out.extend(stream.finish());
        out
    }

    #[test]
    fn a_secret_is_masked_in_every_usual_form_and_at_every_border() {
        let mask = mask(&[SECRET]);
        let base64 = |before: &str| STANDARD_NO_PAD.encode(format!("{before}{SECRET}behind"));
        let json = serde_json::json!({ "x": SECRET }).to_string();
        for text in [
            format!("a {SECRET} b"),
            base64(""),
            base64("x"),
            base64("xy"),
            format!("https://x/?t={}", "tok-%221%2F2%2B3%22-%C3%A4%C3%B6%C3%BC-end"),
            json,
            cortex_audit::leaf::hex(SECRET.as_bytes()),
        ] {
            for piece in 1..=text.len() {
                let out = String::from_utf8(run(&mask, text.as_bytes(), piece)).unwrap();
                assert!(out.contains("***"), "{text} in pieces of {piece}: {out}");
                assert!(!out.contains("tok-"), "{text} in pieces of {piece}: {out}");
                assert_eq!(
                    out,
                    String::from_utf8(run(&mask, text.as_bytes(), text.len())).unwrap()
                );
            }
        }
    }

    #[test]
    fn what_is_no_secret_is_not_held_up() {
        let mask = mask(&["secret-value"]);
        let mut stream = mask.stream();
        assert_eq!(stream.push(b"prompt> "), b"prompt> ");
        assert_eq!(stream.push(b"sec"), b"");
        assert_eq!(stream.push(b"tion"), b"section");
        assert_eq!(stream.push(b"secret-valu"), b"");
        assert_eq!(stream.finish(), b"secret-valu");
        assert!(Mask::new(&[Secret(b"short".to_vec())]).unwrap().is_none());
    }

    #[test]
    fn secrets_that_overlap_are_masked_whole() {
        let mask = mask(&["abcdefgh1", "fgh1xyzw"]);
        for piece in 1..20 {
            assert_eq!(run(&mask, b"<abcdefgh1xyzw>", piece), b"<***>", "{piece}");
        }
        let long = self::mask(&["aaaaaaaa"]);
        let mut stream = long.stream();
        let mut out = Vec::new();
        for _ in 0..10_000 {
            out.extend(stream.push(b"a"));
            assert!(stream.held.len() <= 16);
        }
        out.extend(stream.finish());
        assert_eq!(out, b"***");
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter_and_nothing_else_changes(
            text in "[ab]{0,60}", secret in "[ab]{8,10}", other in "[ab]{8,10}", piece in 1_usize..9
        ) {
            let mask = mask(&[&secret, &other]);
            let whole = run(&mask, text.as_bytes(), text.len());
            prop_assert_eq!(&run(&mask, text.as_bytes(), piece), &whole);
            let shown = String::from_utf8(whole).unwrap();
            prop_assert!(!shown.contains(&secret) && !shown.contains(&other));
            if !text.contains(&secret) && !text.contains(&other) {
                prop_assert_eq!(shown, text);
            }
        }
    }
}

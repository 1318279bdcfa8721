//! Checks that bytes are canonical JSON without building values: what a verifier does a million times. It accepts
//! exactly what [`crate::canonical::parse`] accepts.

use crate::canonical::{MAX_DEPTH, MAX_INT};

/// Checks a whole text and hands each member of the outermost object to `member`, as key and raw value. `None` if
/// the bytes are not canonical; of other values than objects nothing is handed out.
pub(crate) fn object<'a>(bytes: &'a [u8], member: impl FnMut(&'a [u8], &'a [u8])) -> Option<()> {
    // A canonical text is UTF-8 throughout, and outside of strings it is ASCII.
    std::str::from_utf8(bytes).ok()?;
    let mut scan = Scan { bytes, at: 0 };
    match bytes.first()? {
        b'{' => scan.map(0, member)?,
        _ => scan.value(0)?,
    }
    (scan.at == bytes.len()).then_some(())
}

/// The raw value of a member of an object that was checked before.
pub(crate) fn member<'a>(object: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let mut scan = Scan { bytes: object, at: 1 };
    if object.first() != Some(&b'{') || object.get(1) == Some(&b'}') {
        return None;
    }
    loop {
        let found = scan.string()?;
        scan.at += 1;
        let start = scan.at;
        if found > key.as_bytes() {
            return None;
        }
        scan.skip()?;
        if found == key.as_bytes() {
            return object.get(start..scan.at);
        }
        if scan.peek()? == b'}' {
            return None;
        }
        scan.at += 1;
    }
}

/// The content of a raw string that needs no escapes; `None` for any other value.
pub(crate) fn plain(raw: &[u8]) -> Option<&str> {
    let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inner.contains(&b'\\') { None } else { std::str::from_utf8(inner).ok() }
}

/// A raw integer that is not negative.
pub(crate) fn unsigned(raw: &[u8]) -> Option<u64> {
    let digits = !raw.is_empty() && raw.len() <= 16 && raw.iter().all(u8::is_ascii_digit);
    digits.then(|| raw.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// The alphabet of keys.
const KEY: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = matches!(byte as u8, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'$');
        byte += 1;
    }
    table
};

/// How many bytes come before a quote, a backslash or a control character. Looks at eight at a time.
fn plain_length(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut words = text.chunks_exact(8);
    let mut passed = 0;
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
        // The lowest bit that is set in the end is of the first such byte; higher ones may be wrong.
        let zero = |word: u64| word.wrapping_sub(ONES) & !word;
        let quote = zero(word ^ (ONES * 0x22));
        let backslash = zero(word ^ (ONES * 0x5c));
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let found = (quote | backslash | control) & (ONES * 0x80);
        if found != 0 {
            return passed + found.trailing_zeros() as usize / 8;
        }
        passed += 8;
    }
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    let rest = words.remainder();
    passed + rest.iter().position(special).unwrap_or(rest.len())
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn literal(&mut self, word: &[u8]) -> Option<()> {
        self.bytes.get(self.at..)?.starts_with(word).then(|| self.at += word.len())
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(|_| ()),
            b'-' | b'0'..=b'9' => self.integer(),
            b'n' => self.literal(b"null"),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'{' => self.map(depth, |_, _| {}),
            b'[' => self.list(depth),
            _ => None,
        }
    }

    fn map(&mut self, depth: usize, mut member: impl FnMut(&'a [u8], &'a [u8])) -> Option<()> {
        if depth == MAX_DEPTH {
            return None;
        }
        self.at += 1;
        if self.take(b'}') {
            return Some(());
        }
        let mut last: &[u8] = b"";
        loop {
            let key = self.key()?;
            // The empty key is refused by this too.
            if key <= last || !self.take(b':') {
                return None;
            }
            last = key;
            let start = self.at;
            self.value(depth + 1)?;
            member(key, self.bytes.get(start..self.at)?);
            if self.take(b'}') {
                return Some(());
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    fn list(&mut self, depth: usize) -> Option<()> {
        if depth == MAX_DEPTH {
            return None;
        }
        self.at += 1;
        if self.take(b']') {
            return Some(());
        }
        loop {
            self.value(depth + 1)?;
            if self.take(b']') {
                return Some(());
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        if !self.take(b'"') {
            return None;
        }
        let rest = self.bytes.get(self.at..)?;
        let length = rest.iter().position(|byte| !KEY[usize::from(*byte)])?;
        self.at += length;
        self.take(b'"').then(|| &rest[..length])
    }

    fn integer(&mut self) -> Option<()> {
        let negative = self.take(b'-');
        let rest = self.bytes.get(self.at..)?;
        let length = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        let number = unsigned(&rest[..length])?;
        self.at += length;
        let zeros = (rest[0] == b'0') && (length > 1 || negative);
        (!zeros && number < MAX_INT.unsigned_abs()).then_some(())
    }

    /// Takes a string and returns what stands between the quotes.
    fn string(&mut self) -> Option<&'a [u8]> {
        if !self.take(b'"') {
            return None;
        }
        let start = self.at;
        loop {
            self.at += plain_length(self.bytes.get(self.at..)?);
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return self.bytes.get(start..self.at - 1);
                }
                b'\\' => self.escape()?,
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        let rest = self.bytes.get(self.at + 1..)?;
        match rest.first()? {
            b'"' | b'\\' | b'b' | b't' | b'n' | b'f' | b'r' => self.at += 2,
            b'u' => {
                let digits = rest.get(1..5)?;
                let control =
                    matches!(digits, [b'0', b'0', b'0' | b'1', b'0'..=b'9' | b'a'..=b'f']);
                let short = matches!(&digits[2..], b"08" | b"09" | b"0a" | b"0c" | b"0d");
                if !control || short {
                    return None;
                }
                self.at += 6;
            }
            _ => return None,
        }
        Some(())
    }

    /// Passes over a value that was checked before.
    fn skip(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                    if depth == 0 {
                        return Some(());
                    }
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    // The end of the object around a number or word.
                    let Some(less) = depth.checked_sub(1) else { return Some(()) };
                    depth = less;
                    if depth == 0 {
                        self.at += 1;
                        return Some(());
                    }
                }
                b',' if depth == 0 => return Some(()),
                _ => {}
            }
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_length_of_plain_text_is_that_of_a_search_byte_by_byte(
            text in prop::collection::vec(prop_oneof![Just(b'a'), any::<u8>()], 0..40),
        ) {
            let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
            let expected = text.iter().position(special).unwrap_or(text.len());
            prop_assert_eq!(plain_length(&text), expected);
        }

        #[test]
        fn the_scan_and_the_reader_accept_the_same_bytes(
            text in "[\\[\\]{}\",:\\\\a$0-9u. trfnlse\u{e4}-]{0,24}",
        ) {
            let bytes = text.as_bytes();
            prop_assert_eq!(object(bytes, |_, _| {}).is_some(), canonical::parse(bytes).is_ok());
        }

        #[test]
        fn a_changed_byte_of_a_record_is_judged_alike(at in 0usize..200, byte in any::<u8>()) {
            let mut body = br#"{"a":[1,-2,{"b":"x\u001f\n"}],"data":{"$c":"q","n":null,"z":{"y":true}},"seq":3,"t":"2026"}"#.to_vec();
            let at = at % body.len();
            body[at] = byte;
            prop_assert_eq!(object(&body, |_, _| {}).is_some(), canonical::parse(&body).is_ok());
            if let Ok(value) = canonical::parse(&body) {
                for key in ["a", "data", "seq", "t", "u"] {
                    let raw = member(&body, key).map(|raw| canonical::parse(raw).unwrap());
                    prop_assert_eq!(raw.as_ref(), value.get(key));
                }
            }
        }
    }
}

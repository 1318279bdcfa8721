//! Canonical JSON: the one way an entry is written, so that the same content has the same bytes in
//! every language. A narrow profile of RFC 8785: UTF-8, one line, keys sorted, no spaces, integers only.
//!
//! [`parse`] accepts exactly the bytes that [`Value::to_bytes`] writes and nothing else; it repairs nothing.

use std::collections::BTreeMap;
use thiserror::Error;

/// Integers lie strictly between -MAX_INT and MAX_INT, so that every JSON reader holds them exactly.
pub const MAX_INT: i64 = 1 << 53;

/// Deepest nesting of lists and maps.
pub const MAX_DEPTH: usize = 8;

/// A JSON value of the profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer in (-2^53, 2^53).
    Int(i64),
    /// Any Unicode text.
    Text(String),
    /// An array.
    List(Vec<Value>),
    /// An object. Keys consist of `a-z 0-9 _ . $`.
    Map(BTreeMap<String, Value>),
}

/// Why bytes are not canonical JSON of the profile, or a value cannot be written in it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{reason} at byte {at}")]
pub struct CanonicalError {
    /// What is wrong.
    pub reason: &'static str,
    /// Where in the bytes; for a value that cannot be written, how much was written before it.
    pub at: usize,
}

impl Value {
    /// A map of the given pairs. Later pairs replace earlier ones of the same key.
    #[must_use]
    pub fn map<const N: usize>(pairs: [(&str, Value); N]) -> Self {
        Self::Map(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// Bytes that may not be UTF-8: text where they are, otherwise `{"b64": ...}`.
    #[must_use]
    pub fn bytes(bytes: &[u8]) -> Self {
        use base64::Engine as _;
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::map([(
                "b64",
                Self::Text(base64::engine::general_purpose::STANDARD.encode(bytes)),
            )]),
        }
    }

    /// A 64-bit number: an integer where it fits, otherwise its decimal digits as text.
    #[must_use]
    pub fn number(number: u64) -> Self {
        match i64::try_from(number) {
            Ok(small) if small < MAX_INT => Self::Int(small),
            _ => Self::Text(number.to_string()),
        }
    }

    /// The member of a map; `None` also for anything that is no map.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Map(map) => map.get(key),
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Text(_) | Self::List(_) => None,
        }
    }

    /// The text, if this is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::List(_) | Self::Map(_) => None,
        }
    }

    /// The number, if this is one that is not negative.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Int(int) => u64::try_from(*int).ok(),
            Self::Null | Self::Bool(_) | Self::Text(_) | Self::List(_) | Self::Map(_) => None,
        }
    }

    /// The canonical bytes.
    ///
    /// # Errors
    /// A key outside the alphabet, an integer out of range, or nesting deeper than [`MAX_DEPTH`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, CanonicalError> {
        let mut out = Vec::with_capacity(256);
        write(self, 0, &mut out)?;
        Ok(out)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Int(i64::from(number))
    }
}

fn write(value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
    let refuse = |reason, out: &[u8]| Err(CanonicalError { reason, at: out.len() });
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(int) if *int <= -MAX_INT || *int >= MAX_INT => {
            return refuse("integer out of range", out);
        }
        Value::Int(int) => out.extend_from_slice(int.to_string().as_bytes()),
        Value::Text(text) => write_text(text, out),
        Value::List(_) | Value::Map(_) if depth == MAX_DEPTH => {
            return refuse("nested too deeply", out);
        }
        Value::List(list) => {
            out.push(b'[');
            for (index, item) in list.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, depth + 1, out)?;
            }
            out.push(b']');
        }
        Value::Map(map) => {
            out.push(b'{');
            for (index, (key, item)) in map.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                if !is_key(key) {
                    return refuse("key outside [a-z0-9_.$]", out);
                }
                write_text(key, out);
                out.push(b':');
                write(item, depth + 1, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

pub(crate) fn is_key(key: &str) -> bool {
    !key.is_empty()
        && key.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'$'))
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0..=0x1f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Reads canonical bytes.
///
/// # Errors
/// Anything that [`Value::to_bytes`] would not have written, to the byte.
pub fn parse(bytes: &[u8]) -> Result<Value, CanonicalError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|err| CanonicalError { reason: "not UTF-8", at: err.valid_up_to() })?;
    let mut parser = Parser { text, at: 0 };
    let value = parser.value(0)?;
    if parser.at != bytes.len() {
        return parser.refuse("bytes after the value");
    }
    Ok(value)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn refuse<T>(&self, reason: &'static str) -> Result<T, CanonicalError> {
        Err(CanonicalError { reason, at: self.at })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, literal: &str) -> bool {
        let found = self.text.as_bytes()[self.at..].starts_with(literal.as_bytes());
        if found {
            self.at += literal.len();
        }
        found
    }

    fn value(&mut self, depth: usize) -> Result<Value, CanonicalError> {
        match self.peek() {
            Some(b'n') if self.take("null") => Ok(Value::Null),
            Some(b't') if self.take("true") => Ok(Value::Bool(true)),
            Some(b'f') if self.take("false") => Ok(Value::Bool(false)),
            Some(b'"') => Ok(Value::Text(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.integer(),
            Some(b'[' | b'{') if depth == MAX_DEPTH => self.refuse("nested too deeply"),
            Some(b'[') => self.list(depth),
            Some(b'{') => self.map(depth),
            _ => self.refuse("not a value"),
        }
    }

    fn integer(&mut self) -> Result<Value, CanonicalError> {
        let start = self.at;
        self.take("-");
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        let digits = &self.text[start..self.at];
        match digits.parse::<i64>() {
            // Comparing with what would be written refuses -0, leading zeros and a lone minus.
            Ok(int) if int > -MAX_INT && int < MAX_INT && int.to_string() == digits => {
                Ok(Value::Int(int))
            }
            _ => self.refuse("not an integer of the profile"),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, CanonicalError> {
        self.at += 1;
        let mut list = Vec::new();
        if self.take("]") {
            return Ok(Value::List(list));
        }
        loop {
            list.push(self.value(depth + 1)?);
            if self.take("]") {
                return Ok(Value::List(list));
            }
            if !self.take(",") {
                return self.refuse("expected , or ]");
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, CanonicalError> {
        self.at += 1;
        let mut map = BTreeMap::new();
        if self.take("}") {
            return Ok(Value::Map(map));
        }
        loop {
            if self.peek() != Some(b'"') {
                return self.refuse("expected a key");
            }
            let key = self.string()?;
            if !is_key(&key) {
                return self.refuse("key outside [a-z0-9_.$]");
            }
            if map.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return self.refuse("keys not in ascending order");
            }
            if !self.take(":") {
                return self.refuse("expected :");
            }
            let value = self.value(depth + 1)?;
            map.insert(key, value);
            if self.take("}") {
                return Ok(Value::Map(map));
            }
            if !self.take(",") {
                return self.refuse("expected , or }");
            }
        }
    }

    fn string(&mut self) -> Result<String, CanonicalError> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = &self.text[self.at..];
            let Some(plain) = rest.find(|c: char| c == '"' || c == '\\' || c < ' ') else {
                return self.refuse("unterminated string");
            };
            out.push_str(&rest[..plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                _ => return self.refuse("control character in a string"),
            }
        }
    }

    fn escape(&mut self) -> Result<char, CanonicalError> {
        for (literal, plain) in [
            ("\\\"", '"'),
            ("\\\\", '\\'),
            ("\\b", '\u{8}'),
            ("\\t", '\t'),
            ("\\n", '\n'),
            ("\\f", '\u{c}'),
            ("\\r", '\r'),
        ] {
            if self.take(literal) {
                return Ok(plain);
            }
        }
        for control in (0..0x20u8).filter(|byte| !matches!(byte, 8 | 9 | 10 | 12 | 13)) {
            if self.take(&format!("\\u{control:04x}")) {
                return Ok(char::from(control));
            }
        }
        self.refuse("escape that is not needed or not known")
    }
}

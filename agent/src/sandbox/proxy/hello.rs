//! The name that a TLS client asks for, read from its first message. Nothing is decrypted.

/// Longest first message that is looked at, bytes.
pub(super) const HELLO_MAX: usize = 16 * 1024;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hello {
    /// More must come before it can be said.
    Partial,
    /// A client's first message; with the name it asks for, if it asks for exactly one.
    Client(Option<String>),
    /// Something else.
    Other,
}

/// Reads the bytes that have come so far.
pub(super) fn read(bytes: &[u8]) -> Hello {
    let mut message = Vec::new();
    let mut rest = bytes;
    // A first message may be spread over several records.
    loop {
        if let Some(length) = wanted(&message).filter(|length| message.len() >= *length) {
            return hello(&message[4..length]).unwrap_or(Hello::Other);
        }
        let [kind, major, _, high, low, ..] = *rest else {
            let plausible = rest.first().is_none_or(|kind| *kind == 22);
            return if plausible { Hello::Partial } else { Hello::Other };
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind != 22 || major != 3 || length == 0 {
            return Hello::Other;
        }
        let Some(record) = rest.get(5..5 + length) else { return Hello::Partial };
        message.extend_from_slice(record);
        if message.first() != Some(&1) {
            return Hello::Other;
        }
        rest = &rest[5 + length..];
    }
}

/// Length of the message with its head.
fn wanted(message: &[u8]) -> Option<usize> {
    let [_, a, b, c, ..] = *message else { return None };
    Some(4 + (usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)))
}

/// Cuts pieces off that say their own length first.
struct Pieces<'a>(&'a [u8]);

impl<'a> Pieces<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (piece, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(piece)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    }

    fn piece(&mut self, bytes: usize) -> Option<Pieces<'a>> {
        let count = self.number(bytes)?;
        self.take(count).map(Pieces)
    }
}

fn hello(body: &[u8]) -> Option<Hello> {
    let mut body = Pieces(body);
    body.take(2 + 32)?;
    body.piece(1)?;
    body.piece(2)?;
    body.piece(1)?;
    if body.0.is_empty() {
        return Some(Hello::Client(None));
    }
    let mut extensions = body.piece(2)?;
    let mut name = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let mut content = extensions.piece(2)?;
        if kind != 0 {
            continue;
        }
        let mut list = content.piece(2)?;
        let kind = list.number(1)?;
        let host = list.piece(2)?.0;
        // Two names, or two lists of names, are a trap: who reads on might take the other.
        if kind != 0 || !list.0.is_empty() || !content.0.is_empty() || name.is_some() {
            return None;
        }
        name = Some(String::from_utf8(host.to_ascii_lowercase()).ok()?);
    }
    Some(Hello::Client(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sized(bytes: usize, content: &[u8]) -> Vec<u8> {
        let length = content.len().to_be_bytes();
        [&length[length.len() - bytes..], content].concat()
    }

    /// A first message with these extensions, split into records of at most `record` bytes.
    fn message(extensions: &[u8], record: usize) -> Vec<u8> {
        let body = [
            &[3, 3][..],
            &[7; 32],
            &sized(1, &[9; 32]),
            &sized(2, &[0x13, 1]),
            &sized(1, &[0]),
            &sized(2, extensions),
        ]
        .concat();
        let whole = [&[1][..], &sized(3, &body)].concat();
        whole.chunks(record).flat_map(|part| [&[22, 3, 1][..], &sized(2, part)].concat()).collect()
    }

    fn names(hosts: &[&str]) -> Vec<u8> {
        let list: Vec<u8> =
            hosts.iter().flat_map(|host| [&[0][..], &sized(2, host.as_bytes())].concat()).collect();
        [&[0, 0][..], &sized(2, &sized(2, &list))].concat()
    }

    #[test]
    fn the_name_is_found_however_it_is_split_and_never_before_it_is_there() {
        let other = [&[0, 16][..], &sized(2, b"\0\x03\x02h2")].concat();
        let extensions = [other, names(&["Example.COM"])].concat();
        for record in [5, 64, 4096] {
            let bytes = message(&extensions, record);
            let found = Hello::Client(Some("example.com".to_owned()));
            assert_eq!(read(&bytes), found);
            assert_eq!(read(&[bytes.as_slice(), b"more"].concat()), found);
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes[..end]), Hello::Partial, "{record} {end}");
            }
        }
    }

    #[test]
    fn no_name_two_names_and_other_protocols_are_told_apart() {
        assert_eq!(read(&message(&[], 4096)), Hello::Client(None));
        assert_eq!(read(&message(&names(&["a.example", "b.example"]), 4096)), Hello::Other);
        let twice = [names(&["a.example"]), names(&["b.example"])].concat();
        assert_eq!(read(&message(&twice, 4096)), Hello::Other);
        for text in
            [&b"GET / HTTP/1.1\r\n"[..], b"SSH-2.0-x", b"\x16\x03\x01\0\0", b"\x17\x03\x03\0\x01x"]
        {
            assert_eq!(read(text), Hello::Other, "{text:?}");
        }
    }
}

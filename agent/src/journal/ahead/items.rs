//! What a frame carries: records, and everything that must become durable with them. The store is a fold over
//! items, so applying some of them a second time changes nothing.
//!
//! Each item is a tag of one byte, its length in four bytes (little endian), and its content.

/// One thing to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// The stored bytes of the next record.
    Record(Vec<u8>),
    /// What opens a commitment of the record before.
    Opening(String),
    /// The report of the record before, owed to the gateway.
    Report(Vec<u8>),
    /// The outcome of this attempt was acknowledged.
    Heard(String),
    /// The signed note of the log at its size after this frame.
    Head(String),
    /// A note with the mirror's cosignature, verified.
    Cosigned(String),
    /// The mirror has the openings of all records below this.
    OpeningsStored(u64),
    /// A fact about the log that must outlive the process: name and value.
    Fact(String, String),
}

const RECORD: u8 = 1;
const OPENING: u8 = 2;
const REPORT: u8 = 3;
const HEARD: u8 = 4;
const HEAD: u8 = 5;
const COSIGNED: u8 = 6;
const OPENINGS_STORED: u8 = 7;
const FACT: u8 = 8;

/// Bytes that an item adds beside its content.
pub(crate) const OVERHEAD: usize = 5;

impl Item {
    /// The body, if this is a record.
    pub(crate) fn record(&self) -> Option<&Vec<u8>> {
        if let Self::Record(body) = self { Some(body) } else { None }
    }

    /// Adds the item to a payload.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Record(body) => put(out, RECORD, &[body]),
            Self::Opening(text) => put(out, OPENING, &[text.as_bytes()]),
            Self::Report(bytes) => put(out, REPORT, &[bytes]),
            Self::Heard(key) => put(out, HEARD, &[key.as_bytes()]),
            Self::Head(note) => put(out, HEAD, &[note.as_bytes()]),
            Self::Cosigned(note) => put(out, COSIGNED, &[note.as_bytes()]),
            Self::OpeningsStored(below) => put(out, OPENINGS_STORED, &[&below.to_le_bytes()]),
            Self::Fact(name, value) => put(out, FACT, &[name.as_bytes(), b"=", value.as_bytes()]),
        }
    }
}

fn put(out: &mut Vec<u8>, tag: u8, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.push(tag);
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Reads a payload.
///
/// # Errors
/// It is nothing that [`Item::encode`] wrote.
pub(crate) fn decode(payload: &[u8]) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    let mut rest = payload;
    while let Some((header, after)) = rest.split_first_chunk::<OVERHEAD>() {
        let [tag, a, b, c, d] = *header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let content = after.get(..length).ok_or("an item is longer than its frame")?;
        rest = &after[length..];
        items.push(item(tag, content)?);
    }
    if rest.is_empty() { Ok(items) } else { Err("bytes after the last item".to_owned()) }
}

fn item(tag: u8, content: &[u8]) -> Result<Item, String> {
    let text = || String::from_utf8(content.to_vec()).map_err(|_| "an item is not UTF-8");
    Ok(match tag {
        RECORD => Item::Record(content.to_vec()),
        OPENING => Item::Opening(text()?),
        REPORT => Item::Report(content.to_vec()),
        HEARD => Item::Heard(text()?),
        HEAD => Item::Head(text()?),
        COSIGNED => Item::Cosigned(text()?),
        OPENINGS_STORED => {
            let bytes = content.try_into().map_err(|_| "a number has 8 bytes")?;
            Item::OpeningsStored(u64::from_le_bytes(bytes))
        }
        FACT => {
            let text = text()?;
            let (name, value) = text.split_once('=').ok_or("a fact without a value")?;
            Item::Fact(name.to_owned(), value.to_owned())
        }
        unknown => return Err(format!("an item of unknown kind {unknown}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back_as_they_were_and_nothing_else_is_read() {
        let items = [
            Item::Record(b"{}".to_vec()),
            Item::Opening("o".into()),
            Item::Report(vec![0, 255]),
            Item::Heard("w/t/1".into()),
            Item::Head("n".into()),
            Item::Cosigned("c".into()),
            Item::OpeningsStored(7),
            Item::Fact("a".into(), "b=c".into()),
        ];
        let mut payload = Vec::new();
        items.iter().for_each(|item| item.encode(&mut payload));
        assert_eq!(decode(&payload).unwrap(), items);
        assert!(decode(&payload[..payload.len() - 1]).is_err());
        assert!(decode(&[9, 0, 0, 0, 0]).is_err());
        assert!(decode(&[7, 1, 0, 0, 0, 1]).is_err());
        assert!(decode(&[2, 1, 0, 0, 0, 0xff]).is_err());
    }
}

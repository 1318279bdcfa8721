//! Records for people and programs: what stands in them, and the values behind their commitments where the node still
//! has them.

use super::error::OpenError;
use super::inspect::{Reader, Stored};
use cortex_audit::{Envelope, Leaf, Opening, Value, record};
use cortex_model::text::{hides, visible};
use std::path::Path;

/// A record with its openings.
#[derive(Debug)]
pub struct Shown {
    /// Number of the record.
    pub seq: u64,
    leaf: Leaf,
    body: Vec<u8>,
    envelope: Option<Envelope>,
    /// Commitment, and name and value where they are still there.
    openings: Vec<(String, Option<(String, Value)>)>,
}

/// Hands out the newest `last` records, oldest first.
///
/// # Errors
/// The journal cannot be read.
pub fn show(dir: &Path, last: u64, mut each: impl FnMut(Shown)) -> Result<(), OpenError> {
    let reader = Reader::open(dir)?;
    let failed = |err: redb::Error| OpenError::from_redb(dir, err);
    let mut result = Ok(());
    let from = reader.size().saturating_sub(last);
    let walked = reader.each(from, |stored| match shown(&reader, stored) {
        Ok(record) => {
            each(record);
            true
        }
        Err(err) => {
            result = Err(err);
            false
        }
    });
    walked.and(result).map_err(failed)
}

fn shown(reader: &Reader, stored: Stored) -> Result<Shown, redb::Error> {
    let Stored { seq, body } = stored;
    let envelope = Envelope::parse(&body).ok();
    let mut commitments = Vec::new();
    if let Some(envelope) = &envelope {
        record::commitments(&envelope.data, &mut commitments);
    }
    let there = reader.openings(seq)?;
    let there: Vec<Opening> = there.into_iter().map(Opening::from_stored).collect();
    let openings = commitments.into_iter().map(|commitment| {
        let opening = there.iter().find(|opening| opening.commitment() == commitment);
        (commitment.as_str().to_owned(), opening.and_then(Opening::reveal))
    });
    let openings = openings.collect();
    Ok(Shown { seq, leaf: Leaf::of(&body), body, envelope, openings })
}

impl Shown {
    /// A field of the record's data.
    #[must_use]
    pub fn data(&self, name: &str) -> Option<&Value> {
        self.envelope.as_ref()?.data.get(name)
    }

    /// One line of JSON.
    #[must_use]
    pub fn json(&self) -> String {
        let parse = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).ok();
        let openings = self.openings.iter().map(|(commitment, opening)| {
            let (name, value) = opening.clone().unzip();
            let value = value.and_then(|value| parse(&value.to_bytes().ok()?));
            serde_json::json!({ "commitment": commitment, "name": name, "value": value })
        });
        let openings: Vec<_> = openings.collect();
        let (seq, leaf) = (self.seq, self.leaf.to_string());
        let line = serde_json::json!({
            "seq": seq, "leaf": leaf, "record": parse(&self.body), "openings": openings,
        });
        format!("{line}\n")
    }

    /// Some lines of text.
    #[must_use]
    pub fn text(&self) -> String {
        let Some(envelope) = &self.envelope else {
            return format!("{:>6}  NOT A RECORD OF THIS FORMAT\n", self.seq);
        };
        let mut text = format!("{:>6}  {}  {}\n", self.seq, envelope.at, envelope.kind);
        if let Value::Map(data) = &envelope.data {
            for (name, value) in data {
                self.field(&mut text, name, value);
            }
        }
        text
    }

    fn field(&self, text: &mut String, name: &str, value: &Value) {
        match value {
            Value::Null => {}
            Value::Map(inner) => match value.get("$c").and_then(Value::as_text) {
                Some(commitment) => {
                    let opening = self.openings.iter().find(|(of, _)| of == commitment);
                    let shown = match opening.and_then(|(_, opening)| opening.as_ref()) {
                        Some((_, value)) => plain(value),
                        None => "(not kept on this node)".to_owned(),
                    };
                    text.push_str(&format!("          {name}: {shown}\n"));
                }
                None => inner
                    .iter()
                    .for_each(|(inner, value)| self.field(text, &format!("{name}.{inner}"), value)),
            },
            Value::Bool(_) | Value::Int(_) | Value::Text(_) | Value::List(_) => {
                text.push_str(&format!("          {name}: {}\n", plain(value)));
            }
        }
    }
}

/// A value in one line: JSON, unless it is a text that needs no escapes. What JSON leaves as it is and a terminal obeys is written out.
fn plain(value: &Value) -> String {
    if let Value::Text(text) = value
        && !text.chars().any(hides)
    {
        return text.clone();
    }
    let bytes = value.to_bytes().unwrap_or_default();
    visible(&String::from_utf8_lossy(&bytes))
}

//! Compares each example with its golden file.

use crate::{audit, blessing, durable, folder, frames, hex, registry};
use prost::Message;
use std::fmt::Debug;

/// An example as the rest of this test needs it: its name, its bytes today, and how old bytes read.
pub(crate) struct Example {
    name: &'static str,
    bytes: Vec<u8>,
    compare: Compare,
}

/// What is wrong with these bytes, if anything.
type Compare = Box<dyn Fn(&[u8]) -> Option<String>>;

/// Makes an example of any message. Maps are ordered in the generated code and nothing here has
/// fields that are unknown, so encoding again must give the same bytes.
pub(crate) fn example<M>(name: &'static str, value: M) -> Example
where
    M: Message + Default + PartialEq + Debug + 'static,
{
    let bytes = value.encode_to_vec();
    let compare = move |old: &[u8]| match M::decode(old) {
        Err(why) => Some(format!("cannot be read: {why}")),
        Ok(read) if read != value => Some(format!("reads as\n{read:#?}\nnot as\n{value:#?}")),
        Ok(read) if read.encode_to_vec() != old => Some("encodes to other bytes".to_owned()),
        Ok(_) => None,
    };
    Example { name, bytes, compare: Box::new(compare) }
}

fn all() -> Vec<Example> {
    let mut all = durable::examples();
    all.extend(frames::examples());
    all.extend(registry::examples());
    all.extend(audit::examples());
    all
}

#[test]
fn old_bytes_read_as_what_they_meant() {
    let mut wrong = Vec::new();
    for example in all() {
        let file = folder().join(format!("{}.hex", example.name));
        if !file.exists() && blessing() {
            std::fs::write(&file, hex::encode(&example.bytes)).unwrap();
        }
        let why = match std::fs::read_to_string(&file) {
            Err(why) => Some(format!("{why}; a new example is stored with CORTEX_BLESS=1")),
            Ok(text) => hex::decode(&text)
                .map_or(Some("is not hex".to_owned()), |bytes| (example.compare)(&bytes)),
        };
        wrong.extend(why.map(|why| format!("{}: {why}", example.name)));
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_golden_file_has_its_example() {
    let names: Vec<_> = all().iter().map(|e| format!("{}.hex", e.name)).collect();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(!name.ends_with(".hex") || names.contains(&name), "{name} is read by no example");
    }
}

#[test]
fn a_changed_byte_is_noticed() {
    for example in all() {
        assert_eq!((example.compare)(&example.bytes), None, "{}", example.name);
        let mut cut = example.bytes.clone();
        cut.pop();
        assert!((example.compare)(&cut).is_some(), "{}: a byte less", example.name);
        let mut more = example.bytes.clone();
        // Field 999, a varint: what a newer version might add, and this one does not know.
        more.extend([0xb8, 0x3e, 0x01]);
        assert!((example.compare)(&more).is_some(), "{}: a field more", example.name);
    }
}

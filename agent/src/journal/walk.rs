//! Walking the stored chain, from its beginning or from a place that something else vouches for.

use super::tables::{OPEN, RECORDS};
use cortex_audit::{ChainChecker, Envelope, Head, Leaf};
use redb::{ReadTransaction, ReadableTable};
use std::collections::BTreeMap;

/// Walks from record `start` to the end. The inner error says what is wrong.
pub(crate) fn walk(
    read: &ReadTransaction,
    start: u64,
) -> Result<Result<ChainChecker, String>, redb::Error> {
    let records = read.open_table(RECORDS)?;
    let Some(size) = records.last()?.map(|(seq, _)| seq.value() + 1) else {
        return Ok(Err("it has no records".to_owned()));
    };
    let start = start.min(size);
    let mut checker = ChainChecker::new();
    if start > 0 {
        let leaf_of = |seq: u64| -> Result<Option<Leaf>, redb::Error> {
            Ok(records.get(seq)?.map(|body| Leaf::of(body.value())))
        };
        let (Some(log), Some(leaf)) = (leaf_of(0)?, leaf_of(start - 1)?) else {
            return Ok(Err(format!("record {} is missing", start - 1)));
        };
        // Intents from before the walk that were answered within it, or never.
        let mut open = BTreeMap::new();
        for row in ReadableTable::range(&records, start..)? {
            let intent = Envelope::parse(row?.1.value()).ok();
            let intent = intent.and_then(|record| record.data.get("intent")?.as_u64());
            if let Some(seq) = intent.filter(|seq| *seq < start)
                && let Some(leaf) = leaf_of(seq)?
            {
                open.insert(seq, leaf);
            }
        }
        for row in ReadableTable::range(&read.open_table(OPEN)?, ..start)? {
            let seq = row?.0.value();
            if let Some(leaf) = leaf_of(seq)? {
                open.insert(seq, leaf);
            }
        }
        checker = ChainChecker::resume(Head { log, size: start, leaf }, open);
    }
    for row in ReadableTable::range(&records, start..)? {
        let (seq, body) = row?;
        if let Err(why) = checker.push(body.value()) {
            return Ok(Err(why.to_string()));
        }
        if checker.head().is_some_and(|head| head.size != seq.value() + 1) {
            return Ok(Err(format!("record {} is missing", seq.value())));
        }
    }
    Ok(Ok(checker))
}

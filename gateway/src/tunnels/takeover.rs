//! What is known of a node's journal when its connection changes. Pure: it compares, and stores nothing.

use cortex_model::proto as pb;

/// The newest journal entry of a node that says hello: its own, or what was seen before in the same life of its journal.
pub(super) fn newest(hello: &pb::NodePresence, before: &pb::NodePresence) -> pb::JournalHead {
    let mut head = hello.journal.clone().unwrap_or_default();
    let seen = before.journal.clone();
    let left = pb::SeatLeft { journal: seen, incarnation: before.incarnation.clone() };
    raise(&mut head, &hello.incarnation, left);
    head
}

/// Takes over what an older connection saw. A journal that is shorter than it was has lost entries: the node's word that
/// something never started is not taken until it has grown again.
pub(super) fn raise(head: &mut pb::JournalHead, incarnation: &str, left: pb::SeatLeft) {
    if left.incarnation != incarnation {
        return;
    }
    if let Some(seen) = left.journal.filter(|seen| seen.size > head.size) {
        head.size = seen.size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(size: u64) -> Option<pb::JournalHead> {
        Some(pb::JournalHead { size, ..pb::JournalHead::default() })
    }

    fn node(incarnation: &str, size: u64) -> pb::NodePresence {
        let journal = head(size);
        pb::NodePresence { incarnation: incarnation.into(), journal, ..Default::default() }
    }

    #[test]
    fn the_longest_journal_of_the_same_life_counts() {
        for (hello, before, expected) in [
            (node("a", 5), node("a", 3), 5),
            (node("a", 3), node("a", 5), 5),
            (node("a", 3), node("b", 5), 3),
            (node("a", 3), pb::NodePresence::default(), 3),
        ] {
            assert_eq!(newest(&hello, &before).size, expected, "{hello:?} {before:?}");
        }
    }
}

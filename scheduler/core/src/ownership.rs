//! Which scheduler dispatches which shard: rendezvous hashing over whoever is heard. No lease and no leader:
//! disagreement wastes offers and never runs a task twice, because claims are fenced.

use std::collections::BTreeSet;

/// The shards, out of `shards`, for which `me` has the highest hash among `heard` (which includes `me`).
#[must_use]
pub fn owned_shards(me: &str, heard: &BTreeSet<String>, shards: u32) -> BTreeSet<u32> {
    (0..shards)
        .filter(|s| heard.iter().max_by_key(|n| weight(n, *s)).is_none_or(|n| n == me))
        .collect()
}

fn weight(scheduler: &str, shard: u32) -> [u8; 32] {
    let mut h = blake3::Hasher::new();
    h.update(scheduler.as_bytes()).update(&[0]).update(&shard.to_be_bytes());
    *h.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_has_one_owner_and_only_those_of_a_lost_scheduler_move() {
        let all: BTreeSet<String> = ["a", "b", "c"].map(String::from).into();
        let owners = |heard: &BTreeSet<String>| -> Vec<Vec<String>> {
            let of = |s| {
                heard.iter().filter(|n| owned_shards(n, heard, 64).contains(&s)).cloned().collect()
            };
            (0..64).map(of).collect()
        };
        let before = owners(&all);
        let after = owners(&all.iter().filter(|n| *n != "b").cloned().collect());
        for (was, is) in before.iter().zip(&after) {
            assert_eq!((was.len(), is.len()), (1, 1));
            assert!(was == is || was[0] == "b");
        }
    }
}

//! Offers that are open on one connection and the claims made of them, on either side. An offer is
//! claimed at most once and a claim is answered at most once; nothing here outlives the connection.

use cortex_model::AttemptKey;
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offered {
    pub(crate) key: AttemptKey,
    pub(crate) fence: u64,
    claimed: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Offers {
    open: BTreeMap<u64, Offered>,
    claims: usize,
}

impl Offers {
    /// Remembers an offer. False if its id is in use.
    pub(crate) fn insert(&mut self, id: u64, key: AttemptKey, fence: u64) -> bool {
        if self.open.contains_key(&id) {
            return false;
        }
        self.open.insert(id, Offered { key, fence, claimed: false });
        true
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(crate) fn claims(&self) -> usize {
        self.claims
    }

    /// The offer, as long as nobody claimed it.
    pub(crate) fn unclaimed(&self, id: u64) -> Option<&Offered> {
        self.open.get(&id).filter(|offered| !offered.claimed)
    }

    /// The offer turns into a claim. False if there is none that could.
    pub(crate) fn claim(&mut self, id: u64) -> bool {
        let Some(offered) = self.open.get_mut(&id).filter(|offered| !offered.claimed) else {
            return false;
        };
        offered.claimed = true;
        self.claims += 1;
        true
    }

    /// The claim, as long as nobody answered it.
    pub(crate) fn claimed(&self, id: u64) -> Option<&Offered> {
        self.open.get(&id).filter(|offered| offered.claimed)
    }

    pub(crate) fn remove(&mut self, id: u64) -> Option<Offered> {
        let offered = self.open.remove(&id)?;
        self.claims -= usize::from(offered.claimed);
        Some(offered)
    }

    /// Takes the offer out if `ours`, and gives its key.
    pub(crate) fn remove_if(&mut self, ours: bool, id: u64) -> Option<AttemptKey> {
        if !ours {
            return None;
        }
        self.remove(id).map(|offered| offered.key)
    }

    /// Whether a claim of this attempt waits. Looks through all, so only for rare questions.
    pub(crate) fn is_claiming(&self, key: &AttemptKey) -> bool {
        self.open.values().any(|offered| offered.claimed && offered.key == *key)
    }

    /// Forgets all and returns the claims.
    pub(crate) fn drain_claims(&mut self) -> impl Iterator<Item = (u64, AttemptKey)> {
        self.claims = 0;
        std::mem::take(&mut self.open)
            .into_iter()
            .filter(|(_, offered)| offered.claimed)
            .map(|(id, offered)| (id, offered.key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;

    fn key(attempt: u32) -> AttemptKey {
        frame::key("offer", "w", "t", attempt).unwrap()
    }

    #[test]
    fn an_offer_is_claimed_once_and_a_claim_is_answered_once() {
        let mut offers = Offers::default();
        let key = key(1);
        assert!(offers.insert(7, key.clone(), 3));
        assert!(!offers.insert(7, key.clone(), 3), "the id is in use");
        assert!(offers.claimed(7).is_none());
        assert!(offers.claim(7));
        assert!(!offers.claim(7));
        assert!(offers.unclaimed(7).is_none());
        assert!(offers.is_claiming(&key));
        assert_eq!(offers.claims(), 1);
        assert_eq!(offers.remove(7).map(|offered| offered.fence), Some(3));
        assert_eq!(offers.remove(7), None);
        assert_eq!(offers.claims(), 0);
        assert!(offers.is_empty());
    }

    #[test]
    fn only_claims_are_returned_when_the_connection_ends() {
        let mut offers = Offers::default();
        for id in 1..=4 {
            assert!(offers.insert(id, key(id as u32), 1));
        }
        assert!(offers.claim(2) && offers.claim(4));
        let ids: Vec<u64> = offers.drain_claims().map(|(id, _)| id).collect();
        assert_eq!(ids, [2, 4]);
        assert!(offers.is_empty());
    }
}

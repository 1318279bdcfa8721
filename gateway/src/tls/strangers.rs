//! How many connections an address holds that showed no node's certificate. Their handshakes are done, so each costs a file
//! descriptor for as long as its owner likes; nodes are known one by one and do not count.

use super::crowd::counted;
use cortex_model::limits::enrol::STRANGERS_PER_ADDRESS_MAX;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection that counts, until it is dropped.
#[derive(Debug)]
pub(super) struct Stranger {
    all: Arc<Strangers>,
    address: IpAddr,
}

impl Strangers {
    /// One more from an address; none when that has as many as it may.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Stranger> {
        let address = counted(address);
        let mut by_address = self.lock();
        let held = by_address.entry(address).or_default();
        if *held >= STRANGERS_PER_ADDRESS_MAX {
            return None;
        }
        *held += 1;
        Some(Stranger { all: self.clone(), address })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut by_address = self.all.lock();
        if let Some(held) = by_address.get_mut(&self.address) {
            *held -= 1;
            if *held == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_holds_so_many_and_room_comes_back() {
        let strangers = Arc::new(Strangers::default());
        let (one, other): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        let mut held: Vec<_> =
            (0..STRANGERS_PER_ADDRESS_MAX).map(|_| strangers.enter(one)).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(strangers.enter(one).is_none() && strangers.enter(other).is_some());
        held.pop();
        assert!(strangers.enter(one).is_some());
        drop(held);
        assert!(strangers.lock().is_empty(), "what is counted is forgotten");
    }
}

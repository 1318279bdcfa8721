//! Who is shaking hands at present, and who must go when there are too many: the oldest of the address that has too many, else
//! the oldest of all. An honest handshake takes milliseconds, so whoever holds one open for long makes room first.

use cortex_model::limits::identity::{HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    next: u64,
    all: BTreeMap<u64, IpAddr>,
    by_address: HashMap<IpAddr, BTreeSet<u64>>,
}

impl Crowd {
    /// One more begins. Its number, and the number of the one that must go for it.
    pub(super) fn enter(&mut self, address: IpAddr) -> (u64, Option<u64>) {
        let address = counted(address);
        let same = self.by_address.get(&address);
        let out = match same {
            Some(same) if same.len() >= HANDSHAKES_PER_ADDRESS_MAX => same.first().copied(),
            _ if self.all.len() >= HANDSHAKES_MAX => self.all.keys().next().copied(),
            _ => None,
        };
        if let Some(out) = out {
            self.leave(out);
        }
        self.next += 1;
        self.all.insert(self.next, address);
        self.by_address.entry(address).or_default().insert(self.next);
        (self.next, out)
    }

    /// One has ended. Leaving twice is fine.
    pub(super) fn leave(&mut self, number: u64) {
        let Some(address) = self.all.remove(&number) else { return };
        if let Some(same) = self.by_address.get_mut(&address) {
            same.remove(&number);
            if same.is_empty() {
                self.by_address.remove(&address);
            }
        }
    }
}

/// Whoever has one IPv6 address has a /64 of them.
pub(crate) fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let bits = u128::from(v6) & !u128::from(u64::MAX);
            IpAddr::V6(bits.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::V4((0x7f00_0000 + n).into())
    }

    #[test]
    fn one_address_pushes_out_its_own_first() {
        let mut crowd = Crowd::default();
        let (other, _) = crowd.enter(address(1));
        let (first, _) = crowd.enter(address(2));
        for _ in 1..HANDSHAKES_PER_ADDRESS_MAX {
            assert_eq!(crowd.enter(address(2)).1, None);
        }
        assert_eq!(crowd.enter(address(2)).1, Some(first));
        assert!(crowd.all.contains_key(&other));
    }

    #[test]
    fn many_addresses_push_out_the_oldest_and_nothing_is_left_behind() {
        let mut crowd = Crowd::default();
        for n in 0..10_000 {
            crowd.enter(address(n));
            assert!(crowd.all.len() <= HANDSHAKES_MAX && crowd.by_address.len() <= HANDSHAKES_MAX);
        }
        let (newest, out) = crowd.enter(address(77));
        assert!(out.is_some_and(|out| out < newest));
        let numbers: Vec<u64> = crowd.all.keys().copied().collect();
        for number in numbers {
            crowd.leave(number);
            crowd.leave(number);
        }
        assert!(crowd.all.is_empty() && crowd.by_address.is_empty());
    }

    #[test]
    fn addresses_of_one_network_of_the_new_protocol_count_as_one() {
        let a: IpAddr = "2001:db8:1:2::1".parse().unwrap();
        let b: IpAddr = "2001:db8:1:2:ffff::9".parse().unwrap();
        let c: IpAddr = "2001:db8:1:3::1".parse().unwrap();
        assert_eq!(counted(a), counted(b));
        assert_ne!(counted(a), counted(c));
        assert_eq!(counted("::ffff:127.0.0.1".parse().unwrap()), address(1));
    }
}

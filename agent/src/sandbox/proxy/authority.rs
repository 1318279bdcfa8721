//! Which host is meant, and whether the policy lists it. Strict: what could be read in two ways is refused, because
//! whoever resolves it might read it the other way.

use cortex_agent_core::plan::HostPort;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest name of a host.
const NAME_MAX: usize = 253;
/// Longest part of one.
const LABEL_MAX: usize = 63;

/// A host that was named, in the one way it can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// Lower case, without a dot at the end.
    Name(String),
    /// Written out as an address.
    Address(IpAddr),
}

/// Reads `host:port`, as CONNECT has it.
pub(super) fn authority(text: &str) -> Option<(Host, u16)> {
    let (name, port) = text.rsplit_once(':')?;
    Some((host(name)?, number(port)?))
}

/// Reads `host` or `host:port`, as a URL or a `Host` line has it.
pub(super) fn authority_or(text: &str, default: u16) -> Option<(Host, u16)> {
    let bracket = text.ends_with(']');
    if bracket || !text.contains(':') {
        return Some((host(text)?, default));
    }
    authority(text)
}

fn number(text: &str) -> Option<u16> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = plain.then(|| text.parse().ok())??;
    (port != 0).then_some(port)
}

fn host(text: &str) -> Option<Host> {
    if let Some(inner) = text.strip_prefix('[') {
        let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
        return Some(Host::Address(IpAddr::V6(address)));
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let good = |label: &str| {
        let plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        !label.is_empty() && label.len() <= LABEL_MAX && label.bytes().all(plain)
    };
    if name.len() > NAME_MAX || !name.split('.').all(good) {
        return None;
    }
    // Resolvers read 127.1, 0x7f.1, 2130706433 and 0177.0.0.1 as addresses. Only the plain form is one here.
    let last = name.rsplit('.').next()?;
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    if numeric {
        let address: Ipv4Addr = name.parse().ok()?;
        return Some(Host::Address(IpAddr::V4(address)));
    }
    Some(Host::Name(name))
}

/// Whether the policy lists it.
pub(super) fn is_listed(allow: &[HostPort], host: &Host, port: u16) -> bool {
    allow.iter().filter(|entry| entry.port == port).any(|entry| match host {
        Host::Address(address) => entry.host.parse() == Ok(*address),
        Host::Name(name) => match entry.host.strip_prefix("*.") {
            Some(parent) => name.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.')),
            None => entry.host == *name,
        },
    })
}

/// Whether an address belongs to the public network. What is private to a machine, a network or a provider does not:
/// a name that leads there would lead around the sandbox.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => public_v4(address),
        IpAddr::V6(address) => public_v6(address),
    }
}

fn public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19));
    !special
}

fn public_v6(address: Ipv6Addr) -> bool {
    let parts = address.segments();
    // Addresses of the older kind in the clothes of the newer: mapped, compatible, translated, 6to4, Teredo.
    let carries_v4 = parts[..5] == [0; 5]
        || parts[..6] == [0x64, 0xff9b, 0, 0, 0, 0]
        || parts[..3] == [0x64, 0xff9b, 1]
        || parts[0] == 0x2002
        || parts[..2] == [0x2001, 0];
    let global = (parts[0] & 0xe000) == 0x2000;
    let documentation = parts[..2] == [0x2001, 0xdb8] || parts[0] == 0x3fff;
    global && !carries_v4 && !documentation
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Host {
        Host::Name(text.to_owned())
    }

    #[test]
    fn a_host_is_read_in_one_way_or_not_at_all() {
        assert_eq!(authority("Example.COM.:443"), Some((name("example.com"), 443)));
        assert_eq!(authority("a_b.c-d.e:1"), Some((name("a_b.c-d.e"), 1)));
        let v4 = Host::Address("93.184.216.34".parse().unwrap());
        assert_eq!(authority("93.184.216.34:80"), Some((v4, 80)));
        let v6 = Host::Address("2606:4700::1".parse().unwrap());
        assert_eq!(authority("[2606:4700::1]:443"), Some((v6, 443)));
        for text in [
            "",
            ":443",
            "example.com",
            "example.com:",
            "example.com:0",
            "example.com:65536",
            "example.com:+443",
            "example.com:443 ",
            "exa mple.com:443",
            "example..com:443",
            ".example.com:443",
            "example.com..:443",
            "ex\0ample.com:443",
            "ex%00.com:443",
            "user@example.com:443",
            "b\u{fc}cher.example:443",
            "example.com\r\n:443",
            "127.1:443",
            "2130706433:443",
            "0x7f000001:443",
            "0x7f.0.0.1:443",
            "0177.0.0.1:443",
            "1.2.3.4.5:443",
            "a.0x7f:443",
            "::1:443",
            "[::1:443",
            "[fe80::1%eth0]:443",
            "a/b:443",
        ] {
            assert_eq!(authority(text), None, "{text:?}");
        }
        assert_eq!(authority_or("example.com", 80), Some((name("example.com"), 80)));
        assert_eq!(authority_or("example.com:81", 80), Some((name("example.com"), 81)));
    }

    #[test]
    fn names_match_by_whole_parts_and_addresses_only_when_listed() {
        let entry = |host: &str, port| HostPort { host: host.to_owned(), port };
        let allow =
            [entry("example.com", 443), entry("*.example.org", 443), entry("192.0.2.7", 80)];
        let listed = |host: &str, port| is_listed(&allow, &name(host), port);
        assert!(listed("example.com", 443) && listed("a.example.org", 443));
        assert!(listed("a.b.example.org", 443));
        for (host, port) in [
            ("example.com", 80),
            ("a.example.com", 443),
            ("evilexample.com", 443),
            ("example.org", 443),
            ("evilexample.org", 443),
            ("example.com.evil.net", 443),
        ] {
            assert!(!listed(host, port), "{host}");
        }
        assert!(is_listed(&allow, &Host::Address("192.0.2.7".parse().unwrap()), 80));
        assert!(!is_listed(&allow, &Host::Address("::ffff:192.0.2.7".parse().unwrap()), 80));
        assert!(!is_listed(&allow, &Host::Address("192.0.2.8".parse().unwrap()), 80));
    }

    #[test]
    fn only_the_public_network_is_public() {
        for address in ["93.184.216.34", "1.1.1.1", "2606:4700::1111", "2a00:1450::1"] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "127.0.0.1",
            "127.8.8.8",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.0.192",
            "192.88.99.1",
            "203.0.113.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:93.184.216.34",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001:0:1::",
            "2001:db8::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }
}

//! Prefix VIPs: which addresses they hold, which of them wins, what nested ones inherit.
//!
//! The packet path finds the longest prefix that holds an address and asks for that one's port, then for its every port; it does
//! not ask shorter prefixes around it. What these serve is therefore entered under the longer one too, where that says nothing of
//! its own: an address's services do not end where a more particular prefix begins.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::model::{Protocol, ServiceKey};

/// Most addresses of one prefix that are announced when it comes: a /24's or a /120's. Of a larger one none is: it is routed to
/// us as a rule, and neighbours that do share a link with it ask.
pub const ANNOUNCED_MAX: u32 = 256;

/// The network address of a prefix: all bits behind its length are zero.
pub fn network(address: IpAddr, len: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => Ipv4Addr::from_bits(a.to_bits() & !u32::MAX.checked_shr(len.into()).unwrap_or(0)).into(),
        IpAddr::V6(a) => Ipv6Addr::from_bits(a.to_bits() & !u128::MAX.checked_shr(len.into()).unwrap_or(0)).into(),
    }
}

/// Whether the prefix holds the address.
pub fn holds(prefix: (IpAddr, u8), address: IpAddr) -> bool {
    prefix.0.is_ipv4() == address.is_ipv4() && network(address, prefix.1) == network(prefix.0, prefix.1)
}

/// Length of a whole address, bits.
pub const fn full_length(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The addresses of a VIP that are announced when it comes.
pub fn announced(key: &ServiceKey) -> Vec<IpAddr> {
    let Some(len) = key.prefix else { return vec![key.vip] };
    let bits = u32::from(full_length(key.vip).saturating_sub(len));
    let count = 1_u32.checked_shl(bits).filter(|count| *count <= ANNOUNCED_MAX).unwrap_or(0);
    let nth = |n: u32| match key.vip {
        IpAddr::V4(a) => IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() | n)),
        IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() | u128::from(n))),
    };
    (0..count).map(nth).collect()
}

/// What longer prefixes inherit from shorter ones: the key under which a service is entered as well, and the service's own key.
pub fn inherited(keys: &[ServiceKey]) -> Vec<(ServiceKey, ServiceKey)> {
    let prefixes: BTreeSet<(IpAddr, u8)> = keys.iter().filter_map(|k| Some((k.vip, k.prefix?))).collect();
    let mut inherited = Vec::new();
    for inner in &prefixes {
        let mut around: Vec<_> = prefixes.iter().filter(|o| o.1 < inner.1 && holds(**o, inner.0)).collect();
        around.sort_by_key(|(_, len)| std::cmp::Reverse(*len));
        if around.is_empty() {
            continue;
        }
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let at = |p: (IpAddr, u8)| {
                keys.iter().filter(move |k| (k.vip, k.prefix, k.protocol) == (p.0, Some(p.1), protocol))
            };
            let mut ports: BTreeSet<u16> = at(*inner).map(|k| k.port).collect();
            for outer in &around {
                // Every port of the longer one leaves nothing to the shorter.
                if ports.contains(&0) {
                    break;
                }
                let new: Vec<_> = at(**outer).filter(|k| !ports.contains(&k.port)).collect();
                ports.extend(new.iter().map(|k| k.port));
                let entered = |k: &ServiceKey| ServiceKey { vip: inner.0, prefix: Some(inner.1), ..*k };
                inherited.extend(new.into_iter().map(|k| (entered(k), *k)));
            }
        }
    }
    inherited
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(vip: &str, prefix: u8, port: u16) -> ServiceKey {
        let vip = vip.parse().expect("an address");
        ServiceKey { vip, prefix: Some(prefix), port, protocol: Protocol::Tcp }
    }

    #[test]
    fn a_prefix_holds_its_own_addresses_and_no_others_of_either_family() {
        let v4 = ("203.0.113.0".parse().expect("an address"), 24);
        assert!(holds(v4, "203.0.113.255".parse().expect("an address")));
        assert!(!holds(v4, "203.0.114.0".parse().expect("an address")));
        assert!(!holds(v4, "2001:db8::1".parse().expect("an address")));
        let v6 = ("2001:db8:8000::".parse().expect("an address"), 33);
        assert!(holds(v6, "2001:db8:ffff::1".parse().expect("an address")));
        assert!(!holds(v6, "2001:db8:7fff::1".parse().expect("an address")));
    }

    #[test]
    fn a_longer_prefix_inherits_ports_that_it_does_not_serve_itself() {
        let keys = [key("10.0.0.0", 8, 80), key("10.0.0.0", 8, 443), key("10.1.0.0", 16, 80)];
        assert_eq!(inherited(&keys), [(key("10.1.0.0", 16, 443), keys[1])]);
    }

    #[test]
    fn every_port_of_a_longer_prefix_leaves_nothing_to_shorter_ones() {
        let keys = [key("10.0.0.0", 8, 80), key("10.1.0.0", 16, 0), key("10.1.1.0", 24, 443)];
        assert_eq!(inherited(&keys), [(key("10.1.1.0", 24, 0), keys[1])]);
    }

    #[test]
    fn the_addresses_of_a_small_prefix_are_announced_and_of_a_large_one_none() {
        assert_eq!(announced(&key("203.0.113.0", 30, 80)).len(), 4);
        assert_eq!(announced(&key("203.0.113.0", 24, 80)).last(), Some(&IpAddr::from([203, 0, 113, 255])));
        assert_eq!(announced(&key("203.0.112.0", 23, 80)), Vec::<IpAddr>::new());
        assert_eq!(announced(&key("2001:db8::", 64, 80)), Vec::<IpAddr>::new());
    }
}

//! What of this host a configuration is checked against.

use std::ops::RangeInclusive;

/// This host's settings, as far as the configuration must agree with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Ports that this host's own sockets are given (`net.ipv4.ip_local_port_range`).
    pub local_ports: RangeInclusive<u16>,
    /// Ports that they are never given (`net.ipv4.ip_local_reserved_ports`).
    pub reserved_ports: Vec<RangeInclusive<u16>>,
}

impl Default for Environment {
    /// Linux's own defaults (Documentation/networking/ip-sysctl.rst).
    fn default() -> Self {
        Self { local_ports: 32_768..=60_999, reserved_ports: Vec::new() }
    }
}

impl Environment {
    /// Reads this host's settings; what cannot be read has Linux's default.
    pub fn read() -> Self {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
        let mut environment = Self::default();
        let range = read("ip_local_port_range");
        let mut ends = range.split_whitespace().filter_map(|end| end.parse().ok());
        if let (Some(first), Some(last)) = (ends.next(), ends.next()) {
            environment.local_ports = first..=last;
        }
        environment.reserved_ports = port_list(&read("ip_local_reserved_ports"));
        environment
    }

    /// Whether this host's own sockets may be given the port.
    pub fn is_local(&self, port: u16) -> bool {
        self.local_ports.contains(&port) && !self.reserved_ports.iter().any(|reserved| reserved.contains(&port))
    }

    /// The longest run of unprivileged ports that no local socket is given; `None` where there is none.
    pub fn longest_free_ports(&self) -> Option<RangeInclusive<u16>> {
        let mut longest: Option<RangeInclusive<u16>> = None;
        let mut run: Option<u16> = None;
        for port in 1024..=u16::MAX {
            let start = if self.is_local(port) { None } else { Some(run.unwrap_or(port)) };
            run = start;
            let Some(start) = start else { continue };
            if longest.as_ref().is_none_or(|best| port - start > best.end() - best.start()) {
                longest = Some(start..=port);
            }
        }
        longest
    }
}

/// The kernel's list form: `8080,9000-9100`. What it cannot mean is left out.
fn port_list(text: &str) -> Vec<RangeInclusive<u16>> {
    text.trim()
        .split(',')
        .filter_map(|item| match item.split_once('-') {
            Some((first, last)) => Some(first.parse().ok()?..=last.parse().ok()?),
            None => item.parse().ok().map(|port| port..=port),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_free_ports_lie_beside_the_local_range() {
        assert_eq!(Environment::default().longest_free_ports(), Some(1024..=32_767));
        let low = Environment { local_ports: 1024..=40_000, reserved_ports: Vec::new() };
        assert_eq!(low.longest_free_ports(), Some(40_001..=65_535));
    }

    #[test]
    fn reserved_ports_are_free_for_snat() {
        let all = Environment { local_ports: 1024..=65_535, reserved_ports: port_list("8080,10000-19999\n") };
        assert_eq!(all.longest_free_ports(), Some(10_000..=19_999));
        assert!(!all.is_local(8080));
        assert!(all.is_local(8081));
    }

    #[test]
    fn a_host_that_uses_every_port_has_none_free() {
        let all = Environment { local_ports: 1024..=65_535, reserved_ports: Vec::new() };
        assert_eq!(all.longest_free_ports(), None);
    }
}

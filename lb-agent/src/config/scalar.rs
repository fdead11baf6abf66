//! What humans write in single fields, and what it means. `Err` is the end of a sentence that begins with what was found:
//! "wanted …".

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU16};
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::section::{did_you_mean, integer};
use crate::pure::prefix;

/// `true` or `false`.
pub(super) fn flag(value: &DeValue<'_>) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "wanted true or false".to_owned())
}

/// Any text that is not empty.
pub(super) fn text(value: &DeValue<'_>) -> Result<String, String> {
    let text = value.as_str().filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or_else(|| "wanted a text in quotes".to_owned())
}

/// A duration, as humantime writes it, within bounds.
pub(super) fn duration(first: Duration, last: Duration) -> impl Fn(&DeValue<'_>) -> Result<Duration, String> {
    move |value| {
        let parsed = value.as_str().and_then(|text| humantime::parse_duration(text).ok());
        let Some(parsed) = parsed else {
            return Err("wanted a duration in quotes, such as \"500ms\", \"1s\" or \"15m\"".to_owned());
        };
        if (first..=last).contains(&parsed) {
            return Ok(parsed);
        }
        Err(format!("wanted {} to {}", humantime::format_duration(first), humantime::format_duration(last)))
    }
}

/// An integer within bounds.
pub(super) fn number<N: TryFrom<i64> + Into<i64> + Copy>(
    first: N,
    last: N,
) -> impl Fn(&DeValue<'_>) -> Result<N, String> {
    move |value| {
        let (first, last): (i64, i64) = (first.into(), last.into());
        let inside = integer(value).filter(|number| (first..=last).contains(number));
        inside.and_then(|number| N::try_from(number).ok()).ok_or_else(|| format!("wanted a number, {first} to {last}"))
    }
}

/// How many in a row: 1 to 255.
pub(super) fn run_length(value: &DeValue<'_>) -> Result<NonZeroU8, String> {
    let number = number(1_u8, u8::MAX)(value)?;
    NonZeroU8::new(number).ok_or_else(|| "wanted a number, 1 to 255".to_owned())
}

/// `"50%"`; `"0%"` is off.
pub(super) fn percent(value: &DeValue<'_>) -> Result<u8, String> {
    let share = value.as_str().and_then(|text| text.strip_suffix('%')).and_then(|text| text.trim().parse().ok());
    share
        .filter(|share| *share <= 100)
        .ok_or_else(|| "wanted a percentage in quotes, \"0%\" (off) to \"100%\"".to_owned())
}

/// An IPv4 or IPv6 address that packets can be sent to over a network.
pub(super) fn address(value: &DeValue<'_>) -> Result<IpAddr, String> {
    let wanted = "wanted an IPv4 or IPv6 address in quotes";
    let parsed: IpAddr = value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| wanted.to_owned())?;
    match unusable(parsed) {
        Some(why) => Err(format!("which is {why}; wanted a unicast address that the network can reach")),
        None => Ok(parsed),
    }
}

/// Why no packet can be forwarded to the address, or from it.
fn unusable(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        return Some("the unspecified address");
    }
    if address.is_loopback() {
        return Some("a loopback address");
    }
    if address.is_multicast() {
        return Some("a multicast address");
    }
    match address {
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("an IPv4 address in IPv6's clothes (write it as IPv4)"),
        IpAddr::V6(v6) if is_link_local(v6) => Some("a link-local address, which means nothing without its link"),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

/// An address, or a prefix of addresses: `"203.0.113.0/24"`. A prefix of the full length is an address.
pub(super) fn address_or_prefix(value: &DeValue<'_>) -> Result<(IpAddr, Option<u8>), String> {
    let Some((network, len)) = value.as_str().and_then(|text| text.split_once('/')) else {
        let wanted =
            |e: String| e.replace("an IPv4 or IPv6 address in quotes", "an IPv4 or IPv6 address or prefix in quotes");
        return address(value).map(|address| (address, None)).map_err(wanted);
    };
    let network = address(&DeValue::String(network.into()))?;
    let full = prefix::full_length(network);
    // Shorter ones are a forgotten digit rather than a wish.
    let shortest = if network.is_ipv4() { 8 } else { 16 };
    let len = len.parse::<u8>().ok().filter(|len| (shortest..=full).contains(len));
    let len = len.ok_or_else(|| format!("wanted a prefix length of {shortest} to {full} behind the /"))?;
    let lowest = prefix::network(network, len);
    if lowest != network {
        return Err(format!(
            "which has bits set behind its length; wanted \"{lowest}/{len}\", or one address without /"
        ));
    }
    Ok((network, (len < full).then_some(len)))
}

/// Addresses, all of them.
pub(super) fn addresses(value: &DeValue<'_>) -> Result<Vec<IpAddr>, String> {
    let items = value.as_array().ok_or_else(|| "wanted a list of addresses: [\"192.0.2.1\"]".to_owned())?;
    let mut addresses = Vec::new();
    for item in items {
        let wanted = |why| format!("with {} in it, {why}", super::section::shown(item.get_ref()));
        let parsed = address(item.get_ref()).map_err(wanted)?;
        if addresses.contains(&parsed) {
            return Err(format!("with {parsed} in it twice, wanted each address once"));
        }
        addresses.push(parsed);
    }
    Ok(addresses)
}

/// `"10000-19999"`.
pub(super) fn port_range(value: &DeValue<'_>) -> Result<(NonZeroU16, NonZeroU16), String> {
    let ends = value.as_str().and_then(|text| text.split_once('-'));
    let parsed = ends.and_then(|(first, last)| Some((first.trim().parse().ok()?, last.trim().parse().ok()?)));
    let wanted = "wanted the first and the last port in quotes, such as \"10000-19999\"";
    parsed.filter(|(first, last): &(NonZeroU16, NonZeroU16)| first <= last).ok_or_else(|| wanted.to_owned())
}

/// HTTP status codes that pass: `200`, `"200"` or `"200-399"`.
pub(super) fn statuses(value: &DeValue<'_>) -> Result<(u16, u16), String> {
    let one = integer(value).and_then(|code| u16::try_from(code).ok()).map(|code| (code, code));
    let parsed = one.or_else(|| {
        let text = value.as_str()?;
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
    });
    let is_sane = |(first, last): &(u16, u16)| (100..=599).contains(first) && first <= last && *last <= 599;
    parsed.filter(is_sane).ok_or_else(|| "wanted HTTP status codes, such as 200 or \"200-399\"".to_owned())
}

/// One of some words.
pub(super) fn choice<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&DeValue<'_>) -> Result<T, String> {
    move |value| {
        let found = value.as_str().unwrap_or_default();
        if let Some((_, meant)) = words.iter().find(|(word, _)| *word == found) {
            return Ok(*meant);
        }
        let allowed: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        let hint = did_you_mean(found, &allowed);
        Err(format!("wanted one of {}. {hint}", allowed.join(", ")).trim_end().to_owned())
    }
}

/// An absolute path.
pub(super) fn path(value: &DeValue<'_>) -> Result<PathBuf, String> {
    let path = value.as_str().map(PathBuf::from).filter(|path| path.is_absolute());
    path.ok_or_else(|| "wanted an absolute path in quotes".to_owned())
}

/// `"unix:/run/weir/agent.sock"`.
pub(super) fn socket(value: &DeValue<'_>) -> Result<PathBuf, String> {
    // `sockaddr_un.sun_path` has 108 bytes, the last of which is zero (unix(7)).
    const LONGEST: usize = 107;
    let path = value.as_str().and_then(|text| text.strip_prefix("unix:")).map(PathBuf::from);
    let path = path.filter(|path| path.is_absolute() && path.as_os_str().len() <= LONGEST);
    path.ok_or_else(|| {
        format!(
            "wanted \"unix:\" and an absolute path of at most {LONGEST} bytes, such as \"unix:/run/weir/agent.sock\""
        )
    })
}

/// Where metrics are served; `None`: nowhere.
pub(super) fn listen_address(value: &DeValue<'_>) -> Result<Option<SocketAddr>, String> {
    match value.as_str() {
        Some("" | "off") => Ok(None),
        other => {
            let parsed = other.and_then(|text| text.parse().ok());
            parsed
                .map(Some)
                .ok_or_else(|| "wanted an address and a port, such as \"127.0.0.1:9180\", or \"off\"".to_owned())
        }
    }
}

/// A service's name: it stands in URLs, in metrics and on command lines.
pub(super) fn service_name(value: &DeValue<'_>) -> Result<String, String> {
    const LONGEST: usize = 64;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fits = |name: &&str| (1..=LONGEST).contains(&name.len()) && name.chars().all(is_plain);
    let name = value.as_str().filter(fits).filter(|name| name.chars().any(|c| c.is_ascii_alphanumeric()));
    name.map(str::to_owned)
        .ok_or_else(|| format!("wanted a name in quotes of letters, digits, \"-\", \"_\" and \".\", at most {LONGEST}"))
}

/// An interface's name, as Linux allows it.
pub(super) fn interface_name(value: &DeValue<'_>) -> Result<String, String> {
    // IFNAMSIZ is 16, the last byte of which is zero (netdevice(7)).
    let fits = |name: &&str| {
        (1..=15).contains(&name.len()) && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace())
    };
    let name = value.as_str().filter(fits).filter(|name| !matches!(*name, "." | ".."));
    name.map(str::to_owned).ok_or_else(|| "wanted an interface's name in quotes (`ip link` lists them)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> DeValue<'_> {
        DeValue::parse(text).unwrap().into_inner()
    }

    #[test]
    fn durations_are_texts_within_bounds() {
        let read = duration(Duration::from_millis(10), Duration::from_secs(3600));
        assert_eq!(read(&value("\"500ms\"")), Ok(Duration::from_millis(500)));
        assert_eq!(read(&value("\"15m\"")), Ok(Duration::from_secs(900)));
        assert_eq!(read(&value("\"2h\"")), Err("wanted 10ms to 1h".to_owned()));
        assert!(read(&value("5")).unwrap_err().contains("in quotes"));
        assert!(read(&value("\"soon\"")).unwrap_err().contains("\"15m\""));
    }

    #[test]
    fn numbers_keep_their_bounds_in_every_radix() {
        assert_eq!(number(0_u16, 65_535)(&value("0xffff")), Ok(65_535));
        assert_eq!(number(0_u16, 65_535)(&value("65536")), Err("wanted a number, 0 to 65535".to_owned()));
        assert!(number(0_u16, 65_535)(&value("-1")).is_err());
        assert!(number(0_u16, 65_535)(&value("\"80\"")).is_err());
        assert!(run_length(&value("0")).is_err());
    }

    #[test]
    fn addresses_that_no_packet_reaches_are_refused_with_the_reason() {
        for (text, why) in [
            ("\"0.0.0.0\"", "unspecified"),
            ("\"127.0.0.1\"", "loopback"),
            ("\"224.0.0.1\"", "multicast"),
            ("\"255.255.255.255\"", "broadcast"),
            ("\"::1\"", "loopback"),
            ("\"ff02::1\"", "multicast"),
            ("\"fe80::1\"", "link-local"),
            ("\"::ffff:192.0.2.1\"", "write it as IPv4"),
            ("\"192.0.2.300\"", "wanted an IPv4"),
        ] {
            let error = address(&value(text)).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(address(&value("\"2001:db8::10\"")).is_ok());
    }

    #[test]
    fn a_vip_is_an_address_or_a_prefix_without_bits_behind_its_length() {
        let read = |text: &str| address_or_prefix(&value(text));
        let v4 = |a: [u8; 4]| IpAddr::from(a);
        assert_eq!(read("\"203.0.113.0/24\""), Ok((v4([203, 0, 113, 0]), Some(24))));
        assert_eq!(read("\"203.0.113.9/32\""), Ok((v4([203, 0, 113, 9]), None)));
        assert_eq!(read("\"2001:db8::/33\"").map(|(_, len)| len), Ok(Some(33)));
        assert!(read("\"203.0.113.9/24\"").unwrap_err().contains("wanted \"203.0.113.0/24\""));
        assert!(read("\"10.0.0.0/7\"").unwrap_err().contains("8 to 32"));
        assert!(read("\"10.0.0.0/x\"").unwrap_err().contains("8 to 32"));
        assert!(read("\"2001:db8::/129\"").unwrap_err().contains("16 to 128"));
        assert!(read("\"nothing\"").unwrap_err().contains("address or prefix"));
    }

    #[test]
    fn ranges_percentages_and_statuses_are_read_as_humans_write_them() {
        assert_eq!(percent(&value("\"50%\"")), Ok(50));
        assert!(percent(&value("50")).is_err());
        assert!(percent(&value("\"101%\"")).is_err());
        assert_eq!(statuses(&value("204")), Ok((204, 204)));
        assert_eq!(statuses(&value("\"200-399\"")), Ok((200, 399)));
        assert!(statuses(&value("\"399-200\"")).is_err());
        assert!(port_range(&value("\"20000-10000\"")).is_err());
        assert!(port_range(&value("\"0-10\"")).is_err());
        assert_eq!(port_range(&value("\"10000 - 19999\"")).map(|(a, b)| (a.get(), b.get())), Ok((10_000, 19_999)));
    }

    #[test]
    fn a_wrong_word_names_the_right_ones_and_the_likely_one() {
        let read = choice(&[("round_robin", 1), ("least_conn", 2)]);
        let error = read(&value("\"roundrobin\"")).unwrap_err();
        assert_eq!(error, "wanted one of round_robin, least_conn. Did you mean \"round_robin\"?");
        assert_eq!(read(&value("3")).unwrap_err(), "wanted one of round_robin, least_conn.");
    }

    #[test]
    fn sockets_fit_into_a_socket_address() {
        assert!(socket(&value("\"unix:/run/weir/agent.sock\"")).is_ok());
        assert!(socket(&value("\"/run/weir/agent.sock\"")).is_err());
        assert!(socket(&value(&format!("\"unix:/{}\"", "x".repeat(107)))).is_err());
    }
}

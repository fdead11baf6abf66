//! Neighbour discovery (RFC 4861) and duplicate address detection (RFC 4862): who has a VIP? We have.

use std::net::{IpAddr, Ipv6Addr};

use lb_common::verdict::Verdict;

use super::build::{Packet, icmp};
use super::case::{Case, case};
use super::expected::{Change, bytes_of, set};
use super::layout::Field;
use super::side::Side;
use crate::packet::PEER_MAC;
use crate::world::OUR_MAC;

const V6: Side = Side::V6;
const NOBODY: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
/// Source link-layer address.
const SOURCE: [u8; 8] = [1, 1, 0x02, 0, 0, 0, 0, 0x99];
/// RFC 3971 5.3.2.
const NONCE: [u8; 8] = [14, 1, 1, 2, 3, 4, 5, 6];

pub(super) fn cases() -> Vec<Case> {
    [answered(), dropped(), others()].into_iter().flatten().collect()
}

/// The group that whoever has an address listens to.
fn group(target: IpAddr) -> IpAddr {
    let t = bytes_of(target);
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, t[13], t[14], t[15]]).into()
}

fn solicitation(from: IpAddr, to: IpAddr, target: IpAddr, options: &[u8]) -> Packet {
    icmp(from, to, 135, 0).payload(&[&bytes_of(target), options].concat()).ttl(255)
}

/// The advertisement that it becomes: solicited and override, or override alone where everybody is told.
fn answer(asker: IpAddr, options: &[u8]) -> Vec<Change> {
    let (mac, to, flags) = if asker == NOBODY {
        ([0x33, 0x33, 0, 0, 0, 1], "ff02::1".parse().expect("an address"), 0x20)
    } else {
        (PEER_MAC, asker, 0x60)
    };
    let mut payload = bytes_of(V6.vip(10));
    payload.extend(options);
    vec![
        set(Field::DstMac, &mac),
        set(Field::SrcMac, &OUR_MAC),
        set(Field::Src, &bytes_of(V6.vip(10))),
        set(Field::Dst, &bytes_of(to)),
        set(Field::Kind, &[136]),
        set(Field::Rest, &[flags, 0, 0, 0]),
        set(Field::Payload, &payload),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn answered() -> Vec<Case> {
    let (vip, client) = (V6.vip(10), V6.client());
    let ours = [&[2, 1][..], &OUR_MAC].concat();
    let asked = |name: &str, packet: Packet, asker, options: &[u8]| {
        case(V6, name).send(packet).becomes(Verdict::NeighbourReply, answer(asker, options))
    };
    let router: IpAddr = "fe80::7".parse().expect("an address");
    let both = [SOURCE, NONCE].concat();
    vec![
        asked(
            "RFC 4861 7.2.4: a solicitation for a VIP is answered",
            solicitation(client, group(vip), vip, &SOURCE),
            client,
            &ours,
        ),
        asked(
            "RFC 4861 7.2.4: a router asks from its link-local address",
            solicitation(router, group(vip), vip, &SOURCE),
            router,
            &ours,
        ),
        asked(
            "RFC 4861 7.2.4: a poll to the VIP itself may say nothing of its MAC address",
            solicitation(client, vip, vip, &[]),
            client,
            &[],
        ),
        asked(
            "RFC 4861 7.2.4: a poll that says its MAC address",
            solicitation(client, vip, vip, &SOURCE),
            client,
            &ours,
        ),
        asked(
            "802.1Q: a tagged solicitation is answered by the same tag",
            solicitation(client, group(vip), vip, &SOURCE).tag(0x8100, 42),
            client,
            &ours,
        ),
        asked(
            "RFC 4862 5.4.3: who tries to take a VIP is told before all nodes",
            solicitation(NOBODY, group(vip), vip, &[]),
            NOBODY,
            &[],
        ),
        asked(
            "RFC 7527 4.1: who tries with a nonce is told our MAC address too",
            solicitation(NOBODY, group(vip), vip, &NONCE),
            NOBODY,
            &ours,
        ),
        asked(
            "RFC 3971 5.3: a nonce behind the MAC address comes back",
            solicitation(client, group(vip), vip, &both),
            client,
            &[&ours[..], &NONCE].concat(),
        ),
        asked(
            "RFC 4861 7.1.1: a wrong checksum stays wrong, and the asker discards the answer",
            solicitation(client, group(vip), vip, &SOURCE).but(Field::Sum, &[1, 2]),
            client,
            &ours,
        )
        .unsound(),
    ]
}

fn dropped() -> Vec<Case> {
    let (vip, client) = (V6.vip(10), V6.client());
    let usual = || solicitation(client, group(vip), vip, &SOURCE);
    let mut long = SOURCE.to_vec();
    long[1] = 2;
    long.extend([0; 8]);
    let mut endless = SOURCE;
    endless[1] = 0;
    let head = [0, 1, 0, 0, 0, 5];
    let cases = [
        ("RFC 4861 7.1.1: a router let it through, hop limit 254", usual().ttl(254)),
        ("RFC 4861 7.1.1: a router let it through, hop limit 64", usual().ttl(64)),
        ("RFC 4861 7.1.1: a code other than zero", coded()),
        ("RFC 4861 7.1.1: fewer than 24 bytes", usual().but(Field::Length, &[0, 23])),
        ("RFC 4861 4.6: an option of length zero", solicitation(client, group(vip), vip, &endless)),
        ("an option that our answer cannot take the place of", solicitation(client, group(vip), vip, &long)),
        ("RFC 4861 7.1.1: no address, but a MAC address", solicitation(NOBODY, group(vip), vip, &SOURCE)),
        ("RFC 4861 7.1.1: no address, and not to the group", solicitation(NOBODY, vip, vip, &[])),
        (
            "RFC 4861 7.1.1: no address, and to all nodes",
            solicitation(NOBODY, "ff02::1".parse().expect("an address"), vip, &[]),
        ),
        ("RFC 6980 5: a solicitation in pieces", usual().extension(44, &head)),
    ];
    cases.into_iter().map(|(name, packet)| case(V6, name).send(packet).ends(Verdict::DropIcmp)).collect()
}

fn coded() -> Packet {
    let vip = V6.vip(10);
    icmp(V6.client(), group(vip), 135, 1).payload(&[&bytes_of(vip)[..], &SOURCE].concat()).ttl(255)
}

fn others() -> Vec<Case> {
    let client = V6.client();
    let group_of_vip = group(V6.vip(10));
    let mut cases = Vec::new();
    for (name, target) in [
        ("this host", V6.ours()),
        ("a backend", V6.backend(11)),
        ("a neighbour", V6.on_link(66)),
        ("a VIP that the host holds", V6.vip(99)),
        ("another address of a VIP's group", "2001:db8:7::10".parse().expect("an address")),
    ] {
        let name = format!("RFC 4861 7.2.3: a solicitation for {name} passes");
        cases.push(
            case(V6, &name).send(solicitation(client, group(target), target, &SOURCE)).ends(Verdict::PassNotOurs),
        );
    }
    let advertisement = icmp(client, "ff02::1".parse().expect("an address"), 136, 0)
        .rest([0x20, 0, 0, 0])
        .payload(&[&bytes_of(V6.vip(10))[..], &[2, 1, 2, 0, 0, 0, 0, 0x99]].concat())
        .ttl(255);
    cases.push(
        case(V6, "RFC 4861 7.2.6: somebody else's unsolicited advertisement passes")
            .send(advertisement)
            .ends(Verdict::PassNotOurs),
    );
    cases.push(
        case(V6, "RFC 4861 7.1.1: a solicitation that ends before its target passes")
            .send(icmp(client, group_of_vip, 135, 0).payload(&[0; 8]).ttl(255))
            .ends(Verdict::PassNotOurs),
    );
    cases.push(
        case(V6, "RFC 3810 5.2: a listener report behind router alert passes")
            .send(
                icmp(client, "ff02::16".parse().expect("an address"), 143, 0)
                    .extension(0, &[5, 2, 0, 0, 1, 0])
                    .payload(&[0; 20]),
            )
            .ends(Verdict::PassNotOurs),
    );
    cases
}

//! TCP (RFC 9293): what is in a segment travels along; its flags open, confirm and end flows.

use lb_common::verdict::Verdict;

use super::build::{Packet, other};
use super::case::Event::{Closed, Confirmed, Message, Opened, Reset};
use super::case::{Case, Event, Service, case};
use super::layout::Field;
use super::side::{BOTH, Side};

/// Flags of a flow's first segment, and what they make of it.
const FLAGS: [(&str, &str, &[Event]); 17] = [
    ("RFC 9293 3.5: SYN opens a flow", "S", &[Opened]),
    ("RFC 3168 6.1.1: an ECN-setup SYN opens a flow", "SEW", &[Opened]),
    ("RFC 9768 3.1.1: an AccECN SYN opens a flow", "SEWN", &[Opened]),
    ("RFC 9293 3.5: SYN with PSH is a SYN", "SP", &[Opened, Message]),
    ("RFC 9293 3.5: SYN and FIN, which nobody honest sends, is a SYN", "SF", &[Opened]),
    ("RFC 9293 3.5.3: SYN and RST resets and opens nothing", "SR", &[]),
    ("RFC 9293 3.5.2: SYN and ACK of no flow is routed like data", "SA", &[Opened]),
    ("RFC 9293 3.1: ACK of a flow that was there before us is adopted", "A", &[Opened]),
    ("RFC 9293 3.1: PSH is a message", "AP", &[Opened, Message]),
    ("RFC 9293 3.8.5: URG stays", "AU", &[Opened]),
    ("RFC 3168 6.1.2: ECE stays", "AE", &[Opened]),
    ("RFC 3168 6.1.2: CWR stays", "AW", &[Opened]),
    ("RFC 9293 3.6: FIN of no flow opens none", "AF", &[]),
    ("RFC 9293 3.5.3: RST of no flow opens none", "R", &[]),
    ("RFC 9293 3.5.3: RST and ACK of no flow opens none", "AR", &[]),
    ("a segment without flags is routed like data", "", &[Opened]),
    ("every flag at once is an RST", "SAFRPUEWN", &[Message]),
];

const OPTIONS: [(&str, &[u8]); 8] = [
    ("RFC 9293 3.7.1: maximum segment size", &[2, 4, 5, 0xb4]),
    ("RFC 7323 2.2: window scale", &[1, 3, 3, 14]),
    ("RFC 7323 3.2: timestamps", &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0]),
    ("RFC 2018 2: SACK permitted", &[1, 1, 4, 2]),
    ("RFC 7413 4.1: a fast open cookie request", &[34, 2, 1, 1]),
    ("RFC 8684 3.1: MP_CAPABLE", &[30, 4, 1, 0]),
    ("RFC 9293 3.1: forty bytes of options", &[1; 40]),
    ("RFC 9293 3.1: an option of length zero is the receiver's to refuse", &[99, 0, 0, 0]),
];

pub(super) fn cases() -> Vec<Case> {
    let all = |side| [flags(side), options(side), headers(side), payloads(side), lives(side)];
    BOTH.into_iter().flat_map(all).flatten().collect()
}

fn flags(side: Side) -> Vec<Case> {
    let (nat, dsr) = (side.nat(), side.dsr());
    let mut cases = Vec::new();
    for (name, flags, events) in FLAGS {
        cases.push(case(side, name).send(nat.ask().flags(flags)).forwards(&nat, events));
        cases.push(
            case(side, &format!("{name}, in a reply it is the server's"))
                .send(nat.answer().flags(flags))
                .replies(&nat, &[]),
        );
    }
    for (name, flags, events) in [FLAGS[0], FLAGS[7], FLAGS[13]] {
        cases.push(
            case(side, &format!("{name}, in l2dsr"))
                .send(dsr.ask().flags(flags))
                .becomes(Verdict::Forward, dsr.macs())
                .counts(dsr.owner, events),
        );
    }
    cases
}

fn options(side: Side) -> Vec<Case> {
    let nat = side.nat();
    let mut cases = Vec::new();
    for (name, options) in OPTIONS {
        let syn = nat.ask().flags("S").tcp_options(options);
        cases.push(case(side, &format!("{name} stays in a SYN")).send(syn).forwards(&nat, &[Opened]));
        let syn_ack = nat.answer().flags("SA").tcp_options(options);
        cases.push(case(side, &format!("{name} stays in a SYN and ACK")).send(syn_ack).replies(&nat, &[]));
    }
    cases
}

fn headers(side: Side) -> Vec<Case> {
    let nat = side.nat();
    let mut cases = Vec::new();
    for (name, packet) in [
        ("RFC 9293 3.1: a data offset of 4 words", nat.ask().but(Field::DataOffset, &[0x40])),
        ("RFC 9293 3.1: a data offset of 0", nat.ask().but(Field::DataOffset, &[0])),
        ("RFC 9293 3.1: a data offset beyond the segment", nat.ask().payload(&[0; 36]).but(Field::DataOffset, &[0xf0])),
        ("RFC 9293 3.1: a header of 19 bytes", other(side.client(), nat.vip.ip(), 6).payload(&[0x50; 19])),
        ("RFC 9293 3.1: no header at all", other(side.client(), nat.vip.ip(), 6).payload(&[])),
    ] {
        cases.push(case(side, &format!("{name} is dropped at a VIP")).send(packet).ends(Verdict::DropMalformed));
    }
    cases.extend([
        case(side, "RFC 9293 3.1: a data offset that takes all of the segment")
            .send(nat.ask().payload(&[1; 40]).but(Field::DataOffset, &[0xf0]))
            .unsound()
            .forwards(&nat, &[Opened]),
        case(side, "RFC 9293 3.1: an urgent pointer stays")
            .send(nat.ask().flags("AU").with_tcp(|h| h.urgent_pointer = 5).payload(b"hello"))
            .forwards(&nat, &[Opened]),
        case(side, "RFC 9293 3.1: sequence numbers at their turn stay")
            .send(nat.ask().with_tcp(|h| (h.sequence_number, h.acknowledgment_number) = (u32::MAX, 0)))
            .forwards(&nat, &[Opened]),
        case(side, "RFC 9293 3.8.6.1: a window of zero stays")
            .send(nat.ask().with_tcp(|h| h.window_size = 0))
            .forwards(&nat, &[Opened]),
        case(side, "RFC 9293 3.1: a client's port may be zero")
            .send(nat.ask().with_tcp(|h| h.source_port = 0))
            .forwards(&nat, &[Opened]),
        case(side, "RFC 9293 3.1: a client's port may be 65535")
            .send(nat.ask().with_tcp(|h| h.source_port = 65_535))
            .forwards(&nat, &[Opened]),
        case(side, "RFC 9293 3.1: a wrong checksum stays wrong, for the backend to see")
            .send(nat.ask().payload(b"spoilt").but(Field::Sum, &[0x12, 0x34]))
            .unsound()
            .forwards(&nat, &[Opened]),
        case(side, "RFC 9293 3.1: in a reply a wrong checksum stays wrong as well")
            .send(nat.answer().payload(b"spoilt").but(Field::Sum, &[0x12, 0x34]))
            .unsound()
            .replies(&nat, &[]),
    ]);
    cases
}

fn payloads(side: Side) -> Vec<Case> {
    let nat = side.nat();
    let room = if side.is_v6() { 1_440 } else { 1_460 };
    let mut cases = Vec::new();
    for len in [1, 2, 3, 255, 256, room - 1, room] {
        let name = format!("RFC 9293 3.1: {len} bytes of data stay");
        let data: Vec<u8> = (0..=255).cycle().skip(len).take(len).collect();
        let packet = |packet: Packet| packet.flags("AP").payload(&data);
        cases.push(case(side, &name).send(packet(nat.ask())).forwards(&nat, &[Opened, Message]));
        cases.push(case(side, &format!("{name}, in a reply")).send(packet(nat.answer())).replies(&nat, &[]));
    }
    cases.push(
        case(side, "RFC 7413 4.2: a SYN with data and a cookie opens a flow")
            .send(nat.ask().flags("S").tcp_options(&[34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1]).payload(b"GET /"))
            .forwards(&nat, &[Opened]),
    );
    cases
}

fn lives(side: Side) -> Vec<Case> {
    let nat = side.nat();
    let (ask, answer) = (|flags: &str| nat.ask().flags(flags), |flags: &str| nat.answer().flags(flags));
    let established = |name: &str| after(case(side, name), &[ask("S"), answer("SA"), ask("A")]);
    let dsr = side.dsr();
    vec![
        case(side, "RFC 6298 5: a repeated SYN is the same flow").after(ask("S")).send(ask("S")).forwards(&nat, &[]),
        after(case(side, "RFC 9293 3.5: the handshake's ACK confirms the flow"), &[ask("S"), answer("SA")])
            .send(ask("A"))
            .forwards(&nat, &[Confirmed]),
        case(side, "RFC 7413 4.2: data before the server's answer confirms as well")
            .after(ask("S"))
            .send(ask("AP").payload(b"x"))
            .forwards(&nat, &[Confirmed, Message]),
        established("RFC 9293 3.1: data of a confirmed flow is a message and no event")
            .send(ask("AP").payload(b"x"))
            .forwards(&nat, &[Message]),
        established("RFC 9293 3.6: one FIN ends nothing").send(ask("AF")).forwards(&nat, &[]),
        after(established("RFC 9293 3.6: both FINs end the flow"), &[ask("AF")])
            .send(answer("AF"))
            .replies(&nat, &[Closed]),
        after(established("RFC 9293 3.6: both FINs end the flow, the server's first"), &[answer("AF")])
            .send(ask("AF"))
            .forwards(&nat, &[Closed]),
        after(established("RFC 9293 3.6: the last ACK finds its way and counts no more"), &[ask("AF"), answer("AF")])
            .send(ask("A"))
            .forwards(&nat, &[]),
        after(established("RFC 9293 3.6: a FIN that is sent again closes once"), &[ask("AF"), answer("AF")])
            .send(ask("AF"))
            .forwards(&nat, &[]),
        established("RFC 9293 3.5.3: the client's RST ends the flow").send(ask("R")).forwards(&nat, &[Reset]),
        established("RFC 9293 3.5.3: the server's RST ends the flow").send(answer("R")).replies(&nat, &[Reset]),
        after(established("RFC 9293 3.5.3: a second RST counts nothing"), &[ask("R")])
            .send(ask("R"))
            .forwards(&nat, &[]),
        after(established("RFC 6191 2: a SYN on a tuple that has ended opens anew"), &[ask("AF"), answer("AF")])
            .send(ask("S"))
            .forwards(&nat, &[Opened]),
        established("RFC 5961 4: a SYN within a flow that lives opens nothing").send(ask("S")).forwards(&nat, &[]),
        refused(side, &nat),
        after(
            case(side, "RFC 9293 3.6: l2dsr sees the client's FIN alone, which ends nothing yet"),
            &[dsr.ask().flags("S"), dsr.ask()],
        )
        .send(dsr.ask().flags("AF"))
        .becomes(Verdict::Forward, dsr.macs())
        .counts(dsr.owner, &[]),
    ]
}

fn refused(side: Side, nat: &Service) -> Case {
    case(side, "RFC 9293 3.5.3: a server that refuses ends the flow that its SYN opened")
        .after(nat.ask().flags("S"))
        .send(nat.answer().flags("AR"))
        .replies(nat, &[Reset])
}

fn after(case: Case, packets: &[Packet]) -> Case {
    packets.iter().fold(case, Case::after)
}

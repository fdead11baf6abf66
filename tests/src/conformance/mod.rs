//! Conformance: packets that say in their names which RFC or behaviour they show, each with all that must become of it.
//!
//! A case is a sentence ([`case`]): a packet ([`build`]) in a world with a service of every kind ([`side`]), its verdict, the
//! fields that change, the events that are counted. What is not said must not happen: every other field stays, every other counter
//! rests, every checksum is right ([`expected`], in etherparse's opinion). [`run`] holds each case against the kernel and the host.
//!
//! To add one, write it into the table of its subject; `cargo test -p weir-tests --test conformance -- SUBJECT` runs that table.

pub mod layout;
pub mod build;
pub mod expected;
pub mod outer;
pub mod case;
pub mod side;
mod runner;

mod arp;
mod checksums;
mod encapsulation;
mod ethernet;
mod fragments;
mod hairpin;
mod health_of_backends;
mod icmp;
mod icmp_errors;
mod icmpv6;
mod ipv4;
mod ipv6;
mod l2dsr;
mod malformed;
mod nat_replies;
mod pieces;
mod neighbour_discovery;
mod not_ours;
mod prefixes;
mod quic;
mod services;
mod snat;
mod tc;
mod tcp;
mod too_big;
mod udp;

pub use runner::run;

use case::Case;

/// What makes the cases of a subject.
pub type Cases = fn() -> Vec<Case>;

/// Every subject, as its test is called, and what makes its cases.
pub const TABLES: [(&str, Cases); 25] = [
    ("ethernet", ethernet::cases),
    ("ipv4", ipv4::cases),
    ("ipv6", ipv6::cases),
    ("tcp", tcp::cases),
    ("udp", udp::cases),
    ("checksums", checksums::cases),
    ("fragments", fragments::cases),
    ("icmp", icmp::cases),
    ("icmpv6", icmpv6::cases),
    ("icmp_errors", icmp_errors::cases),
    ("arp", arp::cases),
    ("neighbour_discovery", neighbour_discovery::cases),
    ("nat_replies", nat_replies::cases),
    ("snat", snat::cases),
    ("hairpin", hairpin::cases),
    ("l2dsr", l2dsr::cases),
    ("encapsulation", encapsulation::cases),
    ("too_big", too_big::cases),
    ("services", services::cases),
    ("prefixes", prefixes::cases),
    ("quic", quic::cases),
    ("health_of_backends", health_of_backends::cases),
    ("malformed", malformed::cases),
    ("not_ours", not_ours::cases),
    ("tc", tc::cases),
];

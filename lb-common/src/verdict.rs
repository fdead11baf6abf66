//! Every way a packet can end, each with its counter and its name for `/metrics`. There is no anonymous drop.

/// Counters in a record; more than there are verdicts, so that a new one does not change the layout.
pub const VERDICTS: usize = 64;

macro_rules! verdicts {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $fate:ident;)*) => {
        /// How a packet ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Verdict {
            $($(#[$doc])* $variant = $number,)*
        }

        impl Verdict {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Name in `/metrics`, `status` and the documentation.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What becomes of the packet.
            #[inline(always)]
            pub const fn fate(self) -> Fate {
                match self { $(Self::$variant => Fate::$fate,)* }
            }
        }
    };
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The kernel's stack takes it, untouched.
    Pass,
    /// It ends here.
    Drop,
    /// It leaves by the interface that the decision names.
    Send,
}

verdicts! {
    /// Neither IP nor an ARP or ND question about a VIP.
    PassNotIp = 0, "pass_not_ip", Pass;
    /// For none of our VIPs and from none of our backends.
    PassNotOurs = 1, "pass_not_ours", Pass;
    /// For an address that this host holds itself.
    PassLocal = 2, "pass_local", Pass;
    /// A reply whose next hop the kernel must resolve first: the TC program rewrites it.
    PassToTc = 3, "pass_to_tc", Pass;
    /// Sent to a backend.
    Forward = 4, "forward", Send;
    /// A backend's packet, sent to its client.
    Reply = 5, "reply", Send;
    /// An ICMP error, sent to the backend whose flow it quotes.
    ForwardIcmp = 6, "forward_icmp", Send;
    /// An ICMP error from the backend's side, sent to the client whose flow it quotes.
    ReplyIcmp = 7, "reply_icmp", Send;
    /// Echo answered for a VIP.
    EchoReply = 8, "echo_reply", Send;
    /// ARP answered for a VIP.
    ArpReply = 9, "arp_reply", Send;
    /// A neighbour solicitation answered for a VIP.
    NeighbourReply = 10, "neighbour_reply", Send;
    /// For a VIP, and its headers contradict each other or end too early.
    DropMalformed = 11, "drop_malformed", Drop;
    /// For a VIP, but for no service of it.
    DropNoService = 12, "drop_no_service", Drop;
    /// The service has no backend for it.
    DropNoBackend = 13, "drop_no_backend", Drop;
    /// The backend's next hop is not known (yet).
    DropNoNextHop = 14, "drop_no_next_hop", Drop;
    /// TTL or hop limit was used up.
    DropTtl = 15, "drop_ttl", Drop;
    /// A fragment's tail before its head.
    DropFragmentTail = 16, "drop_fragment_tail", Drop;
    /// No room to remember a fragment's head.
    DropFragmentTableFull = 17, "drop_fragment_table_full", Drop;
    /// snat: no source port free, or no source address.
    DropSnatExhausted = 18, "drop_snat_exhausted", Drop;
    /// A reply that no route leads back from here.
    DropNoRoute = 19, "drop_no_route", Drop;
    /// Too large for the way to the backend.
    DropTooBig = 20, "drop_too_big", Drop;
    /// An ICMP message to a VIP that is neither an echo that may be answered nor an error about one of our flows.
    DropIcmp = 21, "drop_icmp", Drop;
    /// Tables that contradict each other; should never be seen.
    DropInternal = 22, "drop_internal", Drop;
    /// No room in front of the packet for another header, or behind more tags than the hook can move.
    DropNoRoom = 23, "drop_no_room", Drop;
    /// Too large for the way to the backend, and its sender has been told so.
    SendTooBig = 24, "send_too_big", Send;
}

const _: () = assert!(Verdict::ALL.len() <= VERDICTS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_from_zero_and_names_say_the_fate() {
        for (n, v) in Verdict::ALL.iter().enumerate() {
            assert_eq!(*v as usize, n);
            assert_eq!(v.name().starts_with("drop_"), v.fate() == Fate::Drop);
            assert_eq!(v.name().starts_with("pass_"), v.fate() == Fate::Pass);
        }
    }
}

//! The namespace that packets run in: its routes and neighbours, once as `ip` writes them and once as the host twin reads them.

use std::fs::{self, File};
use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;

use lb_common::tables::{Route, RouteQuery};
use nix::sched::{CloneFlags, CpuSet, sched_getcpu, sched_setaffinity, setns, unshare};
use nix::unistd::Pid;

use crate::world::{OTHER, OUR_MAC, address};

/// MAC address of the way to everywhere.
pub const GATEWAY_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0xfe];

/// MAC address of the clients 192.0.2.7 and 2001:db8:9::7.
pub const CLIENT_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x07];

/// Largest packet to 100.64.0.0/10 and 2001:db8:64::/48.
pub const NARROW_MTU: u16 = 1_280;

/// Largest packet to anywhere else.
const MTU: u16 = 1_500;

const NETWORK: &str = "
link set lo up
link add wire index 77 type veth peer name far index 78
link set wire address 02:00:00:00:00:01 addrgenmode none mtu 1500
link set far addrgenmode none
link set far up
link set wire up
address add 192.0.2.1/24 dev wire
address add 2001:db8:9::1/64 dev wire nodad
neigh add 192.0.2.254 lladdr 02:00:00:00:00:fe dev wire nud permanent
neigh add 192.0.2.7 lladdr 02:00:00:00:00:07 dev wire nud permanent
neigh add 2001:db8:9::fe lladdr 02:00:00:00:00:fe dev wire nud permanent
neigh add 2001:db8:9::7 lladdr 02:00:00:00:00:07 dev wire nud permanent
route add default via 192.0.2.254
route add 100.64.0.0/10 via 192.0.2.254 mtu lock 1280
route add unreachable 198.51.100.0/24
route add default via 2001:db8:9::fe
route add 2001:db8:64::/48 via 2001:db8:9::fe mtu lock 1280
route add unreachable 2001:db8:dead::/48
";

/// Where packets go.
#[derive(Clone, Copy)]
enum Way {
    Gateway(u16),
    Client,
    OnLink,
    Nowhere,
}

/// The same routes, and those that the kernel adds by itself; the longest prefix wins.
const ROUTES: &[(&str, u8, Way)] = &[
    ("0.0.0.0", 0, Way::Gateway(MTU)),
    ("100.64.0.0", 10, Way::Gateway(NARROW_MTU)),
    ("198.51.100.0", 24, Way::Nowhere),
    ("192.0.2.0", 24, Way::OnLink),
    ("192.0.2.1", 32, Way::Nowhere),
    ("192.0.2.7", 32, Way::Client),
    ("192.0.2.254", 32, Way::Gateway(MTU)),
    ("192.0.2.255", 32, Way::Nowhere),
    ("127.0.0.0", 8, Way::Nowhere),
    ("::", 0, Way::Gateway(MTU)),
    ("::1", 128, Way::Nowhere),
    ("ff00::", 8, Way::Nowhere),
    ("2001:db8:64::", 48, Way::Gateway(NARROW_MTU)),
    ("2001:db8:dead::", 48, Way::Nowhere),
    ("2001:db8:9::", 64, Way::OnLink),
    ("2001:db8:9::", 128, Way::Nowhere),
    ("2001:db8:9::1", 128, Way::Nowhere),
    ("2001:db8:9::7", 128, Way::Client),
    ("2001:db8:9::fe", 128, Way::Gateway(MTU)),
];

/// Who asks for a route.
#[derive(Clone, Copy, Debug)]
pub enum Asker {
    /// XDP: by the length of the IP packet, so routes with an MTU of their own count.
    Xdp,
    /// TC: the kernel itself compares the frame of this length with the interface's MTU, and where the next hop is known alone.
    Tc(usize),
}

/// Longest frame that the kernel forwards by an interface: its MTU, an Ethernet header and a tag.
const FRAME: usize = MTU as usize + 14 + 4;

/// Network in the shape of the slow tables, prefix length, whether it is IPv6, way.
type Row = ([u8; 16], u8, bool, Way);

/// What the kernel answers in this namespace.
pub fn route(query: &RouteQuery, asker: Asker) -> Route {
    static PARSED: OnceLock<Vec<Row>> = OnceLock::new();
    let routes = PARSED.get_or_init(|| {
        let parse = |text: &str| text.parse::<IpAddr>().expect("the list above");
        let prefix = |ip: IpAddr, len: u8| if ip.is_ipv4() { len + 96 } else { len };
        let row = |&(text, len, way): &(&str, u8, Way)| {
            let ip = parse(text);
            (address(ip).0, prefix(ip, len), ip.is_ipv6(), way)
        };
        ROUTES.iter().map(row).collect()
    });
    let dst = u128::from_be_bytes(query.dst.0);
    let matching = routes.iter().filter(|(net, len, is_v6, _)| {
        *is_v6 == query.is_v6 && (*len == 0 || (u128::from_be_bytes(*net) ^ dst) >> (128 - u32::from(*len)) == 0)
    });
    let known = |dst_mac| Route::Known { ifindex: OTHER, dst_mac, src_mac: OUR_MAC };
    let (mtu, route) = match matching.max_by_key(|(_, len, ..)| *len).map(|row| row.3) {
        Some(Way::Gateway(mtu)) => (mtu, known(GATEWAY_MAC)),
        Some(Way::Client) => (MTU, known(CLIENT_MAC)),
        Some(Way::OnLink) => (MTU, Route::Unresolved { ifindex: OTHER }),
        Some(Way::Nowhere) | None => return Route::None,
    };
    let is_too_big = match asker {
        Asker::Xdp => query.len > mtu,
        Asker::Tc(frame) => frame > FRAME && matches!(route, Route::Known { .. }),
    };
    if is_too_big { Route::TooBig } else { route }
}

/// Moves this thread into the namespace and onto one CPU, the same for every thread of the process; returns its number.
pub fn enter() -> u32 {
    static GROUND: OnceLock<(File, usize)> = OnceLock::new();
    let (namespace, cpu) = GROUND.get_or_init(|| {
        let maker = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .expect("tests of the kernel side need root: run them with `cargo xtask test`");
            lay();
            File::open("/proc/thread-self/ns/net").expect("this thread's namespace")
        });
        (maker.join().expect("the namespace is laid"), sched_getcpu().expect("the number of this CPU"))
    });
    setns(namespace, CloneFlags::CLONE_NEWNET).expect("the namespace can be entered");
    let mut cpus = CpuSet::new();
    cpus.set(*cpu).expect("the number of a CPU");
    sched_setaffinity(Pid::from_raw(0), &cpus).expect("a thread may bind itself to a CPU");
    u32::try_from(*cpu).expect("the number of a CPU")
}

fn lay() {
    let mut ip = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("iproute2 is installed");
    ip.stdin.take().expect("a pipe").write_all(NETWORK.as_bytes()).expect("ip reads");
    assert!(ip.wait().expect("ip ends").success(), "ip refuses the network above");
    // Replies are routed from the loopback's point of view, as the agent arranges it.
    for family in ["ipv4", "ipv6"] {
        fs::write(format!("/proc/sys/net/{family}/conf/lo/forwarding"), "1").expect("lo can forward");
    }
}

//! Next hops on a real kernel: a host and its neighbours in namespaces of their own, joined by veth pairs.
//!
//! The namespaces have no names: each lives as long as a thread does, so that nothing is left behind, however a test ends.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use lb_agent::edge::netlink::{self, Network};
use lb_agent::pure::network::{LinkKind, NetworkView, NextHop};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Everything is done within this time; most of it within milliseconds.
const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn a_backend_on_the_link_is_resolved_with_everything_that_a_packet_needs() {
    let (host, peer) = pair();
    let host_mac = host.mac("h0");
    let peer_mac = peer.mac("p0");
    host.follow(&["10.77.0.2", "fd77::2", "10.77.0.1"], move |mut network| async move {
        for (address, source, prefix) in [("10.77.0.2", "10.77.0.1", 24), ("fd77::2", "fd77::1", 64)] {
            let hop = network.hop(address, is_resolved).await;
            let NextHop::Resolved { ifindex, dst_mac, src_mac, source: from, on_link, mtu } = hop else {
                unreachable!()
            };
            assert_eq!((dst_mac, src_mac, on_link, mtu), (peer_mac, host_mac, Some(prefix), 1500));
            assert_eq!(from, ip(source));
            let view = network.view();
            let interface = &view.interfaces[&ifindex];
            assert_eq!((interface.name.as_str(), interface.up, interface.kind), ("h0", true, LinkKind::Veth));
            assert!(view.addresses.contains(&(ip(source), prefix, ifindex)), "{:?}", view.addresses);
        }
        assert_eq!(network.hop("10.77.0.1", |_| true).await, NextHop::Local);
        // The kernel keeps both fresh by itself, and they are marked as ours.
        let neighbours = output("ip -d neigh show dev h0");
        assert_eq!(neighbours.matches("managed").count(), 2, "{neighbours}");
        assert_eq!(neighbours.matches("proto 87").count(), 2, "{neighbours}");
    });
}

#[test]
fn a_backend_that_announces_a_new_mac_is_followed() {
    let (host, peer) = pair();
    host.follow(&["10.77.0.2"], move |mut network| async move {
        let _before = network.hop("10.77.0.2", is_resolved).await;
        peer.write("/proc/sys/net/ipv4/conf/p0/arp_notify", "1");
        peer.ip("link set p0 address 02:00:00:00:77:02");
        let changed = Instant::now();
        let new = |hop: &NextHop| matches!(hop, NextHop::Resolved { dst_mac: [2, 0, 0, 0, 0x77, 2], .. });
        let _after = network.hop("10.77.0.2", new).await;
        println!("new MAC after {:?}", changed.elapsed());
    });
}

#[test]
fn a_backend_that_changes_its_mac_silently_is_found_again() {
    let (host, peer) = pair();
    // Else the kernel takes its neighbour's word for up to 45 s.
    host.write("/proc/sys/net/ipv4/neigh/h0/base_reachable_time_ms", "1000");
    host.write("/proc/sys/net/ipv4/neigh/h0/delay_first_probe_time", "1");
    host.write("/proc/sys/net/ipv4/neigh/h0/interval_probe_time_ms", "1000");
    host.write("/proc/sys/net/ipv4/neigh/h0/retrans_time_ms", "200");
    host.follow(&["10.77.0.2"], move |mut network| async move {
        let _before = network.hop("10.77.0.2", is_resolved).await;
        peer.ip("link set p0 address 02:00:00:00:77:03");
        let changed = Instant::now();
        let new = |hop: &NextHop| matches!(hop, NextHop::Resolved { dst_mac: [2, 0, 0, 0, 0x77, 3], .. });
        let _after = network.hop("10.77.0.2", new).await;
        println!("silent new MAC after {:?}", changed.elapsed());
    });
}

#[test]
fn a_link_that_loses_its_carrier_resolves_nothing_until_it_is_back() {
    let (host, peer) = pair();
    host.follow(&["10.77.0.2", "fd77::2"], move |mut network| async move {
        let unresolved = |hop: &NextHop| matches!(hop, NextHop::Unresolved { .. });
        for address in ["10.77.0.2", "fd77::2"] {
            let _up = network.hop(address, is_resolved).await;
        }
        peer.ip("link set p0 down");
        for address in ["10.77.0.2", "fd77::2"] {
            let _down = network.hop(address, unresolved).await;
        }
        peer.ip("link set p0 up");
        peer.ip("addr replace fd77::2/64 dev p0 nodad");
        for address in ["10.77.0.2", "fd77::2"] {
            let _up = network.hop(address, is_resolved).await;
        }
    });
}

#[test]
fn a_backend_that_nobody_answers_for_is_unresolved_and_found_when_it_appears() {
    let (host, peer) = pair();
    host.follow(&["10.77.0.9"], move |mut network| async move {
        let _absent = network.hop("10.77.0.9", |hop| matches!(hop, NextHop::Unresolved { .. })).await;
        peer.ip("addr add 10.77.0.9/24 dev p0");
        let appeared = Instant::now();
        let _present = network.hop("10.77.0.9", is_resolved).await;
        println!("found after {:?}", appeared.elapsed());
    });
}

#[test]
fn a_route_that_changes_its_gateway_is_followed() {
    let (host, first) = pair();
    let second = host.join("h1", "p1", ["10.78.0.1/24", "10.78.0.2/24", "fd78::1/64", "fd78::2/64"]);
    host.ip("route add 10.88.0.0/24 via 10.77.0.2 mtu 1400");
    let (first_mac, second_mac) = (first.mac("p0"), second.mac("p1"));
    host.follow(&["10.88.0.9"], move |mut network| async move {
        let via = |wanted: [u8; 6], size: u16| {
            move |hop: &NextHop| {
                matches!(hop, NextHop::Resolved { dst_mac, on_link: None, mtu, .. } if (*dst_mac, *mtu) == (wanted, size))
            }
        };
        let _first = network.hop("10.88.0.9", via(first_mac, 1400)).await;
        ip_here("route replace 10.88.0.0/24 via 10.78.0.2");
        let _second = network.hop("10.88.0.9", via(second_mac, 1500)).await;
        assert!(!output("ip -d neigh show dev h0").contains("managed"), "the former gateway is still under management");
        for (route, reason) in [
            ("replace blackhole 10.88.0.0/24", "no route to host"),
            ("replace prohibit 10.88.0.0/24", "route prohibits it"),
            ("del prohibit 10.88.0.0/24", "no route to host"),
        ] {
            ip_here(&format!("route {route}"));
            let _gone = network.hop("10.88.0.9", |hop| matches!(hop, NextHop::Unroutable { reason: r } if r == reason)).await;
        }
        ip_here("-6 route add fd88::/64 via fd77::2");
        network.watch(&["fd88::9"]);
        let _sixth = network.hop("fd88::9", via(first_mac, 1500)).await;
        ip_here("-6 route replace unreachable fd88::/64");
        let _gone = network.hop("fd88::9", |hop| matches!(hop, NextHop::Unroutable { .. })).await;
        drop((first, second));
    });
}

#[test]
fn neighbours_are_given_up_when_they_are_no_longer_watched_and_at_the_end() {
    let (host, peer) = pair();
    host.ip("neigh add 10.77.0.3 lladdr 02:00:00:00:77:33 dev h0 nud permanent");
    let left = host.follow(&["10.77.0.2", "10.77.0.3", "fd77::2"], move |mut network| async move {
        for address in ["10.77.0.2", "10.77.0.3", "fd77::2"] {
            let _resolved = network.hop(address, is_resolved).await;
        }
        network.watch(&["10.77.0.3", "fd77::2"]);
        let _view = network.until(|view| !view.next_hops.contains_key(&ip("10.77.0.2"))).await;
        network.shutdown.cancel();
        tokio::time::timeout(DEADLINE, network.network.task).await.unwrap().unwrap().unwrap();
        output("ip -d neigh show dev h0")
    });
    drop(peer);
    assert!(!left.contains("proto 87") && !left.contains("managed"), "{left}");
    assert!(left.contains("10.77.0.3 lladdr 02:00:00:00:77:33 PERMANENT"), "the operator's entry is gone: {left}");
}

#[test]
fn the_neighbours_of_a_killed_agent_can_be_released() {
    let (host, peer) = pair();
    let left = host.follow(&["10.77.0.2", "fd77::2"], move |mut network| async move {
        for address in ["10.77.0.2", "fd77::2"] {
            let _resolved = network.hop(address, is_resolved).await;
        }
        network.network.task.abort();
        assert!(network.network.task.await.unwrap_err().is_cancelled());
        assert_eq!(netlink::release_neighbours().await.unwrap(), 2);
        output("ip -d neigh show dev h0")
    });
    drop(peer);
    assert!(!left.contains("proto 87"), "{left}");
}

#[test]
fn lost_notifications_are_made_good() {
    let (host, peer) = pair();
    host.follow(&["10.77.0.2"], move |mut network| async move {
        let _resolved = network.hop("10.77.0.2", is_resolved).await;
        // All this happens while the follower, which shares this thread, cannot read: its buffer overflows long before the
        // last change.
        let mut batch = String::new();
        for n in 0_u32..20_000 {
            let [_, a, b, c] = n.to_be_bytes();
            writeln!(batch, "neigh add 10.{}.{b}.{c} lladdr 02:00:00:00:00:01 dev h0 nud permanent", 100 + a).unwrap();
        }
        batch += "addr add 10.79.0.1/24 dev h0\nlink set h0 mtu 1300\n";
        ip_batch(&batch);
        let _view = network.until(|view| view.addresses.iter().any(|(own, ..)| *own == ip("10.79.0.1"))).await;
        let _hop = network.hop("10.77.0.2", |hop| matches!(hop, NextHop::Resolved { mtu: 1300, .. })).await;
        drop(peer);
    });
}

#[test]
fn an_interface_is_found_by_its_name() {
    let (host, peer) = pair();
    let mac = host.mac("h0");
    host.block_on(move || async move {
        let (index, interface) = netlink::link_by_name("h0").await.unwrap().expect("h0 exists");
        assert!(index > 1);
        assert_eq!((interface.name.as_str(), interface.mac, interface.mtu), ("h0", mac, 1500));
        assert_eq!(netlink::link_by_name("none").await.unwrap(), None);
        assert_eq!(netlink::link_by_name("a-name-that-no-interface-can-have").await.unwrap(), None);
        drop(peer);
    });
}

/// A host (`h0`, 10.77.0.1, fd77::1) and a machine on its link (`p0`, .2).
fn pair() -> (Namespace, Namespace) {
    let host = Namespace::new();
    let peer = host.join("h0", "p0", ["10.77.0.1/24", "10.77.0.2/24", "fd77::1/64", "fd77::2/64"]);
    (host, peer)
}

type Work = Box<dyn FnOnce() + Send>;

/// A network namespace: a thread that lives in it and does there what it is told.
struct Namespace {
    work: mpsc::Sender<Work>,
    path: String,
}

impl Namespace {
    fn new() -> Self {
        let (work, todo) = mpsc::channel::<Work>();
        let (ready, entered) = mpsc::channel();
        drop(thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root: run it with `cargo xtask test`");
            ready.send(format!("/proc/{}/task/{}/ns/net", std::process::id(), gettid())).expect("nobody waits");
            for work in todo {
                work();
            }
        }));
        let namespace = Self { work, path: entered.recv().expect("no namespace") };
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs `work` in the namespace and waits for it; its panic becomes ours.
    fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        self.work
            .send(Box::new(move || done.send(work()).expect("nobody waits")))
            .expect("the namespace's thread is gone");
        result.recv().expect("failed inside the namespace (see above)")
    }

    fn block_on<F: Future<Output = T>, T: Send + 'static>(&self, work: impl FnOnce() -> F + Send + 'static) -> T {
        self.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("no runtime");
            runtime.block_on(work())
        })
    }

    /// Follows the network of this namespace while `work` runs in it.
    fn follow<F: Future<Output = T>, T: Send + 'static>(
        &self,
        addresses: &[&'static str],
        work: impl FnOnce(Followed) -> F + Send + 'static,
    ) -> T {
        let watched = addresses.iter().map(|address| ip(address)).collect();
        self.block_on(move || async move {
            let (watched, receiver) = watch::channel(watched);
            let shutdown = CancellationToken::new();
            let network = netlink::start(receiver, shutdown.clone()).await.expect("cannot follow");
            work(Followed { network, watched, shutdown }).await
        })
    }

    /// Makes a new namespace and a cable to it; `addresses`: ours and theirs, IPv4 and IPv6.
    fn join(&self, ours: &'static str, theirs: &'static str, addresses: [&'static str; 4]) -> Self {
        let other = Self::new();
        self.ip(&format!("link add {ours} type veth peer name {theirs}"));
        self.ip(&format!("link set {theirs} netns {}", other.path));
        for (namespace, device, v4, v6) in
            [(self, ours, addresses[0], addresses[2]), (&other, theirs, addresses[1], addresses[3])]
        {
            namespace.ip(&format!("addr add {v4} dev {device}"));
            namespace.ip(&format!("addr add {v6} dev {device} nodad"));
            namespace.ip(&format!("link set {device} up"));
        }
        other
    }

    fn ip(&self, arguments: &str) {
        let arguments = arguments.to_owned();
        self.run(move || ip_here(&arguments));
    }

    fn write(&self, path: &'static str, text: &'static str) {
        self.run(move || std::fs::write(path, text).expect(path));
    }

    fn mac(&self, device: &str) -> [u8; 6] {
        let command = format!("ip -brief link show {device}");
        let line = self.run(move || output(&command));
        let mac = line.split_whitespace().nth(2).expect("no MAC address in `ip -brief link`");
        let bytes: Vec<u8> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).expect(byte)).collect();
        bytes.try_into().expect("six bytes")
    }
}

/// A followed network, and what it is driven by.
struct Followed {
    network: Network,
    watched: watch::Sender<BTreeSet<IpAddr>>,
    shutdown: CancellationToken,
}

impl Followed {
    fn view(&self) -> Arc<NetworkView> {
        self.network.view.borrow().clone()
    }

    fn watch(&self, addresses: &[&str]) {
        self.watched.send(addresses.iter().map(|address| ip(address)).collect()).expect("the follower has ended");
    }

    async fn until(&mut self, wanted: impl Fn(&NetworkView) -> bool) -> Arc<NetworkView> {
        let found = tokio::time::timeout(DEADLINE, self.network.view.wait_for(|view| wanted(view))).await;
        let found = found.map(|view| view.expect("the follower has ended").clone());
        found.unwrap_or_else(|_| panic!("not within {DEADLINE:?}; the view is {:#?}", self.view()))
    }

    /// Waits until the next hop to `address` is as wanted.
    async fn hop(&mut self, address: &str, wanted: impl Fn(&NextHop) -> bool) -> NextHop {
        let address = ip(address);
        self.until(|view| view.next_hops.get(&address).is_some_and(&wanted)).await.next_hops[&address].clone()
    }
}

fn is_resolved(hop: &NextHop) -> bool {
    matches!(hop, NextHop::Resolved { .. })
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

/// Runs `ip` in the calling thread's namespace.
fn ip_here(arguments: &str) {
    let _text: String = output(&format!("ip {arguments}"));
}

fn output(command: &str) -> String {
    let mut words = command.split_whitespace();
    let done = Command::new(words.next().expect("no command")).args(words).output().expect(command);
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("not text")
}

fn ip_batch(lines: &str) {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("no ip");
    child.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("ip reads");
    assert!(child.wait().expect("ip ends").success());
}

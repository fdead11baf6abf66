//! `decap`: the backend's side of ipip and gue, for kernels that have none, until SIGTERM or SIGINT.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU16;

use clap::{Args, ValueEnum};
use nix::ifaddrs::getifaddrs;
use tokio::signal::unix::{SignalKind, signal};

use super::output::print;
use super::{Context, Failure};
use crate::config::XdpMode;
use crate::edge::bpf::{DecapRequest, Decapsulation};
use crate::pure::encap::Encap;

/// What `decap` takes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Interface that encapsulated packets come in by.
    #[arg(long, value_name = "IF")]
    interface: String,
    /// VIP that inner packets may be for; may be given several times [default: the addresses on lo].
    #[arg(long, value_name = "ADDR")]
    vip: Vec<IpAddr>,
    /// Address of this host that outer packets may be for [default: those of the interface].
    #[arg(long, value_name = "OWN")]
    address: Vec<IpAddr>,
    /// UDP port of gue.
    #[arg(long, value_name = "PORT", default_value_t = Encap::default().gue_port)]
    gue_port: NonZeroU16,
    /// How the program is attached.
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    mode: ModeArgument,
}

/// As `mode` of `[[interface]]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ModeArgument {
    /// Native where the driver can.
    #[default]
    Auto,
    /// In the driver.
    Native,
    /// In the stack.
    Generic,
}

pub(super) async fn execute(_context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let request = request(arguments)?;
    let failed = |error: std::io::Error| Failure::Failed(format!("cannot wait for signals: {error}"));
    // Asked for before the program is attached: a signal in between must not leave by the default way.
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let decapsulation = Decapsulation::attach(&request).map_err(|error| Failure::Agent(error.into()))?;
    let because = decapsulation.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    print(&format!(
        "{}: takes ipip and gue (port {}) off packets to {} for {}; {} XDP{because}. Ctrl-C ends it",
        request.interface,
        request.gue_port,
        listed(&request.own),
        listed(&request.vips),
        decapsulation.mode,
    ))?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    for (what, packets) in decapsulation.counters() {
        print(&format!("{packets:>12}  {}", what.name()))?;
    }
    Ok(())
}

fn request(arguments: Arguments) -> Result<DecapRequest, Failure> {
    let Arguments { interface, vip, address, gue_port, mode } = arguments;
    let vips = if vip.is_empty() { held_by("lo")? } else { vip };
    if vips.is_empty() {
        return Err(Failure::Usage(
            "no --vip, and lo holds none: put the VIP there (ip addr add VIP/32 dev lo), or name it".to_owned(),
        ));
    }
    let own = if address.is_empty() { held_by(&interface)? } else { address };
    if own.is_empty() {
        return Err(Failure::Usage(format!(
            "{interface} has no address: is that its name? If packets come to another one of this host, name it with --address"
        )));
    }
    if let Some(both) = own.iter().find(|own| vips.contains(own)) {
        return Err(Failure::Usage(format!("{both} cannot be the address of this host and a VIP at once")));
    }
    let mode = match mode {
        ModeArgument::Auto => XdpMode::Auto,
        ModeArgument::Native => XdpMode::Native,
        ModeArgument::Generic => XdpMode::Generic,
    };
    Ok(DecapRequest { interface, mode, own, vips, gue_port })
}

/// Addresses of an interface that others can send to.
fn held_by(interface: &str) -> Result<Vec<IpAddr>, Failure> {
    let all = getifaddrs().map_err(|error| Failure::Failed(format!("cannot read this host's addresses: {error}")))?;
    let addresses: BTreeSet<IpAddr> = all
        .filter(|entry| entry.interface_name == interface)
        .filter_map(|entry| {
            let address = entry.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
        })
        .filter(|address| !address.is_loopback())
        .collect();
    Ok(addresses.into_iter().collect())
}

fn listed(addresses: &[IpAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

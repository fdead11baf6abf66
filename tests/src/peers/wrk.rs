//! The client: wrk, and what it prints.

use std::net::IpAddr;
use std::process::{Command, Stdio};

use serde::Serialize;

use super::peer::{CLIENT_CPUS, PORT};
use crate::netns::Netns;

/// What the client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// Every request opens a connection and closes it.
    Connections,
    /// Connections stay open.
    Requests,
}

/// What it met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Figures {
    /// Requests (each a connection, or not) a second.
    pub(super) per_second: f64,
    /// Half were answered within, microseconds.
    pub(super) p50_us: f64,
    /// 99 of 100 were answered within, microseconds.
    pub(super) p99_us: f64,
    /// Requests that failed.
    pub(super) errors: u64,
}

/// Runs it for some seconds.
pub(super) fn run(client: &Netns, target: IpAddr, load: Load, seconds: u32) -> Figures {
    let mut command = Command::new("taskset");
    let _ = command.args(["-c", CLIENT_CPUS, "wrk", "-t1", "--latency", &format!("-d{seconds}s")]);
    let _ = match load {
        Load::Connections => command.args(["-c64", "-H", "Connection: close"]),
        Load::Requests => command.arg("-c16"),
    };
    let _ = command.arg(format!("http://{target}:{PORT}/")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = client.start(command).wait_with_output().expect("wrk can be waited for");
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text).unwrap_or_else(|| panic!("wrk says:\n{text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn parse(text: &str) -> Option<Figures> {
    let after = |head: &str| text.lines().find_map(|line| line.trim().strip_prefix(head)).map(str::trim);
    let errors = after("Socket errors:")
        .map_or(0, |line| line.split(',').filter_map(|part| part.split_whitespace().nth(1)?.parse::<u64>().ok()).sum());
    Some(Figures {
        per_second: after("Requests/sec:")?.parse().ok()?,
        p50_us: microseconds(after("50%")?)?,
        p99_us: microseconds(after("99%")?)?,
        errors,
    })
}

fn microseconds(text: &str) -> Option<f64> {
    let end = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(end);
    let factor = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_prints_is_understood() {
        let text = "Running 2s test @ http://10.20.0.100:8080/\n  1 threads and 64 connections\n  Latency Distribution\n     \
                    50%    4.31ms\n     75%    5.00ms\n     90%    6.00ms\n     99%  912.00us\n  22334 requests in 2.00s, 3MB read\n  \
                    Socket errors: connect 0, read 2, write 0, timeout 1\nRequests/sec:  11152.55\nTransfer/sec:      1.6MB\n";
        let expected = Figures { per_second: 11_152.55, p50_us: 4_310.0, p99_us: 912.0, errors: 3 };
        assert_eq!(parse(text), Some(expected));
        assert_eq!(parse("unable to connect"), None);
    }
}

//! `explain`: what the packet path would do with a packet, step by step.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};

use super::output::{Page, Paint, Tone};
use super::{Context, Failure};
use crate::pure::command::Reply;
use crate::pure::model::Protocol;
use crate::pure::snapshot::{Explanation, FlowQuery};

/// The packet.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    flow: Flow,
    /// Ask for a SYN rather than for a later segment.
    #[arg(long)]
    syn: bool,
}

/// A flow, by its tuple.
#[derive(Debug, Args)]
pub(super) struct Flow {
    /// Protocol.
    #[arg(value_enum)]
    protocol: Transport,
    /// The client's address:port.
    client: SocketAddr,
    /// VIP:port.
    vip: SocketAddr,
}

impl Flow {
    /// As the API is asked.
    pub(super) fn query(&self, syn: bool) -> Result<FlowQuery, Failure> {
        let Self { protocol, client, vip } = *self;
        let protocol = match protocol {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
        };
        if syn && protocol == Protocol::Udp {
            return Err(Failure::Usage("--syn goes with tcp: udp has no SYN".to_owned()));
        }
        if client.is_ipv4() != vip.is_ipv4() {
            return Err(Failure::Usage(format!("{client} and {vip} are not of one family")));
        }
        Ok(FlowQuery { protocol, client, vip, syn })
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Transport {
    Tcp,
    Udp,
}

pub(super) async fn execute(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let query = arguments.flow.query(arguments.syn)?;
    let explanation = context.client.explain(&query).await?;
    context.output.print(&Reply::Explanation(explanation), |reply, paint| match reply {
        Reply::Explanation(explanation) => text(&query, explanation, paint),
        _ => String::new(),
    })
}

fn text(query: &FlowQuery, explanation: &Explanation, paint: Paint) -> String {
    let what = match (query.protocol, query.syn) {
        (Protocol::Tcp, true) => "a SYN",
        (Protocol::Tcp, false) => "a segment",
        (Protocol::Udp, _) => "a datagram",
    };
    let mut page = Page::default();
    page.line(format!("{what} {} {} > {}", query.protocol.name(), query.client, query.vip));
    let tone = if explanation.verdict.starts_with("drop_") { Tone::Bad } else { Tone::Good };
    page.line(format!("verdict  {}", paint.tint(tone, &explanation.verdict)));
    let owner = explanation.owner.map(|owner| format!(" (owner {owner})")).unwrap_or_default();
    let lines = [
        ("service", explanation.service.clone()),
        ("backend", explanation.backend.map(|backend| format!("{backend}{owner}"))),
        (
            "slot",
            explanation.slot.map(|slot| format!("{slot}, {}", explanation.slot_state.as_deref().unwrap_or("unknown"))),
        ),
        ("flow", explanation.flow.clone()),
    ];
    for (name, words) in lines {
        if let Some(words) = words {
            page.line(format!("{name:<8} {words}"));
        }
    }
    for (at, step) in explanation.steps.iter().enumerate() {
        page.line(format!("  {}. {step}", at + 1));
    }
    page.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_reads_from_the_verdict_to_the_steps() {
        let query = FlowQuery {
            protocol: Protocol::Tcp,
            client: "192.0.2.7:40000".parse().unwrap(),
            vip: "203.0.113.10:8000".parse().unwrap(),
            syn: true,
        };
        let explanation = Explanation {
            verdict: "forward".to_owned(),
            owner: Some(3),
            backend: "10.0.0.11:8000".parse().ok(),
            service: Some("llm".to_owned()),
            slot: Some(4711),
            slot_state: Some("settled on 3".to_owned()),
            steps: vec!["service llm".to_owned(), "slot 4711 is settled: its owner".to_owned()],
            ..Explanation::default()
        };
        assert_eq!(
            text(&query, &explanation, Paint::Plain),
            "a SYN tcp 192.0.2.7:40000 > 203.0.113.10:8000\nverdict  forward\nservice  llm\n\
             backend  10.0.0.11:8000 (owner 3)\nslot     4711, settled on 3\n  1. service llm\n  2. slot 4711 is settled: \
             its owner\n"
        );
    }
}

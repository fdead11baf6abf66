//! The lab from the command line: what runs on its machines.

use std::io;
use std::net::SocketAddr;

use clap::{Parser, Subcommand};
use weir_tests::server::serve::serve;

#[derive(Debug, Parser)]
#[command(name = "weir-lab", about = "What runs on the machines of Weir's lab")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve HTTP/1.1 and UDP echo in the present namespace until stdin ends
    Serve {
        /// Name that answers carry
        #[arg(long)]
        name: String,
        /// Address and port to listen on; may be repeated
        #[arg(long, required = true)]
        listen: Vec<SocketAddr>,
    },
}

fn main() -> io::Result<()> {
    let Verb::Serve { name, listen } = Arguments::parse().verb;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(name, listen))
}

//! The lab from the command line: what runs on its machines, and the demo.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use weir_tests::demo;
use weir_tests::server::serve::serve;

#[derive(Debug, Parser)]
#[command(name = "weir-lab", about = "Weir's lab: what runs on its machines, and the demo")]
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
    /// Show Weir at work: servers die, return, are drained and added under load (root)
    Demo(demo::Options),
}

fn main() -> ExitCode {
    match Arguments::parse().verb {
        Verb::Demo(options) => demo::run(&options),
        Verb::Serve { name, listen } => match run_server(name, listen) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

fn run_server(name: String, listen: Vec<SocketAddr>) -> std::io::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(name, listen))
}

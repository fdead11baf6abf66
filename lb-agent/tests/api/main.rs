//! The API over a real socket, and the CLI as a program against it; no root, no packet path.
#![expect(clippy::unwrap_used, reason = "tests panic; helpers of tests do too")]

mod cli;
mod flows;
mod harness;
mod http;

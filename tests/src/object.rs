//! Changes the packet program inside a copy of the agent's binary, as a newer build would.
//!
//! The agent embeds the compiled object. A letter in its BTF strings (the name of a source file) makes it another
//! program to whoever compares bytes, and the same to the kernel.

use std::fs;
use std::path::Path;

/// First bytes of a little-endian 64-bit ELF.
const ELF: [u8; 6] = [0x7f, b'E', b'L', b'F', 2, 1];

/// `e_machine` of BPF, at offset 18.
const BPF: [u8; 2] = [247, 0];

/// Name of a source file in the object's line information.
const SOURCE: &[u8] = b"lb-ebpf/src/main.rs";

/// The binary at `agent`, whose program calls itself `id`, with another, equivalent program of another name.
pub fn with_another_program(agent: &Path, id: &str) -> Vec<u8> {
    let mut bytes = fs::read(agent).expect("the agent's binary can be read");
    let object = objects(&bytes).last().copied().expect("the agent embeds a BPF object");
    let source =
        positions(&bytes[object..], SOURCE).first().map(|at| object + at).expect("the object has line information");
    // "main.rs" becomes "mein.rs".
    let letter = source + SOURCE.len() - b"ain.rs".len();
    assert_eq!(bytes[letter], b'a');
    bytes[letter] = b'e';
    let names = positions(&bytes, id.as_bytes());
    assert!(!names.is_empty(), "the agent knows its program as {id}");
    for name in names {
        bytes[name] = if bytes[name] == b'0' { b'1' } else { b'0' };
    }
    bytes
}

fn positions(bytes: &[u8], wanted: &[u8]) -> Vec<usize> {
    let windows = bytes.windows(wanted.len()).enumerate();
    windows.filter(|(_, window)| *window == wanted).map(|(at, _)| at).collect()
}

fn objects(bytes: &[u8]) -> Vec<usize> {
    let starts = bytes.windows(20).enumerate();
    starts.filter(|(_, window)| window[..6] == ELF && window[18..] == BPF).map(|(at, _)| at).collect()
}

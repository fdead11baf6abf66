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

/// The binary at `agent` with another, equivalent packet program.
pub fn with_another_program(agent: &Path) -> Vec<u8> {
    let mut bytes = fs::read(agent).expect("the agent's binary can be read");
    let object = objects(&bytes).last().copied().expect("the agent embeds a BPF object");
    let tail = &bytes[object..];
    let found = tail.windows(SOURCE.len()).position(|window| window == SOURCE);
    let name = object + found.expect("the object has line information");
    // "main.rs" becomes "mein.rs".
    let letter = name + SOURCE.len() - b"ain.rs".len();
    assert_eq!(bytes[letter], b'a');
    bytes[letter] = b'e';
    bytes
}

fn objects(bytes: &[u8]) -> Vec<usize> {
    let starts = bytes.windows(20).enumerate();
    starts.filter(|(_, window)| window[..6] == ELF && window[18..] == BPF).map(|(at, _)| at).collect()
}

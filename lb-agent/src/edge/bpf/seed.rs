//! The flow hash's secret. It outlives programs and agents: with another seed every flow would look up another place.

use std::fs;
use std::io;
use std::path::Path;

use lb_common::hash::Seed;

use super::bpffs::file_error;
use super::error::LoadError;
use super::leftovers::replace;

/// The seed for maps that are made anew: that of `state_dir`, else `fresh`, which is written there first. Also says what was
/// wrong with the file, if something was.
///
/// # Errors
/// Where the file cannot be read or written.
pub(super) fn choose(state_dir: &Path, fresh: Seed) -> Result<(Seed, Option<String>), LoadError> {
    let file = state_dir.join("seed");
    let problem = match fs::read_to_string(&file) {
        Ok(text) => match parse(&text) {
            Some(seed) => return Ok((seed, None)),
            None => Some(format!("{} was unreadable; a new seed was made, as no flow depends on it", file.display())),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(file_error("read", &file, source)),
    };
    write(&file, &fresh)?;
    Ok((fresh, problem))
}

/// Makes `state_dir` agree with the seed of maps that were adopted.
///
/// # Errors
/// Where the file cannot be written.
pub(super) fn keep(state_dir: &Path, seed: &Seed) -> Result<(), LoadError> {
    let file = state_dir.join("seed");
    if fs::read_to_string(&file).ok().and_then(|text| parse(&text)).as_ref() == Some(seed) {
        return Ok(());
    }
    write(&file, seed)
}

fn write(file: &Path, seed: &Seed) -> Result<(), LoadError> {
    replace(file, format!("{:016x}{:016x}{:016x}{:016x}\n", seed[0], seed[1], seed[2], seed[3]).as_bytes())
}

fn parse(text: &str) -> Option<Seed> {
    let text = text.trim_end();
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut seed = Seed::default();
    for (n, word) in seed.iter_mut().enumerate() {
        *word = u64::from_str_radix(&text[16 * n..16 * (n + 1)], 16).ok()?;
    }
    (seed != Seed::default()).then_some(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_made_once_and_found_again() {
        let dir = std::env::temp_dir().join(format!("weir-seed-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let first = [1, 2, 3, u64::MAX];
        assert_eq!(choose(&dir, first).unwrap(), (first, None));
        assert_eq!(choose(&dir, [9; 4]).unwrap(), (first, None));
        keep(&dir, &[5; 4]).unwrap();
        assert_eq!(choose(&dir, [9; 4]).unwrap(), ([5; 4], None));
        fs::write(dir.join("seed"), "nonsense").unwrap();
        let (seed, problem) = choose(&dir, [9; 4]).unwrap();
        assert_eq!(seed, [9; 4]);
        assert!(problem.is_some());
        fs::remove_dir_all(&dir).unwrap();
    }
}

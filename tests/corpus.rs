//! Plays what the fuzz targets were fed with: every input that was ever found to matter, and what a few changes make of
//! it. The bodies of the targets are plain code in `fuzz/src`; what an input is for them is said there.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "there it is a crate of its own")]
mod targets;

use targets::TARGETS;

/// How often a target that only computes is fed with changed inputs, and how often one that serves connections.
const CHANGED: [usize; 2] = [4_000, 150];

/// Names the input that a target did not survive.
struct Input<'a>(&'a Path, &'a [u8]);

impl Drop for Input<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("with {}, as {:?}", self.0.display(), String::from_utf8_lossy(self.1));
        }
    }
}

#[test]
fn every_input_of_the_corpora_keeps_the_promises() {
    for (name, target) in TARGETS {
        for (path, bytes) in corpus(name) {
            let input = Input(&path, &bytes);
            target(&bytes);
            drop(input);
        }
    }
}

#[test]
fn what_changes_make_of_the_corpora_keeps_the_promises_too() {
    for (name, target) in TARGETS {
        let corpus = corpus(name);
        // The same changes each time: what is found is found by everybody.
        let mut chance = fastrand::Rng::with_seed(7);
        for _ in 0..CHANGED[usize::from(matches!(name, "caller" | "vendor"))] {
            let (path, bytes) = &corpus[chance.usize(..corpus.len())];
            let (_, other) = &corpus[chance.usize(..corpus.len())];
            let bytes = changed(bytes, other, &mut chance);
            let input = Input(path, &bytes);
            target(&bytes);
            drop(input);
        }
    }
}

#[test]
fn every_target_has_a_corpus_and_a_program() {
    let names: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let listed = |folder: &str| {
        let mut names: Vec<_> = entries(&root().join(folder)).iter().map(|path| stem(path)).collect();
        names.sort();
        names
    };
    assert_eq!(listed("corpus"), names);
    assert_eq!(listed("fuzz_targets"), names);
}

/// One input changed in a few places, by bytes of its own, of another one or of no one.
fn changed(bytes: &[u8], other: &[u8], chance: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..chance.usize(1..5) {
        let at = chance.usize(..=bytes.len());
        let end = (at + chance.usize(..8)).min(bytes.len());
        match chance.u8(..6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.insert(at, chance.u8(..)),
            3 => {
                drop(bytes.splice(at..end, other.iter().copied().skip(chance.usize(..=other.len())).take(20)))
            }
            4 => bytes.extend_from_within(at..),
            _ => bytes[at..end].iter_mut().for_each(|byte| *byte ^= 1 << chance.u8(..8)),
        }
        bytes.truncate(64 << 10);
    }
    bytes
}

/// The inputs of a target, by their files.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let files = entries(&root().join("corpus").join(name));
    assert!(!files.is_empty(), "{name} has no corpus");
    files.into_iter().map(|path| (path.clone(), fs::read(path).expect("a readable input"))).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable entry").path()).collect();
    paths.sort();
    paths
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

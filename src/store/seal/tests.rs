//! Which files hold keys, and what is opened by whom.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;

const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";
const BASE64: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER: &str = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn seal(text: &str) -> Seal {
    Seal::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_key_is_the_same_in_hex_and_in_base64() {
    let sealed = seal(HEX).seal(&[b"a"], b"text").expect("sealed");
    for text in [BASE64, &format!("# mine\r\n\r\n  {BASE64}\r\n"), &format!("{OTHER}\n{HEX}\n\n#\n")] {
        assert_eq!(seal(text).open(&[b"a"], &sealed).as_deref(), Some(&b"text"[..]), "{text}");
    }
    assert_eq!(seal(OTHER).open(&[b"a"], &sealed), None);
}

#[test]
fn the_first_key_seals_and_all_open() {
    let rotated = seal(&format!("{OTHER}\n{HEX}"));
    let (old, new) = (seal(HEX).seal(&[], b"old"), rotated.seal(&[], b"new"));
    let (old, new) = (old.expect("sealed"), new.expect("sealed"));
    assert_eq!(rotated.open(&[], &old).as_deref(), Some(&b"old"[..]));
    assert_eq!(rotated.open(&[], &new).as_deref(), Some(&b"new"[..]));
    assert_eq!(seal(OTHER).open(&[], &new).as_deref(), Some(&b"new"[..]));
    assert_eq!(seal(HEX).open(&[], &new), None);
}

#[test]
fn no_two_values_are_sealed_alike() {
    let seal = seal(HEX);
    assert_ne!(seal.seal(&[], b"text"), seal.seal(&[], b"text"));
    let sealed = seal.seal(&[], b"").expect("sealed");
    assert_eq!((sealed.len(), seal.open(&[], &sealed)), (NONCE + TAG, Some(Vec::new())));
}

#[test]
fn whatever_was_changed_is_not_opened() {
    let seal = seal(HEX);
    let aad: [&[u8]; 2] = [b"key", b"12345678"];
    let sealed = seal.seal(&aad, b"a summary of a call").expect("sealed");
    for at in 0..sealed.len() {
        for bit in 0..8 {
            let mut changed = sealed.clone();
            changed[at] ^= 1u8 << bit;
            assert_eq!(seal.open(&aad, &changed), None, "{at} {bit}");
        }
        assert_eq!(seal.open(&aad, &sealed[..at]), None, "cut at {at}");
        assert_eq!(seal.open(&aad, &sealed[at + 1..]), None, "from {at}");
    }
    let others: [&[&[u8]]; 6] = [
        &[b"kez", b"12345678"],
        &[b"key", b"12345679"],
        &[b"key1", b"2345678"],
        &[b"key12345678"],
        &[b"key", b"12345678", b""],
        &[],
    ];
    for other in others {
        assert_eq!(seal.open(other, &sealed), None, "{other:?}");
    }
    assert!(seal.open(&aad, &sealed).is_some());
}

#[test]
fn what_is_no_key_is_refused_by_its_line_and_not_quoted() {
    let no_key = |line| format!("the key file holds no key in line {line}");
    let table = [
        (String::new(), "the key file is empty".to_owned()),
        ("\n# none yet\n \r\n".to_owned(), "the key file is empty".to_owned()),
        ("canary".to_owned(), no_key(1)),
        (format!("# one\n{HEX}\n{}", &HEX[1..]), no_key(3)),
        (format!("{}x", &HEX[1..]), no_key(1)),
        (format!("{HEX}00"), no_key(1)),
        (format!("{HEX} # mine"), no_key(1)),
        (format!("0x{}", &HEX[2..]), no_key(1)),
        // Unpadded, of another alphabet, a byte short, a byte long, with bits that say nothing.
        (BASE64.trim_end_matches('=').to_owned(), no_key(1)),
        (BASE64.replacen('A', "_", 1), no_key(1)),
        ("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==".to_owned(), no_key(1)),
        ("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g".to_owned(), no_key(1)),
        (BASE64.replace("8=", "9="), no_key(1)),
    ];
    for (text, message) in table {
        let Err(error) = Seal::parse(text.as_bytes()) else { panic!("{text}") };
        assert_eq!(error.to_string(), message, "{text}");
        assert!(!format!("{error:?}").contains("canary"));
    }
}

#[test]
fn the_file_is_held_to_what_holds_for_files_of_api_keys() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("cache_key");
    let open = |trusted: &[PathBuf]| Seal::open_file(&path, trusted).err().map(|error| error.to_string());
    assert_eq!(open(&[]).as_deref(), Some("the key file does not exist"));
    fs::write(&path, format!("{HEX}\n")).expect("written");
    for (mode, expected) in [
        (0o600, None),
        (0o440, None),
        (0o644, Some("the key file is readable by everybody (mode 0644)")),
        (0o444, Some("the key file is readable by everybody (mode 0444)")),
    ] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
        assert_eq!(open(&[]).as_deref(), expected, "{mode:o}");
    }
    assert_eq!(open(&[directory.path().to_owned()]), None, "where secrets are mounted");
}

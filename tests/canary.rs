//! The search for keys: whatever a gateway of these tests answers, logs, prints or leaves on disk is looked through for
//! the keys that the tests give it, plain, percent-encoded, in base64 and in the forms that Rust and JSON print bytes in.
//!
//! It is done where the bytes are read: by the callers of `gateway::world` and `shield::world`, by the wrappers around
//! processes in `gateway::program`, in the directories of `disk::world`, and in every event of the gateways that run in
//! the tests' own process. So every test fails in which a key gets out, whatever it is about. All keys that are given to
//! gateways begin with one of [`MARKS`].

use std::{
    fs,
    io::{self, Write},
    path::Path,
    sync::{LazyLock, Mutex, Once, PoisonError},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use memchr::memmem::Finder;
use percent_encoding::percent_decode;

/// How the keys of the tests begin.
const MARKS: [&str; 2] = ["canary-", "sandbox-key-"];

/// Fails where a key stands in these bytes.
pub(crate) fn search(what: &str, bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    if let Some(form) = found(bytes) {
        panic!("a key stands {form} in {what}: {}", String::from_utf8_lossy(bytes));
    }
    let logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(logged.is_empty(), "a key was logged: {logged:?}");
}

/// Fails where a key stands in a file of this directory, or of those below it.
pub(crate) fn search_below(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        search("the name of a file", path.as_os_str().as_encoded_bytes());
        let what = path.symlink_metadata().map(|it| it.file_type());
        if what.as_ref().is_ok_and(|what| what.is_dir()) {
            search_below(&path);
        } else if what.is_ok_and(|what| what.is_file()) {
            search(&path.display().to_string(), fs::read(&path).unwrap_or_default());
        }
    }
}

/// In which form a key stands in these bytes, if one does. Of what is long only the ends are searched for other forms than
/// the plain one, which would take long: it is long for a body that a test has made up.
fn found(bytes: &[u8]) -> Option<&'static str> {
    const END: usize = 32 << 10;
    static PLAIN: LazyLock<Vec<Finder<'static>>> =
        LazyLock::new(|| MARKS.iter().map(|mark| Finder::new(mark.as_bytes())).collect());
    if PLAIN.iter().any(|mark| mark.find(bytes).is_some()) {
        return Some("plain");
    }
    match bytes.len() {
        0..=65_536 => found_spelt(bytes),
        long => found_spelt(&bytes[..END]).or_else(|| found_spelt(&bytes[long - END..])),
    }
}

fn found_spelt(bytes: &[u8]) -> Option<&'static str> {
    static FORMS: LazyLock<Vec<(&str, Finder<'static>)>> =
        LazyLock::new(|| MARKS.iter().flat_map(|mark| forms(mark)).collect());
    let spelt =
        |bytes: &[u8]| FORMS.iter().find(|(_, form)| form.find(bytes).is_some()).map(|(name, _)| *name);
    let decoded = |mark: u8, decode: fn(&[u8]) -> Vec<u8>| {
        bytes.contains(&mark).then(|| spelt(&decode(bytes))).flatten()
    };
    spelt(bytes)
        .or_else(|| decoded(b'%', |bytes| percent_decode(bytes).collect()).and(Some("percent-encoded")))
        .or_else(|| decoded(b'\\', unescaped).and(Some("in escapes")))
}

/// The spellings of the beginning of a key that are searched for as they are, each with its name.
fn forms(mark: &str) -> Vec<(&'static str, Finder<'static>)> {
    let bytes = mark.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = |radix: fn(&u8) -> String| bytes.iter().map(radix).collect::<Vec<_>>().join(", ");
    let mut forms = vec![
        ("plain", mark.to_owned()),
        ("in hex", hex.to_uppercase()),
        ("in hex", hex),
        ("as a list of bytes", list(u8::to_string)),
    ];
    // Where it begins within a group of three bytes decides how it is spelt. Letters at the ends that depend on what
    // stands beside it are left out.
    for before in 0..3 {
        let text = [&[0; 3][..before], bytes].concat();
        for engine in [STANDARD, URL_SAFE] {
            let mut letters = [0; 64];
            let length = engine.encode_slice(&text, &mut letters).expect("room");
            let own = (before * 8).div_ceil(6)..text.len() * 8 / 6;
            assert!(own.end <= length);
            let form = ("in base64", String::from_utf8_lossy(&letters[own]).into_owned());
            if !forms.contains(&form) {
                forms.push(form);
            }
        }
    }
    forms.into_iter().map(|(name, form)| (name, Finder::new(form.as_bytes()).into_owned())).collect()
}

/// With `\u0061` put for what it stands for (RFC 8259 §7), and `\x61` as Rust prints it.
fn unescaped(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        let digits = match (byte, after.first()) {
            (b'\\', Some(b'u')) => after.get(1..5),
            (b'\\', Some(b'x')) => after.get(1..3),
            _ => None,
        };
        let code = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()).zip(digits) {
            Some((decoded, digits)) => {
                plain.push(decoded);
                rest = &after[1 + digits.len()..];
            }
            None => {
                plain.push(*byte);
                rest = after;
            }
        }
    }
    plain
}

/// The lines of the log that hold a key.
static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Searches, from now on, every event of every gateway in this process, at every level.
pub(crate) fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(|| Line)
            .finish();
        let _ = tracing::subscriber::set_global_default(subscriber);
    });
}

/// Where a line of the log goes: it is written at once. A panic here would be one of the gateway's, so that what is found
/// is only noted, and fails the next search.
pub(crate) struct Line;

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        note(line, &LOGGED);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a line down here if there is a key in it.
fn note(line: &[u8], keys: &Mutex<Vec<String>>) {
    if found(line).is_some() {
        let line = String::from_utf8_lossy(line).into_owned();
        keys.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

#[test]
fn a_key_is_found_in_every_form_and_at_every_place() {
    const KEY: &str = "canary-0071e5-4f3c9a77d2b8";
    let base64 = |engine: &dyn Fn(&[u8], &mut [u8]) -> usize, text: &str| {
        let mut letters = [0; 200];
        let length = engine(text.as_bytes(), &mut letters);
        String::from_utf8_lossy(&letters[..length]).into_owned()
    };
    let standard = |text: &[u8], to: &mut [u8]| STANDARD.encode_slice(text, to).expect("room");
    let url_safe = |text: &[u8], to: &mut [u8]| URL_SAFE.encode_slice(text, to).expect("room");
    let escapes = |form: fn(u8) -> String| KEY.bytes().map(form).collect::<String>();
    for before in ["", "x", "xy", "xyz", "Bearer ", "ÿ?>"] {
        let text = format!("{before}{KEY}{before}");
        for (form, spelt) in [
            ("plain", text.clone()),
            ("in base64", base64(&standard, &text)),
            ("in base64", base64(&url_safe, &text)),
            ("percent-encoded", format!("{before}{}", KEY.replace('-', "%2D"))),
            ("percent-encoded", format!("{before}{}", escapes(|byte| format!("%{byte:02x}")))),
            ("in escapes", format!("{before}{}", escapes(|byte| format!("\\u{byte:04x}")))),
            ("in escapes", format!("{before}{}", KEY.replace("na", "\\x6e\\x61"))),
            ("in hex", format!("{before}{}", escapes(|byte| format!("{byte:02X}")))),
            ("as a list of bytes", format!("{before}{:?}", KEY.as_bytes())),
        ] {
            assert_eq!(found(format!("{{\"a\":\"{spelt}\"}}").as_bytes()), Some(form), "{spelt}");
        }
    }
    for text in ["", "canary", "%", "%2", "\\u00", "\\", "100 % \\u0063anary", "{\"status\":\"completed\"}"] {
        assert_eq!(found(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn a_search_fails_where_there_is_a_key() {
    let caught = |what: fn()| std::panic::catch_unwind(what).is_err();
    assert!(caught(|| search("an answer", "HTTP/1.1 200 OK\r\nx-echo: canary-1\r\n\r\n")));
    assert!(!caught(|| search("an answer", "HTTP/1.1 200 OK\r\n\r\n")));
    let directory = tempfile::tempdir().expect("a directory");
    let below = directory.path().join("below");
    fs::create_dir(&below).expect("made");
    fs::write(below.join("file"), "{}").expect("written");
    search_below(directory.path());
    fs::write(below.join("file"), "{\"k\":\"sandbox-key-0123\"}").expect("written");
    let path = directory.path().to_owned();
    assert!(std::panic::catch_unwind(move || search_below(&path)).is_err());
    let noted = Mutex::default();
    note(b"INFO nothing of it\n", &noted);
    note(b"INFO the key is canary-1\n", &noted);
    assert_eq!(noted.into_inner().expect("sound"), ["INFO the key is canary-1\n"]);
}

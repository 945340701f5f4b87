//! What lines look like, and which of them there are.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;

/// Keeps all that is written.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl io::Write for Page {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Page {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).expect("log lines are text")
    }
}

fn settings(format: Format, level: &str) -> Settings {
    Settings { format, level: level.into(), hits: 1.0 }
}

/// The lines of what `story` logs, by the control that it may change them with.
fn logged(
    settings: &Settings,
    rust_log: Option<&str>,
    terminal: bool,
    story: impl FnOnce(Control),
) -> String {
    let page = Page::default();
    let lines = page.clone();
    let (subscriber, control) =
        subscriber(settings, rust_log, terminal, move || lines.clone()).expect("settings that hold");
    tracing::subscriber::with_default(subscriber, || story(control));
    page.text()
}

#[test]
fn auto_is_pretty_on_a_terminal_and_json_elsewhere() {
    let line = |format, terminal| {
        logged(&settings(format, "info"), None, terminal, |_| tracing::info!(answer = 42, "hello"))
    };
    for (format, terminal) in [(Format::Auto, false), (Format::Json, false), (Format::Json, true)] {
        let line: serde_json::Value = serde_json::from_str(&line(format, terminal)).expect("one JSON object");
        assert_eq!(line["message"], "hello");
        assert_eq!(line["answer"], 42);
        assert_eq!(line["level"], "INFO");
    }
    for (format, terminal) in [(Format::Auto, true), (Format::Pretty, false), (Format::Pretty, true)] {
        let line = line(format, terminal);
        assert!(line.ends_with("hello answer=42\n"), "{line}");
        assert_eq!(line.contains('\u{1b}'), terminal, "colours are for terminals");
    }
}

#[test]
fn a_bare_level_is_the_gateways_own() {
    let story = |_| {
        tracing::debug!("ours");
        tracing::info!(target: "hyper", "theirs");
        tracing::warn!(target: "hyper", "their warning");
        tracing::error!(target: "h2", "their error");
    };
    let count = |level: &str| logged(&settings(Format::Json, level), None, false, story).lines().count();
    assert_eq!(count("info"), 2);
    assert_eq!(count("debug"), 3);
    assert_eq!(count("DEBUG"), 3);
    assert_eq!(count("error"), 1);
    assert_eq!(count("off"), 0);
    assert_eq!(count("off,hyper=info"), 2);
}

#[test]
fn rust_log_wins_where_it_says_anything() {
    let lines = |rust_log| {
        logged(&settings(Format::Json, "error"), rust_log, false, |_| tracing::debug!("here")).lines().count()
    };
    assert_eq!(lines(None), 0);
    assert_eq!(lines(Some("")), 0);
    assert_eq!(lines(Some(" ")), 0);
    assert_eq!(lines(Some("callgate=debug")), 1);
}

#[test]
fn directives_that_cannot_be_read_are_named_with_their_origin() {
    let problem = |level: &str, rust_log: Option<&str>| {
        subscriber(&settings(Format::Json, level), rust_log, false, io::sink)
            .map(drop)
            .expect_err("nonsense")
            .to_string()
    };
    assert!(problem("inof", None).starts_with("log.level: \"inof\" is no level"));
    assert!(problem("callgate=loud", None).starts_with("log.level: "));
    assert!(problem("info", Some("callgate=loud")).starts_with("RUST_LOG: "));
    for good in ["info", " Warn ", "info,callgate=trace", "off", "callgate::upstream=debug"] {
        assert_eq!(check_level(good), Ok(()), "{good}");
    }
    for bad in ["", "verbose", "info,", "info,lots", "=", "7"] {
        assert!(check_level(bad).is_err(), "{bad}");
    }
}

#[test]
fn level_and_format_change_at_run_time() {
    let text = logged(&settings(Format::Json, "info"), None, false, |control| {
        let span = tracing::info_span!("request", id = "one").entered();
        tracing::debug!("unseen");
        tracing::info!("first");
        control.apply(&settings(Format::Json, "debug")).expect("a level");
        tracing::debug!("second");
        control.apply(&settings(Format::Pretty, "info")).expect("a format");
        tracing::info!("third");
        tracing::debug!("unseen");
        assert!(control.apply(&settings(Format::Json, "inof")).is_err());
        tracing::info!("fourth");
        drop(span);
        let _span = tracing::info_span!("request", id = "two").entered();
        tracing::info!("fifth");
    });
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    for (line, message) in lines.iter().zip(["first", "second"]) {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["message"], message);
        assert_eq!(line["span"]["id"], "one");
    }
    assert!(lines[2].ends_with("third") && lines[3].ends_with("fourth"));
    assert!(lines[4].contains("request{id=\"two\"}") && lines[4].ends_with("fifth"));
}

#[test]
fn rust_log_outlives_a_reload() {
    let text = logged(&settings(Format::Json, "error"), Some("debug"), false, |control| {
        control.apply(&settings(Format::Pretty, "error")).expect("settings that hold");
        tracing::debug!("still here");
    });
    assert!(text.ends_with("still here\n"), "{text}");
}

#[test]
fn what_a_caller_sends_cannot_write_lines_or_drive_the_terminal() {
    let attack =
        "curl\n2026-01-01T00:00:00Z  INFO callgate: all is well\r\u{1b}[2J\u{1b}]0;pwned\u{7}\u{9b}1m";
    for format in [Format::Pretty, Format::Json] {
        let text = logged(&settings(format, "info"), None, false, |_| {
            let _span = tracing::info_span!("request", agent = %attack, quoted = attack).entered();
            tracing::info!(agent = %attack, quoted = attack, debug = ?attack, "asked by {attack}");
            let error = io::Error::other(attack);
            tracing::error!(error = &error as &dyn std::error::Error, "failed");
        });
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(!text.contains(|c: char| c.is_ascii_control() && c != '\n'), "{text:?}");
    }
}

#[test]
fn a_panic_is_one_line_with_its_place() {
    // The hook is the process's: called by hand, so that the other tests' panics go where they always go.
    let text = logged(&settings(Format::Json, "info"), None, false, |_| {
        let before = panic::take_hook();
        let seen = Arc::new(Mutex::new(None));
        let theirs = Arc::clone(&seen);
        let me = std::thread::current().id();
        panic::set_hook(Box::new(move |info| {
            if std::thread::current().id() == me {
                log_panic(info);
                *theirs.lock().unwrap() = info.location().map(ToString::to_string);
            }
        }));
        let long = "x".repeat(10_000);
        assert!(panic::catch_unwind(|| panic!("on purpose\n{long}")).is_err());
        panic::set_hook(before);
        assert!(seen.lock().unwrap().is_some());
    });
    let line: serde_json::Value = serde_json::from_str(&text).expect("one line");
    assert_eq!(line["message"], "panicked");
    assert!(line["location"].as_str().expect("a place").contains("telemetry/tests.rs:"));
    let message = line["panic"].as_str().expect("a message");
    assert!(message.starts_with("on purpose\nxxx") && message.len() == MAX_PANIC_MESSAGE);
}

proptest! {
    #[test]
    fn any_value_stays_on_its_line(text in any::<String>()) {
        for format in [Format::Pretty, Format::Json] {
            let page = logged(&settings(format, "info"), None, true, |_| tracing::info!(value = %text, "{text}"));
            prop_assert_eq!(page.matches('\n').count(), 1);
            prop_assert_eq!(page.chars().filter(|c| *c == '\r').count(), 0);
        }
    }
}

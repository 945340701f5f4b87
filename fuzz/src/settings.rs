//! The settings: a configuration file and an environment, which are taken whole or refused line by line.

use std::collections::BTreeMap;

use callgate::{
    settings::{Loaded, Problem, Settings},
    upstream::credentials::KeySource,
};

/// Between the file and the environment, on a line of its own.
const ENVIRONMENT: &str = "\n----\n";
/// What stands for a secret in the input: the value of a line, in the file or in the environment, or the password of a
/// URL.
const SECRET: &str = "SECRET";
/// What is put in its place: no input has it, and no output may.
const CANARY: &str = "canary-0071e5-4f3c9a77d2b8";
/// What is shown in the place of a key.
const REDACTED: &str = "[redacted]";

/// The first part is a file of settings, the second an environment, a variable a line.
pub fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if text.contains(CANARY) {
        return;
    }
    let (file, env) = text.split_once(ENVIRONMENT).unwrap_or((text, ""));
    let (file, hidden) = with_secrets(file);
    let env = environment(env);
    match Settings::load_str(&file, &env) {
        Ok(loaded) => taken(&loaded, &env),
        Err(problems) => refused(&problems, hidden),
    }
}

/// The file with the secret in the place of each value that stands for it, and whether these are values for sure. A line
/// of a text in several lines looks the same, but may not be one; so may what stands in no TOML at all.
fn with_secrets(file: &str) -> (String, bool) {
    let mut secret = false;
    let placed = file.split_inclusive('\n').map(|line| {
        let value = line.trim_end().strip_suffix(&format!("= \"{SECRET}\""));
        let plain = |key: &str| {
            key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b' '))
        };
        match value.filter(|key| plain(key)) {
            Some(key) => {
                secret = true;
                format!("{key}= \"{CANARY}\"\n")
            }
            None => password(line),
        }
    });
    let placed: String = placed.collect();
    let several = file.contains("\"\"\"") || file.contains("'''");
    let sure = secret && !several && toml::from_str::<toml::Table>(&placed).is_ok();
    (placed, sure)
}

/// With the secret in the place of the password that stands for it.
fn password(text: &str) -> String {
    text.replace(&format!(":{SECRET}@"), &format!(":{CANARY}@"))
}

fn environment(lines: &str) -> BTreeMap<String, String> {
    let variables = lines.lines().filter_map(|line| line.split_once('='));
    let value = |value: &str| if value == SECRET { CANARY.to_owned() } else { password(value) };
    variables.map(|(name, text)| (name.to_owned(), value(text))).collect()
}

/// Every problem is one line that names its setting and its layer, and quotes no value.
fn refused(problems: &[Problem], hidden: bool) {
    assert!(!problems.is_empty());
    for problem in problems {
        let line = problem.to_string();
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(!problem.setting().is_empty() && !problem.layer().is_empty(), "{line}");
        assert!(!hidden || !line.contains(CANARY), "{line}");
    }
}

/// What is taken shows no key, and what it shows is a configuration that means the same.
fn taken(loaded: &Loaded, env: &BTreeMap<String, String>) {
    let settings = &loaded.settings;
    for notice in &loaded.notices {
        assert!(!notice.contains(CANARY) && !notice.chars().any(char::is_control), "{notice:?}");
    }
    let shown = settings.effective.as_str();
    for line in shown.lines().filter(|line| line.starts_with("url = ")) {
        assert!(!line.contains(&format!(":{CANARY}@")), "{line}");
    }
    for line in shown.lines().filter(|line| line.starts_with("api_key = ")) {
        assert_eq!(line, format!("api_key = \"{REDACTED}\""));
    }
    assert!(!settings.workspaces.is_empty());
    for workspace in &settings.workspaces {
        let source = format!("{:?}", workspace.source);
        assert!(matches!(workspace.source, KeySource::File(_)) || !source.contains(CANARY), "{source}");
    }

    // A key was there and another one will do; in the place of a password nothing will.
    let key = format!("api_key = \"{REDACTED}\"");
    let again = shown.lines().enumerate().map(|(at, line)| match line == key {
        true => format!("api_key = \"key-{at}\"\n"),
        false => format!("{line}\n"),
    });
    let again: String = again.collect();
    if again.contains(REDACTED) {
        return;
    }
    // What is not shown: where a key file may be readable by everybody.
    let trusted = |name: &str| name == "CREDENTIALS_DIRECTORY";
    let env = env.iter().filter(|(name, _)| trusted(name)).map(|(n, v)| (n.clone(), v.clone())).collect();
    let again = Settings::load_str(&again, &env).unwrap_or_else(|problems| panic!("{problems:?}\n{shown}"));
    assert_eq!(again.settings.effective.as_str(), shown);
}

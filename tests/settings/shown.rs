//! What is shown of a configuration: the effective settings, `callgate check`, and never a secret.

use std::io::{self, Write};

use callgate::cli::{Files, check};

use super::{CANARY, env, load, refused, with_key, write};

#[test]
fn the_effective_settings_read_back_as_the_same_settings() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = write(dir.path(), "key", CANARY, 0o600);
    let toml = format!(
        "listen.internal = ['127.0.0.1:0', 'unix:/run/call \"gate\".sock']\nlisten.allowed_hosts = ['*']\n\
         listen.metrics = '[::]:9091'\nlookup.final_ttl = 'forever'\nlookup.settle_after = '90s'\n\
         lookup.query_forwarded = ['a\\b', 'ü']\ncache.capacity = '1536KiB'\ncache.disk.path = '/var/lib/calls'\n\
         budget.reserve = 7\nlog.hits = 0.1\nupstream.base_url = 'http://[::1]:9100'\n\
         [[workspaces]]\nname = 'Ü \"1\"'\nworkspace_id = 'w-1'\napi_key_file = '{0}'\nrequests_per_minute = 90\n\
         [[workspaces]]\nworkspace_id = 'w-2'\napi_key_file = '{0}'",
        key.display()
    );
    let first = load(&toml, &env(&[]));
    let again = load(first.settings.effective.as_str(), &env(&[]));
    assert_eq!(again.settings, first.settings);
    assert_eq!(again.settings.effective, first.settings.effective);
}

#[test]
fn the_effective_settings_stand_in_the_order_of_the_reference() {
    let effective = load("", &with_key(&[])).settings.effective.to_string();
    let reference = include_str!("../../config/default.toml");
    let set = |text: &str| -> Vec<String> {
        let is_set = |line: &&str| !line.starts_with('#') && !line.is_empty();
        text.lines().filter(is_set).map(str::to_owned).collect()
    };
    // The defaults and nothing else, but for the workspace and for "24h" being a day.
    let workspace =
        ["[[workspaces]]", "name = \"default\"", "workspace_id = \"w-1\"", "api_key = \"[redacted]\""];
    let mut shown = set(&effective);
    shown.retain(|line| !workspace.contains(&line.as_str()));
    let plain = |lines: Vec<String>| lines.join("\n").replace("\"60s\"", "\"1m\"");
    assert_eq!(plain(shown), plain(set(reference)));
    assert!(effective.contains(&workspace.join("\n")));
}

#[test]
fn no_secret_is_in_any_output() {
    let url = format!("redis://user:{CANARY}@redis.test:6379/0");
    let loaded = load("", &with_key(&[("CALLGATE__CACHE__SHARED__URL", &url)]));
    for output in
        [format!("{loaded:?}"), loaded.settings.effective.to_string(), format!("{:?}", loaded.settings)]
    {
        assert!(!output.contains(CANARY), "{output}");
    }
    assert!(
        loaded.settings.effective.as_str().contains("url = \"redis://user:[redacted]@redis.test:6379/0\"")
    );
    // What was taken out is not put back in by mistake.
    let lines = refused(loaded.settings.effective.as_str(), &env(&[]));
    assert_eq!(lines.len(), 2, "{lines:#?}");
}

#[test]
fn check_shows_the_effective_configuration_or_every_problem() {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let none = Files::default();
    let env_good = with_key(&[("TRILLET_API_BASE_URL", "https://api.trillet.ai/v1")]);
    assert_eq!(check::run_to(&none, &env_good, &mut out, &mut err), 0);
    let (shown, noticed) = (String::from_utf8(out).expect("text"), String::from_utf8(err).expect("text"));
    assert!(
        shown.starts_with("[listen]\n")
            && shown.contains("api_key = \"[redacted]\"")
            && !shown.contains(CANARY)
    );
    assert_eq!(noticed.lines().count(), 1);

    let (mut out, mut err) = (Vec::new(), Vec::new());
    let missing = Files { config: vec!["/nowhere/a.toml".into(), "/nowhere/b.toml".into()] };
    let env_bad = with_key(&[("CALLGATE__LISTEN__HTTP2", CANARY)]);
    assert_eq!(check::run_to(&missing, &env_bad, &mut out, &mut err), 2);
    let said = String::from_utf8(err).expect("text");
    assert_eq!((out.len(), said.lines().count()), (0, 3), "{said}");
    assert!(!said.contains(CANARY));
}

#[test]
fn a_closed_standard_output_is_no_problem_and_a_full_one_is() {
    struct Broken(io::ErrorKind);
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for (kind, status) in [(io::ErrorKind::BrokenPipe, 0), (io::ErrorKind::StorageFull, 1)] {
        let mut err = Vec::new();
        let args = Files::default();
        assert_eq!(check::run_to(&args, &with_key(&[]), &mut Broken(kind), &mut err), status);
        assert_eq!(err.is_empty(), status == 0);
        // Where standard error is gone as well, the status still tells.
        assert_eq!(check::run_to(&args, &env(&[]), &mut Broken(kind), &mut Broken(kind)), 2);
    }
}

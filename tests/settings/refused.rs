//! Bad configurations: each fault is one line that names its setting and its layer, and quotes nothing.

use std::{fs, path::PathBuf};

use callgate::settings::Settings;

use super::{CANARY, env, lines, refused, with_key, write};

#[test]
fn each_bad_setting_is_one_line_that_names_setting_and_layer() {
    let table = [
        ("listen.htp2 = true", "listen.htp2 (text:1): unknown setting; did you mean listen.http2"),
        ("[lookups]\nttl = 1", "lookups (text:1): unknown setting; did you mean lookup"),
        ("\n'listen.http2' = true", "listen.http2 (text:2): unknown setting"),
        ("'a\\nb' = 1", "a\\nb (text:1): unknown setting"),
        ("listen = 5", "listen (text:1): not a table; expected [listen]"),
        ("cache.disk = 'x'", "cache.disk (text:1): not a table"),
        ("listen.http2 = 'yes'", "listen.http2 (text:1): text; expected true or false"),
        ("listen.http2 = { a = 1 }", "listen.http2 (text:1): a table; expected true or false"),
        ("listen.http2 = 2024-01-22", "listen.http2 (text:1): a date"),
        ("listen.internal = 8080", "listen.internal (text:1): a whole number; expected an address"),
        ("listen.internal = []", "listen.internal (text:1): empty"),
        ("listen.internal = 'localhost:8080'", "listen.internal (text:1): not an address"),
        ("listen.internal = ['127.0.0.1:1', 2]", "listen.internal[1] (text:1): a whole number"),
        (
            "listen.internal = ['127.0.0.1:1', 'unix:run/x']",
            "listen.internal[1] (text:1): not an absolute path",
        ),
        (
            "listen.internal = '0.0.0.0:8080'",
            "listen.internal (text:1): an address beyond the loopback; use 127.0.0.1",
        ),
        (
            "listen.admin = ['[::1]:1', '10.0.0.1:1']",
            "listen.admin[1] (text:1): an address beyond the loopback",
        ),
        ("listen.admin = '127.0.0.1:8080'", "listen.admin (text:1): the address of listen.internal as well"),
        ("listen.metrics = '127.0.0.1:9090'", "listen.metrics (text:1): the address of listen.admin as well"),
        ("listen.metrics = 'unix:/x'", "listen.metrics (text:1): not an IP address and port"),
        ("listen.metrics = ''", "listen.metrics (text:1): not an IP address and port"),
        (
            "cache.encryption_key_file = '/nowhere/canary-0071e5'",
            "cache.encryption_key_file (text:1): the key file does not exist; expected a regular file",
        ),
        (
            "cache.encryption_key_file = '/dev/null'",
            "cache.encryption_key_file (text:1): the key file is not a regular file",
        ),
        ("listen.unix_mode = 660", "listen.unix_mode (text:1): a whole number; expected octal"),
        ("listen.unix_mode = '0888'", "listen.unix_mode (text:1): not permission bits"),
        ("listen.unix_mode = '0066'", "listen.unix_mode (text:1): of no use to its owner"),
        ("listen.allowed_hosts = 'a'", "listen.allowed_hosts (text:1): text; expected a list"),
        ("listen.allowed_hosts = ['a', 'b:1']", "listen.allowed_hosts[1] (text:1): not a host name"),
        ("listen.allowed_hosts = ['a', '*']", "listen.allowed_hosts[1] (text:1): \"*\" beside others"),
        (
            "listen.max_connections = 0",
            "listen.max_connections (text:1): too small; expected a whole number from 1",
        ),
        ("listen.max_connections = 1.5", "listen.max_connections (text:1): a number with a fraction"),
        ("listen.max_connections = 'many'", "listen.max_connections (text:1): text"),
        ("listen.max_requests = -1", "listen.max_requests (text:1): too small"),
        ("listen.header_timeout = '0s'", "listen.header_timeout (text:1): too short; expected a duration"),
        ("listen.idle_timeout = '25h'", "listen.idle_timeout (text:1): too long"),
        ("listen.write_timeout = 10", "listen.write_timeout (text:1): a whole number"),
        (
            "upstream.base_url = 'https://api.trillet.ai/v2'",
            "upstream.base_url (text:1): the API version in it; leave the /v1",
        ),
        (
            "upstream.base_url = 'http://api.trillet.ai'",
            "upstream.base_url (text:1): http beyond the loopback",
        ),
        (
            "upstream.base_url = 'https://u:canary-0071e5@a'",
            "upstream.base_url (text:1): a user or password in it",
        ),
        (
            "upstream.base_url = 'http://127.0.0.1:8080'",
            "upstream.base_url (text:1): the gateway's own listen.internal",
        ),
        (
            "upstream.base_url = 'http://localhost:9090'",
            "upstream.base_url (text:1): the gateway's own listen.admin",
        ),
        ("upstream.connect_timeout = '0ms'", "upstream.connect_timeout (text:1): too short"),
        ("upstream.response_timeout = '15'", "upstream.response_timeout (text:1): not a duration"),
        ("upstream.idle_timeout = '0s'", "upstream.idle_timeout (text:1): too short"),
        ("upstream.max_concurrency = 0", "upstream.max_concurrency (text:1): too small"),
        ("upstream.max_body = '16MB'", "upstream.max_body (text:1): not a size; expected a size such as"),
        ("upstream.max_body = '2GiB'", "upstream.max_body (text:1): too large"),
        (
            "upstream.retries = 11",
            "upstream.retries (text:1): too large; expected a whole number from 0 to 10",
        ),
        ("upstream.ca_file = '/nowhere/ca.pem'", "upstream.ca_file (text:1): the file does not exist"),
        ("upstream.ca_file = '/dev/null'", "upstream.ca_file (text:1): not a regular file"),
        ("upstream.ca_file = 'Cargo.toml'", "upstream.ca_file (text:1): no usable certificate in it"),
        ("lookup.final_statuses = []", "lookup.final_statuses (text:1): empty"),
        ("lookup.final_statuses = ['failed', ' ']", "lookup.final_statuses[1] (text:1): empty"),
        (
            "lookup.final_statuses = [' Ongoing']",
            "lookup.final_statuses[0] (text:1): the status of a call under way",
        ),
        ("lookup.settle_after = '10 minutes'", "lookup.settle_after (text:1): not a duration"),
        ("lookup.settling_ttl = 'forever'", "lookup.settling_ttl (text:1): not a duration"),
        (
            "lookup.final_ttl = 'for ever'",
            "lookup.final_ttl (text:1): not a duration; expected a duration such as",
        ),
        ("lookup.client_max_age = '36501d'", "lookup.client_max_age (text:1): not a duration"),
        ("lookup.obey_no_cache = 1", "lookup.obey_no_cache (text:1): a whole number"),
        ("lookup.query_ignored = ['']", "lookup.query_ignored[0] (text:1): empty"),
        (
            "lookup.query_forwarded = ['a', '_']",
            "lookup.query_forwarded[1] (text:1): a parameter of lookup.query_ignored as well",
        ),
        ("lookup.max_wait = '2d'", "lookup.max_wait (text:1): too long"),
        ("lists.ttl = true", "lists.ttl (text:1): a flag"),
        ("cache.capacity = '0B'", "cache.capacity (text:1): too small"),
        ("cache.capacity = 268435456", "cache.capacity (text:1): a whole number; expected a size"),
        ("cache.disk.capacity = '1KiB'", "cache.disk.capacity (text:1): too small"),
        ("cache.disk.path = ''", "cache.disk.path (text:1): not a path"),
        (
            "cache.shared.url = 'http://:canary-0071e5@redis'",
            "cache.shared.url (text:1): neither redis, rediss nor unix",
        ),
        (
            "cache.shared.url = 'redis://:canary-0071e5@'",
            "cache.shared.url (text:1): no valid host or path in it",
        ),
        ("cache.shared.timeout = '0s'", "cache.shared.timeout (text:1): too short"),
        ("budget.requests_per_minute = 0", "budget.requests_per_minute (text:1): too small"),
        ("budget.requests_per_minute = 1000001", "budget.requests_per_minute (text:1): too large"),
        (
            "budget.requests_per_minute = 99999999999999999999",
            "budget.requests_per_minute (text:1): too large",
        ),
        (
            "budget.requests_per_minute = 60.0",
            "budget.requests_per_minute (text:1): a number with a fraction",
        ),
        (
            "budget.reserve = 60",
            "budget.reserve (text:1): not below budget.requests_per_minute; expected 0 to 59",
        ),
        ("budget.replicas_fallback = 0", "budget.replicas_fallback (text:1): too small"),
        ("budget.queue_timeout = '-1s'", "budget.queue_timeout (text:1): not a duration"),
        ("budget.queue_length = -1", "budget.queue_length (text:1): too small"),
        ("drain.timeout = '1y'", "drain.timeout (text:1): not a duration"),
        ("log.format = 'xml'", "log.format (text:1): not a format; expected \"json\""),
        ("log.level = 'inof'", "log.level (text:1): not a level"),
        ("log.level = 'callgate=loud'", "log.level (text:1): not a level"),
        ("log.level = ''", "log.level (text:1): not a level"),
        ("log.hits = 1.5", "log.hits (text:1): out of range; expected a number from 0.0 to 1.0"),
        ("log.hits = nan", "log.hits (text:1): out of range"),
        ("log.hits = 'all'", "log.hits (text:1): text"),
        ("workspaces = 'canary-0071e5'", "workspaces (text:1): not a list of tables"),
    ];
    for (toml, expected) in table {
        let lines = refused(toml, &with_key(&[]));
        assert_eq!(lines.len(), 1, "{toml}: {lines:#?}");
        assert!(lines[0].starts_with(expected), "{toml}: {}", lines[0]);
    }
}

#[test]
fn each_bad_variable_is_one_line_that_names_it() {
    let long = format!("unix:/{}", "x".repeat(200));
    let table = [
        ("CALLGATE__LISTEN__HTTP2", "yes", "listen.http2 ({}): not a flag; expected true or false"),
        (
            "CALLGATE__LISTEN__HTP2",
            "canary-0071e5",
            "listen.htp2 ({}): unknown setting; did you mean CALLGATE__LISTEN__HTTP2",
        ),
        (
            "CALLGATE__LOOKUP",
            "1",
            "lookup ({}): a section, not a setting; expected one of its settings, such as CALLGATE__LOOKUP__FINAL_STATUSES",
        ),
        (
            "CALLGATE__CACHE__DISK",
            "/var/lib/calls",
            "cache.disk ({}): a section, not a setting; expected one of its settings, such as CALLGATE__CACHE__DISK__PATH",
        ),
        ("CALLGATE__LOKUP", "1", "lokup ({}): unknown setting; did you mean CALLGATE__LOOKUP__…"),
        (
            "CALLGATE__",
            "x",
            "CALLGATE__ ({}): names no setting; expected CALLGATE__SECTION__KEY, such as CALLGATE__LISTEN__INTERNAL",
        ),
        (
            "callgate__listen__http2",
            "true",
            "listen.http2 ({}): unknown setting; did you mean CALLGATE__LISTEN__HTTP2",
        ),
        (
            "CALLGATE__LISTEN.HTTP2",
            "true",
            "listen.http2 ({}): unknown setting; did you mean CALLGATE__LISTEN__HTTP2",
        ),
        ("CALLGATE__LISTEN__INTERNAL", "127.0.0.1:1,x", "listen.internal[1] ({}): not an address"),
        ("CALLGATE__LISTEN__INTERNAL", &long, "listen.internal[0] ({}): a path longer than"),
        ("CALLGATE__LISTEN__MAX_REQUESTS", "1e3", "listen.max_requests ({}): not a whole number"),
        ("CALLGATE__LISTEN__MAX_REQUESTS", "+5", "listen.max_requests ({}): not a whole number"),
        ("CALLGATE__LISTEN__MAX_REQUESTS", "", "listen.max_requests ({}): not a whole number"),
        ("CALLGATE__UPSTREAM__CA_FILE", "", "upstream.ca_file ({}): not a path"),
        ("CALLGATE__UPSTREAM__CA_FILE", "canary-0071e5", "upstream.ca_file ({}): the file does not exist"),
        ("CALLGATE__LOG__HITS", "half", "log.hits ({}): not a number"),
        (
            "CALLGATE__WORKSPACES",
            "canary-0071e5",
            "workspaces ({}): workspaces are not read from the environment; add [[workspaces]]",
        ),
        (
            "CALLGATE__WORKSPACES__0__API_KEY",
            "canary-0071e5",
            "workspaces.0.api_key ({}): workspaces are not read",
        ),
        ("TRILLET_API_BASE_URL", "https://api.trillet.ai/v3", "upstream.base_url ({}): a path in it"),
        (
            "TRILLET_API_BASE_URL",
            "http://127.0.0.1:8080/v1",
            "upstream.base_url ({}): the gateway's own listen.internal",
        ),
        ("RUST_LOG", "callgate=loud", "log.level ({}): not a level"),
        (
            "TRILLET_API_KEY",
            "canary-0071e5 twice",
            "workspaces[0].api_key ({}): a control character, a space",
        ),
        (
            "TRILLET_API_KEY_FILE",
            "/nowhere/canary-0071e5",
            "workspaces[0].api_key (environment variable TRILLET_API_KEY): a key and a key file at once",
        ),
        ("TRILLET_WORKSPACE_ID", "a b", "workspaces[0].workspace_id ({}): not a workspace's id"),
        (
            "TRILLET_WORKSPACE_ID",
            "",
            "workspaces[0].workspace_id (environment variable TRILLET_API_KEY): missing; set TRILLET_WORKSPACE_ID",
        ),
        (
            "TRILLET_API_KEY",
            "",
            "workspaces[0].api_key_file (environment variable TRILLET_WORKSPACE_ID): missing; set TRILLET_API_KEY_FILE",
        ),
    ];
    for (name, value, expected) in table {
        let lines = refused("", &with_key(&[(name, value)]));
        assert_eq!(lines.len(), 1, "{name}={value}: {lines:#?}");
        let expected = expected.replace("{}", &format!("environment variable {name}"));
        assert!(lines[0].starts_with(&expected), "{name}={value}: {}", lines[0]);
    }
}

#[test]
fn each_bad_workspace_is_one_line_that_names_it() {
    let good = "[[workspaces]]\nworkspace_id = 'w-1'\napi_key = 'canary-0071e5'\n";
    let table = [
        ("[[workspaces]]\napi_key = 'canary-0071e5'", "workspaces[0].workspace_id (text:1): missing"),
        (
            "[[workspaces]]\nworkspace_id = 'w-1'",
            "workspaces[0].api_key_file (text:1): missing; add api_key_file or api_key",
        ),
        (
            "[[workspaces]]\nworkspace_id = 'w-1'\napi_key = 71",
            "workspaces[0].api_key (text:3): a whole number",
        ),
        ("[[workspaces]]\nworkspace_id = 'w-1'\napi_key = ''", "workspaces[0].api_key (text:3): empty"),
        (
            "[[workspaces]]\nworkspace_id = 'w-1'\napi_key = '[redacted]'",
            "workspaces[0].api_key (text:3): the place of a key",
        ),
        (
            "[[workspaces]]\nworkspace_id = 'w-1'\napi_key = \"canary-0071e5\\n\\u0001x\"",
            "workspaces[0].api_key (text:3): a control character",
        ),
        (
            "[[workspaces]]\nworkspace_id = ''\napi_key = 'canary-0071e5'",
            "workspaces[0].workspace_id (text:2): not a workspace's id",
        ),
        (
            "[[workspaces]]\nname = \"a\\nb\"\nworkspace_id = 'w-1'\napi_key = 'canary-0071e5'",
            "workspaces[0].name (text:2): not a name",
        ),
        (
            "[[workspaces]]\nworkspace_id = 'w-1'\napi_key = 'k'\napi_key_file = '/k'",
            "workspaces[0].api_key (text:3): a key and a key file at once",
        ),
        (
            "[[workspaces]]\nworkspace_id = 'w-1'\napi_key_file = '/nowhere/canary-0071e5'",
            "workspaces[0].api_key_file (text:3): the key file does not exist",
        ),
        (
            "[[workspaces]]\nworkspace_id = 'w-1'\napi_key = 'canary-0071e5'\napi_kye = 'canary-0071e5'",
            "workspaces[0].api_kye (text:4): unknown setting; did you mean workspaces[0].api_key",
        ),
        (&format!("{good}requests_per_minute = 0"), "workspaces[0].requests_per_minute (text:4): too small"),
        (
            &format!("{good}requests_per_minute = 5\n[budget]\nreserve = 5"),
            "workspaces[0].requests_per_minute (text:4): not above budget.reserve",
        ),
        (&format!("{good}{good}"), "workspaces[1].workspace_id (text:5): that of workspaces[0] as well"),
        (
            &format!(
                "{good}name = 'a'\n[[workspaces]]\nname = 'a'\nworkspace_id = 'w-2'\napi_key = 'other-key'"
            ),
            "workspaces[1].name (text:6): that of workspaces[0] as well",
        ),
        (
            &format!(
                "{good}requests_per_minute = 5\n[[workspaces]]\nworkspace_id = 'w-2'\napi_key = 'canary-0071e5'\nrequests_per_minute = 6"
            ),
            "workspaces[1].requests_per_minute (text:8): another one than workspaces[0] has for the same key",
        ),
        ("workspaces = ['canary-0071e5']", "workspaces[0] (text:1): not a table; expected [[workspaces]]"),
        ("", "workspaces (default): no credentials; set TRILLET_API_KEY_FILE"),
        ("workspaces = []", "workspaces (default): no credentials"),
    ];
    for (toml, expected) in table {
        let lines = refused(toml, &env(&[]));
        assert_eq!(lines.len(), 1, "{toml}: {lines:#?}");
        assert!(lines[0].starts_with(expected), "{toml}: {}", lines[0]);
    }
}

#[test]
fn workspaces_and_the_callers_names_exclude_each_other() {
    let lines = refused("[[workspaces]]\nworkspace_id = 'w-1'\napi_key = 'canary-0071e5'", &with_key(&[]));
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(
        lines[0].starts_with(
            "workspaces (environment variable TRILLET_API_KEY): given here and in text:1 at once"
        )
    );
}

#[test]
fn all_problems_are_reported_at_once() {
    let toml = "listen.http2 = 1\nlookup.settle_after = 'x'\nnonsense = 1\n[[workspaces]]\napi_key = 'canary-0071e5'";
    let lines = refused(toml, &env(&[("CALLGATE__LOG__HITS", "2"), ("CALLGATE__DRAIN__DELAY", "soon")]));
    let settings: Vec<&str> = lines.iter().filter_map(|line| line.split(' ').next()).collect();
    let expected = [
        "nonsense",
        "listen.http2",
        "lookup.settle_after",
        "drain.delay",
        "log.hits",
        "workspaces[0].workspace_id",
    ];
    assert_eq!(settings, expected, "{lines:#?}");
}

#[test]
fn a_later_layer_hides_no_unknown_name() {
    let lines =
        refused("listen = 5\nlookup.settel_after = '1s'", &with_key(&[("CALLGATE__LISTEN__HTTP2", "true")]));
    assert_eq!(lines.len(), 2, "{lines:#?}");
}

#[test]
fn files_that_cannot_be_read_are_problems_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let broken = write(dir.path(), "broken.toml", "a = 1\n[[workspaces]]\napi_key = canary-0071e5\n", 0o600);
    let open_string = write(dir.path(), "open.toml", "\n\napi_key = \"canary-0071e5\n", 0o600);
    let twice = write(dir.path(), "twice.toml", "log.hits = 1\nlog.hits = 0\n", 0o600);
    let latin1 = dir.path().join("latin1.toml");
    fs::write(&latin1, b"# \xe4\n").expect("written");
    let large = write(dir.path(), "large.toml", &"#\n".repeat(600_000), 0o600);
    let table = [
        (dir.path().join("missing.toml"), "", "the file does not exist"),
        (dir.path().to_owned(), "", "the file is a directory"),
        (broken, ":3", "not TOML: "),
        (open_string, ":3", "not TOML: "),
        (twice, ":2", "not TOML: duplicate key"),
        (latin1, "", "the file is not UTF-8"),
        (large, "", "the file is over 1 MiB"),
    ];
    for (path, line, expected) in &table {
        let problems = Settings::load(std::slice::from_ref(path), &env(&[])).expect_err("refused");
        assert_eq!(problems.len(), 1, "{}", lines(&problems));
        let said = problems[0].to_string();
        assert!(said.starts_with(&format!("--config ({}{line}): {expected}", path.display())), "{said}");
        assert!(!said.contains(CANARY));
    }
    let all: Vec<PathBuf> = table.into_iter().map(|(path, ..)| path).collect();
    assert_eq!(Settings::load(&all, &env(&[])).expect_err("refused").len(), 7);
}

//! Every setting that there is: its path and what its value must be. The one list of names and ranges.
//!
//! It knows neither layers nor what the values are for. `config/default.toml` has the defaults, in this order; a test
//! holds both together.

use std::time::Duration;

use crate::lookup::FOREVER;

/// A setting.
pub(super) struct Setting {
    /// Its dotted path; of a workspace's setting the last part alone.
    pub(super) path: &'static str,
    /// What its value must be.
    pub(super) kind: Kind,
}

/// What a value must be. [`super::reader`] has the reading of each.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number from and up to.
    Count(u64, u64),
    /// A number from 0 to 1.
    Share,
    /// A duration from and up to.
    Duration(Duration, Duration),
    /// A duration, or `forever`.
    Lifetime,
    /// A size in bytes, from and up to.
    Size(u64, u64),
    /// Permission bits that let the owner read and write.
    Mode,
    /// How log lines look.
    Format,
    /// Directives of the log.
    Level,
    /// A name for people.
    Name,
    /// The vendor's id of a workspace.
    WorkspaceId,
    /// An API key.
    Key,
    /// A path, not empty.
    Path,
    /// An IP address and port.
    Address,
    /// Addresses and Unix sockets: one, or a list.
    Addresses,
    /// A list of host names, or `*`.
    Hosts,
    /// A list of statuses.
    Statuses,
    /// A list of query parameters.
    Parameters,
    /// The vendor's origin.
    BaseUrl,
    /// Where Redis is.
    SharedUrl,
}

const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(24 * 3600);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A limit on waiting that must be there.
const TIMEOUT: Kind = Kind::Duration(MS, DAY);
/// A delay that may be none.
const DELAY: Kind = Kind::Duration(Duration::ZERO, DAY);
/// How long something is kept.
const TTL: Kind = Kind::Duration(Duration::ZERO, FOREVER);

const fn is(path: &'static str, kind: Kind) -> Setting {
    Setting { path, kind }
}

/// Every setting but those of the workspaces, in the order of `config/default.toml`.
pub(super) const SETTINGS: &[Setting] = &[
    is("listen.internal", Kind::Addresses),
    is("listen.admin", Kind::Addresses),
    is("listen.metrics", Kind::Address),
    is("listen.unix_mode", Kind::Mode),
    is("listen.allow_non_loopback", Kind::Flag),
    is("listen.allowed_hosts", Kind::Hosts),
    is("listen.max_connections", Kind::Count(1, 1_000_000)),
    is("listen.max_requests", Kind::Count(1, 1_000_000_000)),
    is("listen.header_timeout", TIMEOUT),
    is("listen.idle_timeout", TIMEOUT),
    is("listen.write_timeout", TIMEOUT),
    is("listen.http2", Kind::Flag),
    is("upstream.base_url", Kind::BaseUrl),
    is("upstream.connect_timeout", TIMEOUT),
    is("upstream.response_timeout", TIMEOUT),
    is("upstream.idle_timeout", TIMEOUT),
    is("upstream.max_concurrency", Kind::Count(1, 10_000)),
    is("upstream.max_body", Kind::Size(KIB, GIB)),
    is("upstream.retries", Kind::Count(0, 10)),
    is("upstream.ca_file", Kind::Path),
    is("lookup.final_statuses", Kind::Statuses),
    is("lookup.settle_after", TTL),
    is("lookup.settling_ttl", TTL),
    is("lookup.final_ttl", Kind::Lifetime),
    is("lookup.client_max_age", TTL),
    is("lookup.stale_if_error", TTL),
    is("lookup.ongoing_ttl", TTL),
    is("lookup.not_found_ttl", TTL),
    is("lookup.failure_ttl", TTL),
    is("lookup.obey_no_cache", Kind::Flag),
    is("lookup.query_ignored", Kind::Parameters),
    is("lookup.query_forwarded", Kind::Parameters),
    is("lookup.max_wait", DELAY),
    is("lists.ttl", TTL),
    is("lists.empty_for_500", Kind::Flag),
    is("cache.capacity", Kind::Size(64 * KIB, 1024 * GIB)),
    is("cache.encryption_key_file", Kind::Path),
    is("cache.disk.path", Kind::Path),
    is("cache.disk.capacity", Kind::Size(MIB, 16_384 * GIB)),
    is("cache.shared.url", Kind::SharedUrl),
    is("cache.shared.timeout", TIMEOUT),
    is("budget.requests_per_minute", REQUESTS_PER_MINUTE),
    is("budget.replicas_fallback", Kind::Count(1, 10_000)),
    is("budget.reserve", Kind::Count(0, 999_999)),
    is("budget.queue_timeout", DELAY),
    is("budget.queue_length", Kind::Count(0, 1_000_000)),
    is("drain.delay", DELAY),
    is("drain.timeout", DELAY),
    is("log.format", Kind::Format),
    is("log.level", Kind::Level),
    is("log.hits", Kind::Share),
];

const REQUESTS_PER_MINUTE: Kind = Kind::Count(1, 1_000_000);

/// The name of the array of workspaces.
pub(super) const WORKSPACES: &str = "workspaces";

/// The settings of one workspace.
pub(super) const WORKSPACE: &[Setting] = &[
    is("name", Kind::Name),
    is("workspace_id", Kind::WorkspaceId),
    is("api_key_file", Kind::Path),
    is("api_key", Kind::Key),
    is("requests_per_minute", REQUESTS_PER_MINUTE),
];

/// After which setting the workspaces stand in `config/default.toml`.
pub(super) const BEFORE_WORKSPACES: &str = "upstream.ca_file";

/// The setting of that path.
pub(super) fn find(settings: &'static [Setting], path: &str) -> Option<&'static Setting> {
    settings.iter().find(|setting| setting.path == path)
}

/// Whether `path` is a table of settings: `cache`, `cache.disk`.
pub(super) fn is_section(path: &str) -> bool {
    sections().any(|section| section == path)
}

/// The first setting in that table, or in a table within it.
pub(super) fn first_of(section: &str) -> Option<&'static str> {
    let within = |path: &str| path.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'));
    SETTINGS.iter().map(|setting| setting.path).find(|path| within(path))
}

/// The table that holds the setting of that path.
pub(super) fn section(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(section, _)| section)
}

/// Every table of settings, the workspaces not among them; some come up several times.
fn sections() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|setting| section(setting.path))
}

/// The name that was probably meant by an unknown one: a setting, or a section.
pub(super) fn nearest(unknown: &str) -> Option<&'static str> {
    let known = || SETTINGS.iter().map(|setting| setting.path).chain(sections()).chain([WORKSPACES]);
    closest(unknown, known()).or_else(|| {
        // The right name in the wrong section.
        let name = unknown.rsplit('.').next().filter(|name| !name.is_empty())?;
        known().find(|path| path.rsplit('.').next() == Some(name))
    })
}

/// The same among the settings of a workspace.
pub(super) fn nearest_of_workspace(unknown: &str) -> Option<&'static str> {
    closest(unknown, WORKSPACE.iter().map(|setting| setting.path))
}

fn closest(unknown: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    // Nothing that long is a slip of the pen, and the distance costs the product of the lengths.
    if unknown.len() > 64 {
        return None;
    }
    let ranked = known.map(|path| (distance(unknown.as_bytes(), path.as_bytes()), path)).min();
    ranked.filter(|(distance, path)| *distance <= 3 && *distance < path.len()).map(|(_, path)| path)
}

/// How many bytes must be put in, taken out or replaced to make `a` of `b` (Levenshtein).
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest_known_one() {
        let table = [
            ("listen.htp2", Some("listen.http2")),
            ("lookup.settle_afer", Some("lookup.settle_after")),
            ("cache.disk.pth", Some("cache.disk.path")),
            ("lookups", Some("lookup")),
            ("workspace", Some("workspaces")),
            ("upstream.http2", Some("listen.http2")),
            ("nothing.like.it", None),
            ("", None),
        ];
        for (unknown, known) in table {
            assert_eq!(nearest(unknown), known, "{unknown:?}");
        }
        assert_eq!(nearest(&"x".repeat(100_000)), None);
        assert_eq!(nearest_of_workspace("api-key"), Some("api_key"));
        assert_eq!(distance(b"kitten", b"sitting"), 3);
    }
}

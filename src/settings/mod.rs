//! The settings: `config/default.toml`, files and environment, laid on top of each other and checked.
//!
//! It knows each part's own `Settings` and fills them; no part knows this module, `app` hands them out.
//! Nothing here reads the environment or the clock: the environment is an argument. It promises that every problem is
//! found in one go and is one line that names its setting and its layer; that no secret is in any output; and that
//! settings that came out of it hold together.
//!
//! The way of a value: `layers` and `environment` make trees of known names, the `config` crate merges them,
//! `reader` reads each value as the `table` says, `check` and `check_workspaces` look at how they fit.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    downstream, drain, lookup, replicas, store, telemetry,
    upstream::{
        self, budget,
        credentials::{self, WorkspaceSettings},
    },
};

mod address;
mod check;
mod check_workspaces;
mod effective;
mod endpoint;
mod environment;
mod layers;
mod problem;
mod reader;
#[cfg(test)]
mod reference;
mod reload;
mod table;
mod units;
mod url;
mod values;

pub use effective::Effective;
pub use problem::Problem;
pub use reload::Reload;

use layers::{Layer, Time};
use values::Values;

/// What stands in the place of a secret; never a secret itself.
const REDACTED: &str = "[redacted]";

/// How long a connection may be unused once the end has begun: no more than a quarter of `drain.timeout`, so that most
/// of that is left for closing it.
const GRACE: Duration = Duration::from_secs(1);

/// Every part's settings, checked. Parts are compared one by one to see what a reload changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `listen.*`
    pub listen: downstream::Settings,
    /// `upstream.*`
    pub upstream: upstream::Settings,
    /// `[[workspaces]]` or `TRILLET_*`; at least one, the first is the default.
    pub workspaces: Vec<WorkspaceSettings>,
    /// Where a key file may be readable by everybody: for [`credentials::Credentials::open`] and [`store::Seal`].
    pub trusted_key_dirs: Vec<PathBuf>,
    /// `lookup.*` and `lists.*`
    pub lookup: lookup::Settings,
    /// `cache.*`
    pub store: store::Settings,
    /// `cache.shared.*`
    pub replicas: Option<replicas::Settings>,
    /// `budget.*`
    pub budget: budget::Settings,
    /// `drain.*`
    pub drain: drain::Settings,
    /// `log.*`; `RUST_LOG` has been heeded.
    pub log: telemetry::Settings,
    /// All of it, to be shown.
    pub effective: Effective,
}

/// Settings, and what there is to say about them.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// What the operator should hear although nothing is wrong; a line each, no secrets.
    pub notices: Vec<String>,
}

impl Settings {
    /// Reads the configuration: the defaults, `files` in order, the environment. Reads the key files and the
    /// certificates that it names as well, to tell whether they are any good.
    ///
    /// # Errors
    /// Every problem there is, in the order of the layers and then of the settings.
    pub fn load(files: &[PathBuf], env: &BTreeMap<String, String>) -> Result<Loaded, Vec<Problem>> {
        load_files(files, Time::First, env)
    }

    /// The same while the gateway runs. A pipe that was read at the start is not waited for, and is a problem.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_again(files: &[PathBuf], env: &BTreeMap<String, String>) -> Result<Loaded, Vec<Problem>> {
        load_files(files, Time::Again, env)
    }

    /// The same with one text in place of the files; its layer is called `text`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_str(toml: &str, env: &BTreeMap<String, String>) -> Result<Loaded, Vec<Problem>> {
        let mut problems = Vec::new();
        let layer = layers::text("text", toml, &mut problems);
        load(vec![(Path::new("text"), layer)], env, problems)
    }
}

fn load_files(files: &[PathBuf], time: Time, env: &BTreeMap<String, String>) -> Result<Loaded, Vec<Problem>> {
    let mut problems = Vec::new();
    let layers = files.iter().map(|path| (path.as_path(), layers::file(path, time, &mut problems))).collect();
    load(layers, env, problems)
}

fn load(
    files: Vec<(&Path, Layer)>,
    env: &BTreeMap<String, String>,
    mut problems: Vec<Problem>,
) -> Result<Loaded, Vec<Problem>> {
    let mut notices = Vec::new();
    let incomplete = files.iter().any(|(_, layer)| layer.incomplete);
    let mut trees = vec![layers::text(layers::DEFAULT_LAYER, layers::DEFAULT, &mut problems).settings];
    trees.push(environment::state(env).settings);
    let mut workspaces = None;
    for (path, layer) in files {
        notices.extend(open_to_all(path, &layer));
        trees.push(layer.settings);
        workspaces = layer.workspaces.or(workspaces);
    }
    trees.push(environment::own(env, &mut problems).settings);
    let given = environment::given(env, &mut notices);
    trees.push(given.settings);

    let merged = match layers::merge(trees) {
        Ok(merged) => merged,
        Err(problem) => return Err(with(problems, problem)),
    };
    let values = Values::read(&merged, &mut problems);
    let trusted_key_dirs = credentials::trusted_dirs(env);
    check::check(&values, &trusted_key_dirs, &mut problems);
    let raw = check_workspaces::choose(workspaces, given.workspaces, &mut problems);
    let workspaces = check_workspaces::check(raw, incomplete, &values, &trusted_key_dirs, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let effective = Effective::new(&values, &workspaces);
    match assemble(&values, workspaces, trusted_key_dirs, effective) {
        Some(settings) => Ok(Loaded { settings, notices }),
        // Only a setting without its default could do this; a test holds that there is none.
        None => Err(with(problems, Problem::new("--config", "default", "a setting has no default"))),
    }
}

fn with(mut problems: Vec<Problem>, one: Problem) -> Vec<Problem> {
    problems.push(one);
    problems
}

/// A key in a file that everybody reads is no more secret than in a key file of that kind, but the file may be a mount.
fn open_to_all(path: &Path, layer: &Layer) -> Option<String> {
    let holds_key =
        layer.workspaces.iter().flatten().any(|workspace| workspace.fields.contains_key("api_key"));
    let line =
        || format!("{} holds a key and is readable by everybody", path.display().to_string().escape_debug());
    (layer.world_readable && holds_key).then(line)
}

/// Fills each part's settings. `None` where a setting is missing that has a default, which a test rules out.
fn assemble(
    v: &Values,
    workspaces: Vec<WorkspaceSettings>,
    trusted_key_dirs: Vec<PathBuf>,
    effective: Effective,
) -> Option<Settings> {
    Some(Settings {
        listen: downstream::Settings {
            internal: v.addresses("listen.internal")?.clone(),
            admin: v.addresses("listen.admin")?.clone(),
            metrics: v.address("listen.metrics").copied(),
            unix_mode: *v.mode("listen.unix_mode")?,
            allow_non_loopback: *v.flag("listen.allow_non_loopback")?,
            allowed_hosts: v.hosts("listen.allowed_hosts")?.clone(),
            limits: downstream::Limits {
                max_connections: v.count("listen.max_connections")?,
                max_requests: v.count("listen.max_requests")?,
                header_timeout: v.duration("listen.header_timeout")?,
                idle_timeout: v.duration("listen.idle_timeout")?,
                write_timeout: v.duration("listen.write_timeout")?,
                grace: GRACE.min(v.duration("drain.timeout")? / 4),
                http2: *v.flag("listen.http2")?,
            },
        },
        upstream: upstream::Settings {
            origin: v.origin_of_vendor("upstream.base_url")?.clone(),
            connect_timeout: v.duration("upstream.connect_timeout")?,
            response_timeout: v.duration("upstream.response_timeout")?,
            idle_timeout: v.duration("upstream.idle_timeout")?,
            max_concurrency: v.count("upstream.max_concurrency")?,
            max_body: usize::try_from(*v.size("upstream.max_body")?).ok()?,
            retries: v.count("upstream.retries")?,
            ca_file: v.path("upstream.ca_file").cloned(),
        },
        workspaces,
        trusted_key_dirs,
        lookup: lookup::Settings {
            final_statuses: v.texts("lookup.final_statuses")?.clone(),
            settle_after: v.duration("lookup.settle_after")?,
            settling_ttl: v.duration("lookup.settling_ttl")?,
            final_ttl: v.duration("lookup.final_ttl")?,
            client_max_age: v.duration("lookup.client_max_age")?,
            stale_if_error: v.duration("lookup.stale_if_error")?,
            ongoing_ttl: v.duration("lookup.ongoing_ttl")?,
            not_found_ttl: v.duration("lookup.not_found_ttl")?,
            failure_ttl: v.duration("lookup.failure_ttl")?,
            obey_no_cache: *v.flag("lookup.obey_no_cache")?,
            query_ignored: v.texts("lookup.query_ignored")?.clone(),
            query_forwarded: v.texts("lookup.query_forwarded")?.clone(),
            max_wait: v.duration("lookup.max_wait")?,
            list_ttl: v.duration("lists.ttl")?,
            empty_for_500: *v.flag("lists.empty_for_500")?,
        },
        store: store::Settings {
            capacity: *v.size("cache.capacity")?,
            disk: match v.path("cache.disk.path") {
                Some(path) => Some(store::DiskSettings {
                    path: path.clone(),
                    capacity: *v.size("cache.disk.capacity")?,
                }),
                None => None,
            },
            encryption_key_file: v.path("cache.encryption_key_file").cloned(),
        },
        replicas: match v.shared_url("cache.shared.url") {
            Some(url) => Some(replicas::Settings {
                url: url.as_str().to_owned(),
                timeout: v.duration("cache.shared.timeout")?,
                ca_file: v.path("upstream.ca_file").cloned(),
            }),
            None => None,
        },
        budget: budget::Settings {
            requests_per_minute: v.count("budget.requests_per_minute")?,
            replicas_fallback: v.count("budget.replicas_fallback"),
            reserve: v.count("budget.reserve"),
            queue_timeout: v.duration("budget.queue_timeout")?,
            queue_length: v.count("budget.queue_length")?,
        },
        drain: drain::Settings { delay: v.duration("drain.delay")?, timeout: v.duration("drain.timeout")? },
        log: telemetry::Settings {
            format: *v.format("log.format")?,
            level: v.text("log.level")?.to_owned(),
            hits: *v.share("log.hits")?,
        },
        effective,
    })
}

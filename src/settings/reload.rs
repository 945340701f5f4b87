//! Decides what a reload changes. Pure: the settings in force and those that were read anew go in, what is to be in force
//! comes out, with the paths of what changes and of what would have to.
//!
//! `lookup.*`, `lists.*`, `budget.*` and `log.*` can be changed while the gateway runs. All else is what it was started
//! as: where it listens, whom it asks and for whom, what it keeps and where, how it ends. (Key files are reread too,
//! but what is in them is no setting.) One thing spans both: a reserve that a workspace's own limit, which stays as it is,
//! leaves no room for would keep that workspace's polls and warming waiting for good, so that it has to wait as well.

use super::Settings;
use crate::upstream::credentials::{KeySource, WorkspaceSettings};

/// What a reload comes to.
#[derive(Clone, Debug)]
pub struct Reload {
    /// What is to be in force: of what was read anew that which can change, of the rest what was in force before.
    pub settings: Settings,
    /// The paths of settings that change, in the order of `config/default.toml`.
    pub changed: Vec<String>,
    /// The paths of settings that were given other values, and keep theirs until the gateway is started again.
    pub until_restart: Vec<String>,
}

/// The sections whose settings can be changed while the gateway runs.
const RELOADABLE: [&str; 4] = ["lookup.", "lists.", "budget.", "log."];

const RESERVE: &str = "budget.reserve";

/// Whether the setting at this path can be changed while the gateway runs.
fn is_reloadable(path: &str) -> bool {
    RELOADABLE.iter().any(|section| path.starts_with(section))
}

impl Settings {
    /// What comes of reading `new` while these settings are in force.
    #[must_use]
    pub fn reloaded(&self, new: Self) -> Reload {
        let mut differences = self.effective.differences(&new.effective);
        for path in redacted(self, &new) {
            if !differences.contains(&path) {
                differences.push(path);
            }
        }
        let reserve_stays = new.budget.reserve.is_some_and(|reserve| !self.has_room_for(reserve));
        let changes = |path: &str| is_reloadable(path) && !(reserve_stays && path == RESERVE);
        let (changed, until_restart) = differences.into_iter().partition(|path| changes(path));
        let effective = self.effective.with(&new.effective, changes);
        let Self { lookup, mut budget, log, .. } = new;
        if reserve_stays {
            budget.reserve = self.budget.reserve;
        }
        let settings = Self { lookup, budget, log, effective, ..self.clone() };
        Reload { settings, changed, until_restart }
    }

    /// Whether each workspace with a limit of its own could spend some of it beyond this reserve.
    fn has_room_for(&self, reserve: u32) -> bool {
        self.workspaces.iter().filter_map(|one| one.requests_per_minute).all(|limit| reserve < limit)
    }
}

/// The paths of settings that differ in what is never shown.
fn redacted(old: &Settings, new: &Settings) -> Vec<String> {
    let url = |settings: &Settings| settings.replicas.as_ref().map(|replicas| replicas.url.clone());
    let shared = (url(old) != url(new)).then(|| "cache.shared.url".to_owned());
    let other_key = |old: &WorkspaceSettings, new: &WorkspaceSettings| match (&old.source, &new.source) {
        (KeySource::Inline(old), KeySource::Inline(new)) => !old.same(new),
        (KeySource::Inline(_) | KeySource::File(_), _) => false,
    };
    let pairs = old.workspaces.iter().zip(&new.workspaces).enumerate();
    let keys = pairs.filter(|(_, (old, new))| other_key(old, new));
    let keys = keys.map(|(at, _)| format!("workspaces[{at}].api_key"));
    shared.into_iter().chain(keys).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn load(toml: &str) -> Settings {
        let toml = match toml.contains("[[workspaces]]") {
            true => toml.to_owned(),
            false => format!("{toml}\n[[workspaces]]\nworkspace_id = 'w'\napi_key = 'canary-0071e5-key'"),
        };
        Settings::load_str(&toml, &BTreeMap::new()).expect("settings").settings
    }

    #[test]
    fn what_can_change_changes_and_what_cannot_is_named() {
        let workspaces = |one: &str| format!("[[workspaces]]\nworkspace_id = 'w'\n{one}");
        let key = "api_key = 'canary-0071e5-key'";
        let table: [(&str, &[&str], &[&str]); 16] = [
            ("", &[], &[]),
            ("lookup.final_ttl = '1h'", &["lookup.final_ttl"], &[]),
            ("lookup.final_statuses = ['completed']", &["lookup.final_statuses"], &[]),
            // Another way of writing the same.
            ("lookup.final_ttl = '720h'", &[], &[]),
            ("lists.ttl = '1s'", &["lists.ttl"], &[]),
            ("budget.requests_per_minute = 30", &["budget.requests_per_minute"], &[]),
            ("budget.reserve = 7", &["budget.reserve"], &[]),
            ("log.level = 'debug'\nlog.hits = 0.5", &["log.level", "log.hits"], &[]),
            ("listen.internal = '127.0.0.1:1'", &[], &["listen.internal"]),
            ("upstream.retries = 3\nlookup.max_wait = '1s'", &["lookup.max_wait"], &["upstream.retries"]),
            ("cache.capacity = '1MiB'", &[], &["cache.capacity"]),
            ("drain.delay = '1s'", &[], &["drain.delay"]),
            ("cache.shared.url = 'redis://:canary@127.0.0.1'", &[], &["cache.shared.url"]),
            (&workspaces("api_key = 'canary-another-key'"), &[], &["workspaces[0].api_key"]),
            (&workspaces(&format!("{key}\nname = 'n'")), &[], &["workspaces[0].name"]),
            (
                &format!("{0}\n{1}", workspaces(key), workspaces(key).replace("'w'", "'x'")),
                &[],
                &["workspaces"],
            ),
        ];
        let old = load("");
        for (toml, changed, until_restart) in table {
            let reload = old.reloaded(load(toml));
            assert_eq!(reload.changed, changed, "{toml}");
            assert_eq!(reload.until_restart, until_restart, "{toml}");
            // What is in force is what is shown, and what could not change is as it was.
            assert_eq!(reload.settings.listen, old.listen);
            assert_eq!(reload.settings.store, old.store);
            assert_eq!(reload.settings.workspaces, old.workspaces);
            assert_eq!(old.effective.differences(&reload.settings.effective), changed);
            // And so it is told again next time.
            let again = reload.settings.reloaded(load(toml));
            assert_eq!((again.changed.len(), again.until_restart), (0, reload.until_restart));
        }
    }

    #[test]
    fn a_reserve_that_a_workspace_that_stays_has_no_room_for_stays_too() {
        let with = |budget: &str, own: &str| {
            load(&format!(
                "{budget}\n[[workspaces]]\nworkspace_id = 'w'\napi_key = 'canary-0071e5-key'\n{own}"
            ))
        };
        const LIMIT: &str = "workspaces[0].requests_per_minute";
        // In force: what each workspace has, and the reserve. Then what is read.
        type Row =
            (&'static str, &'static str, &'static str, &'static [&'static str], &'static [&'static str]);
        let table: [Row; 5] = [
            ("requests_per_minute = 10", "budget.reserve = 9", "requests_per_minute = 10", &[RESERVE], &[]),
            (
                "requests_per_minute = 10",
                "budget.reserve = 10",
                "requests_per_minute = 20",
                &[],
                &[RESERVE, LIMIT],
            ),
            ("requests_per_minute = 10", "budget.reserve = 10", "", &[], &[RESERVE, LIMIT]),
            ("requests_per_minute = 10", "", "requests_per_minute = 20", &[RESERVE], &[LIMIT]),
            ("", "budget.reserve = 10", "requests_per_minute = 20", &[RESERVE], &[LIMIT]),
        ];
        for (own, budget, other, changed, until_restart) in table {
            let old = with("budget.reserve = 3", own);
            let reload = old.reloaded(with(budget, other));
            assert_eq!(reload.changed, changed, "{own}, {budget}");
            assert_eq!(reload.until_restart, until_restart, "{own}, {budget}");
            assert_eq!(old.effective.differences(&reload.settings.effective), changed);
            assert_eq!(reload.settings.budget != old.budget, !changed.is_empty());
            let again = reload.settings.reloaded(with(budget, other));
            assert_eq!((again.changed.len(), again.until_restart), (0, reload.until_restart));
        }
    }

    #[test]
    fn what_is_never_shown_is_compared_as_well() {
        let with = |password: &str| load(&format!("cache.shared.url = 'redis://:{password}@127.0.0.1'"));
        let reload = with("one").reloaded(with("two"));
        assert_eq!(reload.until_restart, ["cache.shared.url"]);
        assert!(reload.settings == with("one"));
    }

    #[test]
    fn what_was_set_and_is_not_any_more_is_its_default_again() {
        let old = load("budget.reserve = 7\nlookup.final_ttl = '1h'");
        let reload = old.reloaded(load(""));
        assert_eq!(reload.changed, ["lookup.final_ttl", "budget.reserve"]);
        assert_eq!(reload.settings, load(""));
    }
}

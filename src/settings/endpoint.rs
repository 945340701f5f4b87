//! Where the operators' endpoint is, for who only wants to ask a running gateway.
//!
//! Of the same layers as the settings, of which it looks at `listen.*` alone. It promises to open no file but those of the
//! configuration, so that it takes no right to read a key, and to leave what is wrong elsewhere to the gateway.

use std::{collections::BTreeMap, path::PathBuf};

use config::{Map, Value};

use super::{
    Settings, environment,
    layers::{self, FILE, Time},
    problem::Problem,
    values::Values,
};
use crate::downstream::BindAddress;

impl Settings {
    /// `listen.admin`: of the defaults, `files` in order, the environment.
    ///
    /// # Errors
    /// A file that cannot be read or is not TOML, and everything that is wrong with `listen.*`, as far as it can be told
    /// without the rest.
    pub fn operators_endpoint(
        files: &[PathBuf],
        env: &BTreeMap<String, String>,
    ) -> Result<Vec<BindAddress>, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut trees = vec![layers::text(layers::DEFAULT_LAYER, layers::DEFAULT, &mut problems).settings];
        trees.extend(files.iter().map(|path| layers::file(path, Time::First, &mut problems).settings));
        trees.push(environment::own(env, &mut problems).settings);
        addresses(trees, problems)
    }
}

/// The addresses in these layers, unless one of these problems stands in the way, or another that is found here.
fn addresses(
    layers: Vec<Map<String, Value>>,
    mut problems: Vec<Problem>,
) -> Result<Vec<BindAddress>, Vec<Problem>> {
    let values = layers::merge(layers).map(|merged| Values::read(&merged, &mut problems));
    problems.retain(|problem| matters(problem.setting()));
    let addresses = match values {
        Ok(values) => values.addresses("listen.admin").cloned(),
        Err(problem) => {
            problems.push(problem);
            None
        }
    };
    if addresses.is_none() && problems.is_empty() {
        // Only a setting without its default could do this.
        problems.push(Problem::new("listen.admin", layers::DEFAULT_LAYER, "the setting has no default"));
    }
    match addresses {
        Some(addresses) if problems.is_empty() => Ok(addresses),
        Some(_) | None => Err(problems),
    }
}

/// Whether a problem of this setting stands in the way: one of a whole file, in which the address may be, or of anything
/// in the section that has it. More than the address itself, for a misspelt name may have been meant to be it.
fn matters(setting: &str) -> bool {
    setting == FILE || setting.split(['.', '[']).next() == Some("listen")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn where_there_is_no_address_something_is_said_to_be_wrong() {
        let problems = addresses(Vec::new(), Vec::new()).expect_err("no address");
        assert_eq!(problems.iter().map(Problem::setting).collect::<Vec<_>>(), ["listen.admin"]);
    }

    fn read(toml: &str, env: &[(&str, &str)]) -> Result<Vec<String>, Vec<String>> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("callgate.toml");
        fs::write(&path, toml).expect("written");
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let text = |address: &BindAddress| match address {
            BindAddress::Tcp(address) => address.to_string(),
            BindAddress::Unix(path) => path.display().to_string(),
        };
        let addresses = Settings::operators_endpoint(&[path], &env);
        let addresses = addresses.map(|addresses| addresses.iter().map(text).collect());
        addresses.map_err(|problems| problems.iter().map(|one| one.setting().to_owned()).collect())
    }

    #[test]
    fn only_what_leaves_the_address_open_stands_in_the_way() {
        let address = |text: &str| Ok(vec![text.to_owned()]);
        let problem = |setting: &str| Err(vec![setting.to_owned()]);
        let admin = "listen.admin = '127.0.0.1:1'\n";
        let no_key = "[[workspaces]]\napi_key_file = '/nonexistent/key'\n";
        let variable = "CALLGATE__LISTEN__ADMIN";
        let table = [
            (String::new(), vec![], address("127.0.0.1:9090")),
            (admin.to_owned(), vec![], address("127.0.0.1:1")),
            ("listen.admin = 'unix:/run/a'".to_owned(), vec![], address("/run/a")),
            (admin.to_owned(), vec![(variable, "127.0.0.1:2")], address("127.0.0.1:2")),
            (format!("{admin}{no_key}"), vec![], address("127.0.0.1:1")),
            (format!("{admin}lookup.final_ttl = 'soon'\nnothing = 1\n"), vec![], address("127.0.0.1:1")),
            (admin.to_owned(), vec![("CALLGATE__BUDGET__RESERVE", "x")], address("127.0.0.1:1")),
            (format!("{admin}upstream.ca_file = '/nonexistent'\n"), vec![], address("127.0.0.1:1")),
            ("listen.admin = 'nowhere'".to_owned(), vec![], problem("listen.admin")),
            ("listen.admins = '127.0.0.1:1'".to_owned(), vec![], problem("listen.admins")),
            ("listen = 1".to_owned(), vec![], problem("listen")),
            (admin.to_owned(), vec![(variable, "nowhere")], problem("listen.admin[0]")),
            ("listen.admin = ".to_owned(), vec![], problem(FILE)),
        ];
        for (toml, env, expected) in table {
            assert_eq!(read(&toml, &env), expected, "{toml} {env:?}");
        }
        let absent = Settings::operators_endpoint(&["/nonexistent/callgate.toml".into()], &BTreeMap::new());
        assert_eq!(absent.expect_err("no file")[0].setting(), FILE);
    }
}

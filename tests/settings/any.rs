//! Whatever stands in a configuration, it is taken or refused in one line, and never quoted.

use callgate::settings::Settings;
use proptest::prelude::*;

use super::{CANARY, lines, with_key};

/// Every path in the reference, those of the workspaces not among them.
fn paths() -> Vec<String> {
    let (mut section, mut paths) = (String::new(), Vec::new());
    for line in include_str!("../../config/default.toml").lines() {
        let line = line.trim_start_matches("# ");
        if line.starts_with('[') && line.ends_with(']') {
            section = line.trim_matches(['[', ']']).to_owned();
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.contains(' ')) {
            paths.push(format!("{section}.{key}"));
        }
    }
    paths.retain(|path| !path.starts_with("workspaces"));
    paths
}

fn any_value() -> impl Strategy<Value = toml::Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(toml::Value::from),
        any::<i64>().prop_map(toml::Value::from),
        any::<f64>().prop_map(toml::Value::from),
        ".{0,8}".prop_map(|text| toml::Value::from(format!("{text}{CANARY}"))),
        "[0-9]{0,3}(ms|s|KiB|://|:|,|=)?[0-9a-z]{0,4}".prop_map(toml::Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| proptest::collection::vec(inner, 0..3).prop_map(toml::Value::from))
}

proptest! {
    #[test]
    fn any_value_in_any_setting_is_taken_or_is_one_line_without_it(path in proptest::sample::select(paths()), value in any_value()) {
        let toml = format!("{path} = {value}");
        if let Err(problems) = Settings::load_str(&toml, &with_key(&[])) {
            prop_assert_eq!(problems.len(), 1, "{}", lines(&problems));
            let line = problems[0].to_string();
            prop_assert!(line.starts_with(&path) && line.contains(" (text:1): "), "{}", line);
            prop_assert!(!line.contains(CANARY) && !line.contains('\n'), "{}", line);
        }
    }

    #[test]
    fn any_text_is_read_to_its_end(text in "[a-z\\[\\]{}=.,'\"# \n0-9]{0,60}") {
        let _ = Settings::load_str(&text, &with_key(&[]));
    }
}

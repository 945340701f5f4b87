//! All values of a configuration after merging: each read as its setting says, with its origin.
//!
//! It knows no rule that spans settings. A value that could not be read is reported and then missing here, so that
//! one mistake is one problem.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use config::{Value, ValueKind};

use super::{
    layers::DEFAULT_LAYER,
    problem::Problem,
    reader::{self, Checked},
    table,
};

/// Values by their setting's path.
pub(super) struct Values(BTreeMap<&'static str, (Checked, String)>);

/// The getter of one kind of value: `None` where the setting is not set, or was no good.
macro_rules! getter {
    ($name:ident, $variant:ident, $type:ty) => {
        pub(super) fn $name(&self, path: &str) -> Option<&$type> {
            if let Checked::$variant(value) = self.get(path)? { Some(value) } else { None }
        }
    };
}

impl Values {
    /// Reads every setting out of the merged tree.
    pub(super) fn read(merged: &Value, problems: &mut Vec<Problem>) -> Self {
        let mut values = BTreeMap::new();
        for setting in table::SETTINGS {
            let Some(value) = descend(merged, setting.path) else { continue };
            let origin = value.origin().unwrap_or(DEFAULT_LAYER).to_owned();
            match reader::read(setting.kind, value) {
                Ok(checked) => {
                    values.insert(setting.path, (checked, origin));
                }
                Err(fault) => {
                    let element = fault.element.map_or_else(String::new, |at| format!("[{at}]"));
                    let path = format!("{}{element}", setting.path);
                    problems.push(Problem::new(path, origin, fault.wrong).right(fault.right));
                }
            }
        }
        Self(values)
    }

    pub(super) fn get(&self, path: &str) -> Option<&Checked> {
        self.0.get(path).map(|(checked, _)| checked)
    }

    /// The layer that the value came from.
    pub(super) fn origin(&self, path: &str) -> &str {
        self.0.get(path).map_or(DEFAULT_LAYER, |(_, origin)| origin)
    }

    /// A problem with the value of `path`, or with that element of it.
    pub(super) fn problem(&self, path: &str, element: Option<usize>, wrong: impl Into<String>) -> Problem {
        let element = element.map_or_else(String::new, |at| format!("[{at}]"));
        Problem::new(format!("{path}{element}"), self.origin(path), wrong)
    }

    getter!(flag, Flag, bool);
    getter!(share, Share, f64);
    getter!(mode, Mode, u32);
    getter!(size, Size, u64);
    getter!(text, Text, str);
    getter!(path, Path, PathBuf);
    getter!(texts, Texts, Vec<String>);
    getter!(format, Format, crate::telemetry::Format);
    getter!(origin_of_vendor, Origin, crate::upstream::Origin);
    getter!(address, Address, std::net::SocketAddr);
    getter!(addresses, Addresses, Vec<crate::downstream::BindAddress>);
    getter!(hosts, Hosts, crate::downstream::AllowedHosts);
    getter!(shared_url, SharedUrl, super::url::SharedUrl);

    pub(super) fn duration(&self, path: &str) -> Option<Duration> {
        let value = self.get(path)?;
        if let Checked::Duration(duration) | Checked::Lifetime(duration) = value {
            Some(*duration)
        } else {
            None
        }
    }

    /// A number, in any width that its range fits into.
    pub(super) fn count<N: TryFrom<u64>>(&self, path: &str) -> Option<N> {
        if let Checked::Count(count) = self.get(path)? { N::try_from(*count).ok() } else { None }
    }
}

/// What stands at a dotted path.
pub(super) fn descend<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(tree, |value, key| {
        if let ValueKind::Table(table) = &value.kind { table.get(key) } else { None }
    })
}

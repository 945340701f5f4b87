//! How a call is called outside this process: origin, workspace, id, version and query, in this order, as bytes.
//!
//! Pure. It promises that different calls have different keys, and that all entries of a call, and of a workspace, begin
//! alike and like no others.

use super::erasure::Erasure;
use crate::call::{ApiVersion, CacheKey, CallId, Resource, WorkspaceIndex};

/// Whose records these are: what a [`CacheKey`] leaves out, because it is the same for a whole process, or says by a
/// place in the settings, which may be another tomorrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// The vendor's origin, without a path.
    pub origin: String,
    /// The ids of the workspaces, in the order of the settings.
    pub workspaces: Vec<String>,
}

impl Namespace {
    /// The id of a workspace, by its place in the settings.
    pub(super) fn name(&self, workspace: WorkspaceIndex) -> Option<&str> {
        self.workspaces.get(usize::from(workspace.0)).map(String::as_str)
    }

    /// The place of a workspace, by its id.
    pub(super) fn index(&self, name: &[u8]) -> Option<WorkspaceIndex> {
        self.selected(None).find_map(|(place, own)| (own.as_bytes() == name).then_some(place))
    }

    /// This workspace, or all: their places and ids.
    pub(super) fn selected(
        &self,
        one: Option<WorkspaceIndex>,
    ) -> impl Iterator<Item = (WorkspaceIndex, &str)> {
        let places = (0..=u16::MAX).map(WorkspaceIndex);
        let all = places.zip(self.workspaces.iter().map(String::as_str));
        all.filter(move |(place, _)| one.is_none_or(|one| one == *place))
    }

    /// The key outside this process; `None` for what is not kept there. The id stands before the version, so that all
    /// entries of one call lie side by side. None of the parts can hold the zero byte that ends them.
    #[must_use]
    pub fn key(&self, key: &CacheKey) -> Option<Vec<u8>> {
        let Resource::Call(id, query) = &key.resource else { return None };
        let workspace = self.name(key.workspace)?;
        let mut bytes = joined(&[&self.origin, workspace, id.as_str(), key.version.as_str()])?;
        bytes.extend_from_slice(query.as_deref().unwrap_or_default().as_bytes());
        Some(bytes)
    }

    /// What stands behind a key that [`Self::key`] made; `None` for another namespace's.
    #[must_use]
    pub fn parse(&self, key: &[u8]) -> Option<CacheKey> {
        let mut parts = std::str::from_utf8(key).ok()?.splitn(5, '\0');
        let mut next = || parts.next();
        let (origin, workspace, id, version, query) = (next()?, next()?, next()?, next()?, next()?);
        let (workspace, version) = (self.index(workspace.as_bytes())?, ApiVersion::parse(version)?);
        let query = Some(query).filter(|query| !query.is_empty()).map(Into::into);
        let resource = Resource::Call(CallId::parse(id.as_bytes())?, query);
        (origin == self.origin).then_some(CacheKey { workspace, version, resource })
    }

    /// How the keys begin that an erasure is about, and no others.
    pub(super) fn prefixes(&self, erasure: &Erasure) -> Vec<Vec<u8>> {
        let (Erasure::Call(one, _) | Erasure::All(one)) = erasure;
        let prefix = |workspace: &str| match erasure {
            Erasure::Call(_, id) => joined(&[&self.origin, workspace, id.as_str()]),
            Erasure::All(_) => joined(&[&self.origin, workspace]),
        };
        self.selected(*one).filter_map(|(_, workspace)| prefix(workspace)).collect()
    }
}

/// Parts, each with the zero byte that ends it; `None` where one holds such a byte itself.
fn joined(parts: &[&str]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
    for part in parts.iter().filter(|part| !part.contains('\0')) {
        bytes.extend_from_slice(part.as_bytes());
        bytes.push(0);
    }
    parts.iter().all(|part| !part.contains('\0')).then_some(bytes)
}

/// What tells keys apart where many of them are counted: 16 bytes of each.
pub(super) fn digest(key: &[u8]) -> u128 {
    xxhash_rust::xxh3::xxh3_128(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_key_keeps_calls_apart() {
        let namespace = |origin: &str| Namespace {
            origin: origin.to_owned(),
            workspaces: vec!["one".to_owned(), "two".to_owned()],
        };
        let id = |id: &str| CallId::parse(id.as_bytes()).expect("an id");
        let key = |workspace, version, id, query: Option<&str>| CacheKey {
            workspace: WorkspaceIndex(workspace),
            version,
            resource: Resource::Call(id, query.map(Into::into)),
        };
        let (v1, v2) = (ApiVersion::V1, ApiVersion::V2);
        let keys = [
            ("https://a", key(0, v2, id("x"), None)),
            ("https://b", key(0, v2, id("x"), None)),
            ("https://a", key(1, v2, id("x"), None)),
            ("https://a", key(0, v1, id("x"), None)),
            ("https://a", key(0, v2, id("y"), None)),
            ("https://a", key(0, v2, id("x"), Some("a=1"))),
        ];
        let made: std::collections::BTreeSet<_> =
            keys.iter().map(|(origin, key)| namespace(origin).key(key).expect("a key")).collect();
        assert_eq!(made.len(), keys.len());
        // Another order of the settings is the same workspace.
        let turned = Namespace { origin: "https://a".into(), workspaces: vec!["two".into(), "one".into()] };
        assert_eq!(turned.key(&keys[2].1), namespace("https://a").key(&keys[0].1));
        for (origin, key) in &keys {
            let (namespace, key) = (namespace(origin), key.clone());
            let bytes = namespace.key(&key).expect("a key");
            assert_eq!(namespace.parse(&bytes), Some(key));
            assert_eq!(turned.parse(&bytes).is_some(), *origin == "https://a");
            assert_eq!(namespace.parse(&bytes[1..]), None);
        }
        let list = CacheKey { workspace: WorkspaceIndex(0), version: v2, resource: Resource::List(None) };
        assert_eq!(namespace("https://a").key(&list), None);
        assert_eq!(namespace("https://a").key(&key(7, v2, id("x"), None)), None);
    }

    #[test]
    fn an_erasure_is_about_the_keys_that_begin_so_and_no_others() {
        let namespace =
            Namespace { origin: "o".into(), workspaces: vec!["w".into(), "w1".into(), "a\0b".into()] };
        let id = |id: &str| CallId::parse(id.as_bytes()).expect("an id");
        let erasures = [
            Erasure::Call(None, id("x")),
            Erasure::Call(Some(WorkspaceIndex(1)), id("x")),
            Erasure::Call(Some(WorkspaceIndex(7)), id("x")),
            Erasure::All(None),
        ];
        for erasure in erasures {
            let prefixes = namespace.prefixes(&erasure);
            for workspace in [0, 1] {
                for name in ["x", "x1", "y"] {
                    for query in [None, Some("x".into())] {
                        let resource = Resource::Call(id(name), query);
                        let key = CacheKey {
                            workspace: WorkspaceIndex(workspace),
                            version: ApiVersion::V1,
                            resource,
                        };
                        let bytes = namespace.key(&key).expect("a key");
                        let begins = prefixes.iter().any(|prefix| bytes.starts_with(prefix));
                        assert_eq!(begins, erasure.matches(&key), "{erasure:?} {key:?}");
                    }
                }
            }
        }
    }
}

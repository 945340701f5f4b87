//! What is to be forgotten, in every tier: one call with all that is kept of it, or everything.

use crate::call::{CacheKey, CallId, WorkspaceIndex};

/// What is to be forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Erasure {
    /// A call: both versions, whatever the query; of one workspace, or of all.
    Call(Option<WorkspaceIndex>, CallId),
    /// All that is kept; of one workspace, or of all.
    All(Option<WorkspaceIndex>),
}

impl Erasure {
    /// Whether it is about this key. Lists hold records of calls, so an erasure is about every list that it may concern.
    #[must_use]
    pub fn matches(&self, key: &CacheKey) -> bool {
        match self {
            Self::All(workspace) => workspace.is_none_or(|workspace| workspace == key.workspace),
            Self::Call(workspace, id) => {
                workspace.is_none_or(|workspace| workspace == key.workspace)
                    && key.call_id().is_none_or(|other| other == id)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{ApiVersion, Resource};

    #[test]
    fn a_call_is_forgotten_with_its_versions_and_queries_and_the_lists_it_may_stand_in() {
        let id = |id: &str| CallId::parse(id.as_bytes()).expect("an id");
        let key = |workspace, resource| CacheKey {
            workspace: WorkspaceIndex(workspace),
            version: ApiVersion::V1,
            resource,
        };
        let (a, b) = (Resource::Call(id("a"), Some("q=1".into())), Resource::Call(id("b"), None));
        let table = [
            (Erasure::Call(None, id("a")), key(0, a.clone()), true),
            (Erasure::Call(None, id("a")), key(1, a.clone()), true),
            (Erasure::Call(Some(WorkspaceIndex(1)), id("a")), key(0, a.clone()), false),
            (Erasure::Call(None, id("a")), key(0, b.clone()), false),
            (Erasure::Call(None, id("a")), key(0, Resource::List(None)), true),
            (Erasure::Call(Some(WorkspaceIndex(1)), id("a")), key(0, Resource::List(None)), false),
            (Erasure::All(None), key(0, b.clone()), true),
            (Erasure::All(Some(WorkspaceIndex(1))), key(0, b), false),
        ];
        for (erasure, key, expected) in table {
            assert_eq!(erasure.matches(&key), expected, "{erasure:?} {key:?}");
        }
    }
}

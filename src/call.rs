//! What a call is to the gateway: its id, the vendor's API version, and the cache key made of them.
//!
//! Everything here is pure and small enough to be copied along the line of a request. It knows nothing of HTTP
//! beyond the alphabet of an id and the name of a field, and nothing of what the body of a record says: that is
//! [`crate::lookup::record`].

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use http::HeaderName;
use smallvec::SmallVec;

/// The field that names a workspace, in callers' requests as in those to the vendor.
pub const X_WORKSPACE_ID: HeaderName = HeaderName::from_static("x-workspace-id");

/// The id of a call, as it stands in the raw bytes of a request target: 1 to 128 of `[A-Za-z0-9_-]`.
///
/// The vendor has two kinds, 24 hex digits (a Mongo ObjectId) and a longer `callId` such as
/// `00000000013bd867b55ca000-00t00imaqj`; the first, which is what callers use, fits without an allocation.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CallId(SmallVec<[u8; 24]>);

impl CallId {
    /// The longest id that is accepted, in bytes.
    pub const MAX_LEN: usize = 128;

    /// What an id is, for those who are told that theirs is none.
    pub const FORM: &str = "an id is 1 to 128 of the letters, the digits, - and _";

    /// The same for those whose id has one of the gateway's keys in it.
    pub const NO_KEY: &str = "a key of the gateway's own is no id";

    /// Reads an id from undecoded bytes; `None` where they are no id.
    #[must_use]
    pub fn parse(raw: &[u8]) -> Option<Self> {
        let plausible = (1..=Self::MAX_LEN).contains(&raw.len());
        let sound = raw.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        (plausible && sound).then(|| Self(SmallVec::from_slice(raw)))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII is ever let in, so this cannot fail; the empty id stands for the impossible.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// When the call was created, in Unix seconds, where the id is a Mongo ObjectId: 24 hex digits, of which the first
    /// eight are the time.
    #[must_use]
    pub fn created(&self) -> Option<i64> {
        let hex = self.0.len() == 24 && self.0.iter().all(u8::is_ascii_hexdigit);
        let seconds = self.as_str().get(..8).filter(|_| hex)?;
        i64::from_str_radix(seconds, 16).ok()
    }

    /// Bytes held on the heap beside the value itself.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        if self.0.spilled() { self.0.capacity() } else { 0 }
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallId({self})")
    }
}

/// The vendor's API version, part of its path and of the cache key: v1 and v2 are separate entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ApiVersion {
    /// `/v1`
    V1,
    /// `/v2`
    V2,
}

impl ApiVersion {
    /// The path segment, without slashes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }

    /// The version of which [`as_str`](Self::as_str) is this.
    #[must_use]
    pub fn parse(segment: &str) -> Option<Self> {
        [Self::V1, Self::V2].into_iter().find(|version| version.as_str() == segment)
    }
}

/// Which of the configured workspaces a request is for: its place in the settings, the first being the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkspaceIndex(pub u16);

/// What is asked of the vendor: one call, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// One call. The query holds what `lookup.query_forwarded` lets through, canonical; `None` as a rule.
    Call(CallId, Option<Arc<str>>),
    /// A list, by its canonical query: decoded, sorted by name, encoded anew. `None` without parameters.
    List(Option<Arc<str>>),
}

/// The cache key (RFC 9111 §2) inside one process: workspace, version and resource. The origin is the same for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheKey {
    /// Whose credentials, and so whose records.
    pub workspace: WorkspaceIndex,
    /// Which version of the vendor's API.
    pub version: ApiVersion,
    /// Which call or list.
    pub resource: Resource,
}

impl Hash for CacheKey {
    /// In one write: the tiers' hashes are keyed, since callers choose ids, and such a hash costs by the write.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut text = [0; 3 + CallId::MAX_LEN];
        let id: &[u8] = match &self.resource {
            Resource::Call(id, _) => &id.0,
            Resource::List(_) => b"/",
        };
        let [low, high] = self.workspace.0.to_le_bytes();
        let end = 3 + id.len();
        text[..3].copy_from_slice(&[low, high, self.version as u8]);
        text[3..end].copy_from_slice(id);
        state.write(&text[..end]);
        if let Some(query) = self.query() {
            query.hash(state);
        }
    }
}

impl CacheKey {
    /// The id, where the key is that of a single call.
    #[must_use]
    pub fn call_id(&self) -> Option<&CallId> {
        match &self.resource {
            Resource::Call(id, _) => Some(id),
            Resource::List(_) => None,
        }
    }

    /// The canonical query, where there is one.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        match &self.resource {
            Resource::Call(_, query) | Resource::List(query) => query.as_deref(),
        }
    }

    /// Path and query at the vendor, starting with a slash.
    #[must_use]
    pub fn path_and_query(&self) -> String {
        let (id, query) = (self.call_id().map(CallId::as_str), self.query());
        let version = self.version.as_str();
        // No `format!`: that costs three times as much, and this is done for every request to the vendor.
        let mut path = String::with_capacity(22 + id.map_or(0, str::len) + query.map_or(0, str::len));
        ["/", version, "/api/call-history"].into_iter().for_each(|piece| path.push_str(piece));
        for (mark, piece) in [("/", id), ("?", query)] {
            if let Some(piece) = piece {
                path.push_str(mark);
                path.push_str(piece);
            }
        }
        path
    }

    /// Bytes held on the heap beside the value itself.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let (id, query) = match &self.resource {
            Resource::Call(id, query) => (id.heap_bytes(), query),
            Resource::List(query) => (0, query),
        };
        id + query.as_ref().map_or(0, |q| q.len() + 2 * size_of::<usize>())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_are_one_to_128_of_a_small_alphabet() {
        for good in
            ["69cf4b468d2a8a6a8e39b684", "1234567890abcdef", "00000000013bd867b55ca000-00t00imaqj", "a", "_-"]
        {
            assert_eq!(CallId::parse(good.as_bytes()).expect(good).as_str(), good);
        }
        assert!(CallId::parse("a".repeat(128).as_bytes()).is_some());
        for bad in ["", "a/b", "a.b", "..", "%41", "a b", "a;b", "é", "a\0", "a?b", "a#b", "a~"] {
            assert!(CallId::parse(bad.as_bytes()).is_none(), "{bad:?}");
        }
        assert!(CallId::parse("a".repeat(129).as_bytes()).is_none());
    }

    #[test]
    fn only_an_object_id_tells_when_it_was_made() {
        let created = |id: &str| CallId::parse(id.as_bytes()).expect("an id").created();
        assert_eq!(created("69cf4b468d2a8a6a8e39b684"), Some(0x69cf_4b46));
        for id in ["1234567890abcdef", "00000000013bd867b55ca000-00t00imaqj", "69cf4b468d2a8a6a8e39b68g"] {
            assert_eq!(created(id), None, "{id}");
        }
    }

    #[test]
    fn the_vendor_path_is_built_from_the_key_alone() {
        let id = CallId::parse(b"abc").expect("an id");
        let key = |version, resource| CacheKey { workspace: WorkspaceIndex(0), version, resource };
        assert_eq!(
            key(ApiVersion::V1, Resource::Call(id.clone(), None)).path_and_query(),
            "/v1/api/call-history/abc"
        );
        assert_eq!(
            key(ApiVersion::V2, Resource::Call(id, Some("a=1".into()))).path_and_query(),
            "/v2/api/call-history/abc?a=1"
        );
        assert_eq!(key(ApiVersion::V2, Resource::List(None)).path_and_query(), "/v2/api/call-history");
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_id_exactly_when_the_alphabet_and_the_length_say_so(raw in proptest::collection::vec(any::<u8>(), 0..140)) {
            let expected = (1..=128).contains(&raw.len())
                && raw.iter().all(|b| b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-".contains(b));
            prop_assert_eq!(CallId::parse(&raw).is_some(), expected);
            if let Some(id) = CallId::parse(&raw) {
                prop_assert_eq!(id.as_str().as_bytes(), &raw[..]);
            }
        }
    }
}

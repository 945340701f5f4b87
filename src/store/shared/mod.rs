//! The shared tier: final calls in Redis or Valkey, so that what one replica was told all of them know.
//!
//! The same records as on disk, in the same form, one hash for each call, with the time they are of use in the server.
//! Writes follow the answer and are not waited for. Beside the records it holds the [`lease`] by which one replica
//! asks for all, and what was erased ([`tombstones`]), so that a replica that was cut off forgets it on its return.
//!
//! All times in it are by Redis's clock, so that the replicas' own may differ.
//!
//! Promised: a lookup waits for it as long as the link does (`cache.shared.timeout` for each step) and goes on without
//! it; what is read back is what was kept for that very key; what was given before an erasure is neither put back by a
//! replica that had not heard of it, nor read by one that had; a record is not replaced by an older one.

use std::{
    fmt::{self, Write as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::time::Instant;

mod follow;
pub(super) mod landing;
pub(super) mod lease;
mod scripts;
pub(super) mod tombstones;

use lease::{Elsewhere, Lease, Names};

use super::{
    Namespace, Spans, Terms, Totals,
    kept::Kept,
    record::{Record, Unreadable},
    seal::Seal,
    stored::Stored,
    unread::Unread,
};
use crate::{
    call::{ApiVersion, CacheKey, CallId, Resource, WorkspaceIndex},
    clock::{Clock, UnixMillis},
    outcome::{Class, Tier},
    replicas::{Gone, Link, State},
};

/// The channel on which replicas are told that something was erased.
pub const ERASED: &str = "erased";

/// The channel on which replicas are told that what they wait for has landed.
pub const LANDED: &str = "landed";

/// The largest value that is kept there, in bytes: what is larger would hold up what is behind it.
const MOST: usize = 4 << 20;

/// How often expired calls are thrown out, about.
const TIDY: Duration = Duration::from_secs(60);

/// How many expired calls are thrown out in one go.
const SWEPT_AT_ONCE: &[u8] = b"500";

/// The shared tier.
pub(super) struct Shared {
    link: Arc<Link>,
    namespace: Namespace,
    clock: Arc<Clock>,
    spans: Arc<ArcSwap<Spans>>,
    seal: Option<Arc<Seal>>,
    unread: Unread,
    stones: tombstones::Tombstones,
    totals: Mutex<Totals>,
}

/// What a flight finds as it sets out.
#[derive(Debug)]
pub enum Boarding {
    /// The call is kept there; fresh or stale.
    Kept(Arc<Stored>),
    /// Nobody else asks for it. The lease is this flight's, where it wanted it.
    Free(Lease),
    /// Another replica does.
    Elsewhere(Elsewhere),
}

impl Shared {
    pub(super) fn new(link: Arc<Link>, terms: Terms) -> Self {
        let Terms { namespace, spans, clock, seal } = terms;
        let stones = tombstones::Tombstones::new(Arc::clone(&spans));
        let (unread, totals) = (Unread::new(), Mutex::default());
        Self { link, namespace, clock, spans, seal, unread, stones, totals }
    }

    /// What is kept for `key`, fresh or stale.
    pub(super) async fn get(&self, key: &CacheKey) -> Option<Arc<Stored>> {
        let place = self.place(key)?;
        let reply = self.link.run(&scripts::GET, &[place.call], &[&place.field]).await.ok()?;
        self.read(key, &place.full, reply.first()?)
    }

    /// Keeps a final call, and forgets what was kept of one that is anything else by now. Neither where what is there was
    /// given later, or an erasure came since.
    pub(super) fn put(&self, key: &CacheKey, stored: &Stored) {
        let (Some(place), true) = (self.place(key), self.is_there()) else { return };
        if stored.class != Class::Final {
            return self.remove_at(place, stored.updated, stored.fetched);
        }
        let Some(stamp) = self.stamp(stored.updated, stored.fetched) else { return };
        let Some(used) = self.redis_time(Instant::now()).filter(|_| stored.body.len() <= MOST) else {
            return;
        };
        let record = Record::of(stored, |instant| self.redis_time(instant).unwrap_or(used));
        let keep_stale = self.spans.load().keep_stale;
        let over = record.fetched.plus(stored.lifetime).plus(keep_stale);
        let value = record.encode(&place.full, used, keep_stale, self.seal.as_deref());
        let Some(value) = value.map(|value| [stamp.as_bytes(), &value].concat()) else { return };
        let keys = vec![place.call, place.index, place.bytes, self.name("tombstones", b"")];
        let mut arguments = vec![place.field, value, over.0.to_string().into_bytes(), place.id];
        arguments.extend(place.members);
        self.link.post(scripts::KEEP, keys, arguments);
    }

    /// Forgets what is kept for `key` and was given up to now.
    pub(super) fn remove(&self, key: &CacheKey) {
        if let Some(place) = self.place(key) {
            self.remove_at(place, None, Instant::now());
        }
    }

    fn remove_at(&self, place: Place, updated: Option<UnixMillis>, given: Instant) {
        let Some(stamp) = self.stamp(updated, given) else { return };
        let keys = vec![place.call, place.index, place.bytes];
        self.link.post(scripts::REMOVE, keys, vec![place.field, place.id, stamp.into_bytes()]);
    }

    /// What orders two states of a record: see [`scripts::STAMP`]. `None` where Redis was never asked for its time.
    fn stamp(&self, updated: Option<UnixMillis>, given: Instant) -> Option<String> {
        // Of 16 digits.
        const LATEST: i64 = 9_999_999_999_999_999;
        let updated = updated.map_or(0, |updated| updated.0.clamp(0, LATEST));
        Some(format!("{updated:016}{:016}", self.redis_micros(given)?.clamp(0, LATEST)))
    }

    /// Finds out whether somebody else asks for `key`. Takes the lease where nobody does and `claim` says so; passes by
    /// what is kept where `anew` does.
    pub(super) async fn board(self: &Arc<Self>, key: &CacheKey, claim: bool, anew: bool) -> Boarding {
        let Some(names) = self.names(key) else { return Boarding::Free(Lease::none()) };
        let token = format!("{:032x}", fastrand::u128(..));
        let waited = self.name("waited", b"");
        let lifetime = lease::ms(lease::LIFETIME);
        let mut place = if anew { None } else { self.place(key) };
        loop {
            let (call, field) =
                place.as_ref().map_or((&names.lease, &b""[..]), |place| (&place.call, &place.field[..]));
            let keys = [names.lease.clone(), call.clone()];
            let claimed: &[u8] = if claim { b"1" } else { b"0" };
            let arguments = [token.as_bytes(), &lifetime, field, claimed, &waited];
            let reply = self.link.run(&scripts::BOARD, &keys, &arguments).await;
            let Ok([what, value]) = reply.as_deref() else {
                // The answer may only have been late, and the others wait for us.
                let ours = claim && self.is_there();
                let lease = if ours { Lease::held(self, names, token) } else { Lease::none() };
                return Boarding::Free(lease);
            };
            return match &what[..] {
                b"kept" => match place.take().and_then(|place| self.read(key, &place.full, value)) {
                    Some(stored) => Boarding::Kept(stored),
                    // What cannot be read is as good as not kept.
                    None => continue,
                },
                b"won" => Boarding::Free(Lease::held(self, names, token)),
                b"held" => {
                    let holder = String::from_utf8_lossy(value).into_owned();
                    Boarding::Elsewhere(Elsewhere::new(self, key.clone(), names, holder))
                }
                _free => Boarding::Free(Lease::none()),
            };
        }
    }

    /// All that is kept of a call, in one workspace or in all.
    pub(super) async fn find(
        &self,
        workspace: Option<WorkspaceIndex>,
        id: &CallId,
    ) -> Result<Vec<(CacheKey, Kept)>, Gone> {
        let mut found = Vec::new();
        for (place, name) in self.namespace.selected(workspace) {
            let call = self.name("call", &member(name, id.as_str().as_bytes()));
            let reply = self.link.run(&scripts::ENTRIES, &[call], &[]).await?;
            let (pairs, _) = reply.as_chunks();
            found.extend(pairs.iter().filter_map(|[field, value]| {
                let key = key_of(place, id, field)?;
                let stored = self.read(&key, &self.namespace.key(&key)?, value)?;
                Some((key, Kept::of(&stored)))
            }));
        }
        Ok(found)
    }

    /// How many replicas there are, this one among them, while Redis is there.
    pub(super) fn replicas(&self) -> Option<u32> {
        match *self.link.state().borrow() {
            State::Together { replicas, .. } => Some(replicas),
            State::Alone(_) => None,
        }
    }

    /// What is kept there, for all replicas; as it was last known, where Redis is gone.
    pub(super) async fn totals(&self) -> Totals {
        let counted = self.count().await;
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok((entries, bytes)) = counted {
            (totals.entries, totals.bytes) = (entries, bytes);
        }
        *totals
    }

    async fn count(&self) -> Result<(u64, u64), Gone> {
        let (mut entries, mut bytes) = (0, 0);
        for (_, workspace) in self.namespace.selected(None) {
            let keys = ["index", "bytes"].map(|kind| self.name(kind, workspace.as_bytes()));
            let counted = self.link.run(&scripts::TOTALS, &keys, &[]).await?;
            let mut numbers = counted.iter().map(|number| digits(number));
            entries += numbers.next().unwrap_or_default();
            bytes += numbers.next().unwrap_or_default();
        }
        Ok((entries, bytes))
    }

    /// Throws out what is of no more use.
    async fn sweep(&self) -> Result<(), Gone> {
        for (_, workspace) in self.namespace.selected(None) {
            let index = [self.name("index", workspace.as_bytes())];
            for id in self.link.run(&scripts::EXPIRED, &index, &[SWEPT_AT_ONCE]).await? {
                let reply = self.link.run(&scripts::EXPIRE, &self.of_call(workspace, &id), &[&id]).await?;
                let gone = reply.first().map(|gone| digits(gone)).unwrap_or_default();
                self.totals.lock().unwrap_or_else(PoisonError::into_inner).expired += gone;
            }
        }
        Ok(())
    }

    /// Throws out what is of no more use, now and then, until `over`.
    async fn keep_tidy(self: Arc<Self>, over: impl Future<Output = ()>) {
        let mut over = std::pin::pin!(over);
        loop {
            // Not all replicas at once.
            let pause = TIDY.mul_f64(0.5 + fastrand::f64());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = &mut over => return,
            }
            if self.is_there() {
                // What is left over goes the next time, or by its own time to live.
                let _ = self.sweep().await;
            }
        }
    }

    pub(super) fn link(&self) -> Arc<Link> {
        Arc::clone(&self.link)
    }

    /// Whether Redis can be relied on.
    pub(super) fn is_there(&self) -> bool {
        matches!(*self.link.state().borrow(), State::Together { .. })
    }

    fn sealed(&self, subject: &[u8], token: &str, plain: Vec<u8>) -> Option<Vec<u8>> {
        match &self.seal {
            Some(seal) => seal.seal(&[subject, token.as_bytes()], &plain),
            None => Some(plain),
        }
    }

    fn opened(&self, subject: &[u8], token: &str, value: &[u8]) -> Option<Vec<u8>> {
        match &self.seal {
            Some(seal) => seal.open(&[subject, token.as_bytes()], value),
            None => Some(value.to_vec()),
        }
    }

    /// Reads the value of a key, unless it was given before an erasure that is known here.
    fn read(&self, key: &CacheKey, full: &[u8], value: &[u8]) -> Option<Arc<Stored>> {
        let value = value.get(scripts::STAMP..)?;
        let now = Instant::now();
        match Record::decode(full, value, self.seal.as_deref()) {
            Ok(record) => {
                let stored = record.into_stored(self.redis_time(now)?, now)?;
                (!self.forbids(key, stored.fetched)).then(|| Arc::new(stored))
            }
            Err(Unreadable::Damaged) => {
                tracing::warn!("a call in redis is damaged, and is fetched anew");
                None
            }
            Err(why @ (Unreadable::OtherVersion | Unreadable::OtherKey | Unreadable::Unsealed)) => {
                self.unread.say(Tier::Shared, why);
                None
            }
        }
    }

    /// What Redis's clock showed at a point of the monotonic one, in microseconds.
    fn redis_micros(&self, instant: Instant) -> Option<i64> {
        self.link.redis_micros(self.clock.at(instant))
    }

    fn redis_time(&self, instant: Instant) -> Option<UnixMillis> {
        self.redis_micros(instant).map(|micros| UnixMillis(micros / 1_000))
    }

    fn name(&self, kind: &str, which: &[u8]) -> Vec<u8> {
        self.link.name(kind, which)
    }

    /// Where the calls of this key lie; `None` for what is not kept there.
    fn place(&self, key: &CacheKey) -> Option<Place> {
        let Resource::Call(id, query) = &key.resource else { return None };
        let workspace = self.namespace.name(key.workspace)?;
        let id = id.as_str().as_bytes();
        let [call, index, bytes] = self.of_call(workspace, id);
        let field = [key.version.as_str(), "\0", query.as_deref().unwrap_or_default()].concat();
        Some(Place {
            full: self.namespace.key(key)?,
            call,
            index,
            bytes,
            field: field.into_bytes(),
            id: id.to_vec(),
            members: [member(workspace, id), member(workspace, b"")],
        })
    }

    /// The names that belong to the lease of this key: of a call, or of a list.
    fn names(&self, key: &CacheKey) -> Option<Names> {
        let workspace = self.namespace.name(key.workspace)?;
        let subject = member(workspace, key.path_and_query().as_bytes());
        // The query of a list may name people.
        let digest = ring::digest::digest(&ring::digest::SHA256, &subject);
        Some(Names { lease: self.name("lease", hex(digest.as_ref()).as_bytes()), subject })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The names in Redis that belong to one entry.
struct Place {
    /// The key that its value is bound to.
    full: Vec<u8>,
    call: Vec<u8>,
    index: Vec<u8>,
    bytes: Vec<u8>,
    field: Vec<u8>,
    id: Vec<u8>,
    /// The tombstones that would be its own: of the call, and of the whole workspace.
    members: [Vec<u8>; 2],
}

/// What a tombstone or the hash of a call is named by; an empty id is the whole workspace.
fn member(workspace: &str, id: &[u8]) -> Vec<u8> {
    [workspace.as_bytes(), b"\0", id].concat()
}

/// The key that a field of a call's hash is for.
fn key_of(workspace: WorkspaceIndex, id: &CallId, field: &[u8]) -> Option<CacheKey> {
    let (version, query) = std::str::from_utf8(field).ok()?.split_once('\0')?;
    let version = ApiVersion::parse(version)?;
    let query = (!query.is_empty()).then(|| query.into());
    Some(CacheKey { workspace, version, resource: Resource::Call(id.clone(), query) })
}

fn digits(number: &[u8]) -> u64 {
    std::str::from_utf8(number).ok().and_then(|number| number.parse().ok()).unwrap_or_default()
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

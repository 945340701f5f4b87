//! `POST /warm`: fetches what is not kept of a list of calls, at the pace that the budget leaves, and tells line by line
//! how it goes.
//!
//! The body is JSON: `{"ids": ["…", …]}`, and `"version": "v1"` where not the entries of v2 are meant; `x-workspace-id`
//! selects the workspace. The answer is NDJSON: a line with the total, a line for each call as it is done, a line with
//! the sums; [`lines`] has their members. What is kept costs nothing, so whoever sends a list again goes on where it
//! ended. The work ends with the connection, and with a last line as soon as the gateway drains.
//!
//! Here the request is read and the work begun, [`ids`] reads the list, [`work`] does it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, timeout},
};

use super::{Allowed, Parts, Refused, body, without_query};
use crate::{
    call::{WorkspaceIndex, X_WORKSPACE_ID},
    downstream::{body::Content, socket::Peer},
    outcome::{ErrorCode, Refusal},
};

mod ids;
mod lines;
mod work;

const PATH: &str = "/warm";

/// The only method here.
const POST: Allowed = Allowed("POST");

const NDJSON: &str = "application/x-ndjson";

/// The largest body that is read, in bytes.
const MAX_BODY: usize = 16 << 20;

/// How long a body may take to come: nothing else watches who sends one byte a minute.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Lists that may be under way at once. They share one budget, so more of them would only wait for each other; but a few
/// calls need not wait until a long list is done.
const AT_ONCE: usize = 4;

/// What the lists under way may have together, by the length of their bodies: the largest, and some that are short. One
/// that waits takes about one and a half times as much memory, and while it is read two and a half times as much.
const TOGETHER: usize = 24 << 20;

/// When it is worth asking again, where that many are under way.
const LATER: Duration = Duration::from_secs(60);

/// Lines that wait for a reader who is slow to take them.
const UNREAD: usize = 16;

/// The lists under way. A clone counts the same ones.
#[derive(Clone)]
pub(super) struct Warming {
    places: Arc<Semaphore>,
    /// A permit is a byte.
    room: Arc<Semaphore>,
}

impl Default for Warming {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(AT_ONCE)), room: Arc::new(Semaphore::new(TOGETHER)) }
    }
}

/// What a list under way has taken. Given back when dropped.
struct Taken {
    _place: OwnedSemaphorePermit,
    room: OwnedSemaphorePermit,
    of: Arc<Semaphore>,
}

impl Taken {
    /// Takes room until it is enough for a body of this length.
    fn reach(&mut self, length: usize) -> Result<(), Refused> {
        let missing = u32::try_from(length.saturating_sub(self.room.num_permits())).unwrap_or(u32::MAX);
        if missing > 0 {
            let more = Arc::clone(&self.of).try_acquire_many_owned(missing);
            self.room.merge(more.map_err(|_| later("the lists that are being warmed leave no room for it"))?);
        }
        Ok(())
    }
}

fn later(detail: &'static str) -> Refused {
    Refusal::new(ErrorCode::Overloaded, detail).retry_at(Instant::now() + LATER).into()
}

/// A list is to be warmed, for this workspace.
pub(super) struct Asked(WorkspaceIndex);

/// Whether a request is one of those few that have a body.
pub(super) fn has_body<B>(request: &Request<B>) -> bool {
    request.method() == Method::POST && request.uri().path() == PATH
}

/// What is asked; `None` where the path is another's.
pub(super) fn understand<B>(parts: &Parts, request: &Request<B>) -> Option<Result<Asked, Refused>> {
    (request.uri().path() == PATH).then(|| asked(parts, request))
}

fn asked<B>(parts: &Parts, request: &Request<B>) -> Result<Asked, Refused> {
    POST.check(request.method())?;
    without_query(request)?;
    let mut types = request.headers().get_all(header::CONTENT_TYPE).iter();
    if types.any(|value| !is_json(value)) {
        return Err(invalid("the content-type of a list is application/json"));
    }
    let selected = request.headers().get(X_WORKSPACE_ID).map(HeaderValue::as_bytes);
    let workspace = parts.credentials.select(selected).ok_or_else(|| {
        let detail = "x-workspace-id names none of the gateway's workspaces";
        Refusal::new(ErrorCode::UnknownWorkspace, detail)
    })?;
    Ok(Asked(workspace))
}

/// Whether this is `application/json`, with parameters or without (RFC 9110 §8.3.1).
fn is_json(value: &HeaderValue) -> bool {
    let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

fn invalid(detail: impl Into<std::borrow::Cow<'static, str>>) -> Refused {
    Refusal::new(ErrorCode::InvalidRequest, detail).into()
}

impl Warming {
    /// A place, where there is one.
    fn take(&self) -> Option<Taken> {
        let _place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(0).ok()?;
        Some(Taken { _place, room, of: Arc::clone(&self.room) })
    }

    /// Reads the list and begins. The answer streams what comes of it.
    pub(super) async fn begin(
        &self,
        parts: &Arc<Parts>,
        Asked(workspace): Asked,
        incoming: Incoming,
        peer: Peer,
    ) -> Result<Response<Content>, Refused> {
        // Before the body is read: so many of them are held at once, and no more.
        let mut taken = self.take().ok_or_else(|| later("several lists are being warmed already"))?;
        let read = timeout(BODY_TIMEOUT, read(incoming, &mut taken)).await;
        let raw = read.unwrap_or_else(|_| Err(invalid("the body took too long to come")))?;
        let (list, taken) = listed(raw, taken).await?;
        let work = work::Work::new(parts, workspace, list, peer);
        let (lines, content) = mpsc::channel(UNREAD);
        tokio::spawn(done(work, lines, taken));
        Ok(body(http::StatusCode::OK, NDJSON, Bytes::new()).map(|_| Content::Stream(content)))
    }
}

/// The list in a body. What it has taken stays taken until it is read, also where nobody waits for that any more.
async fn listed(raw: Vec<u8>, taken: Taken) -> Result<(ids::List, Taken), Refused> {
    // Megabytes of ids take their time, which is not to be that of callers.
    let read = tokio::task::spawn_blocking(move || ids::read(raw).map(|list| (list, taken))).await;
    read.map_err(|_| invalid("the list could not be read"))?.map_err(invalid)
}

async fn done(work: work::Work, lines: mpsc::Sender<Bytes>, taken: Taken) {
    work.run(lines).await;
    drop(taken);
}

/// The body, whole.
async fn read(mut incoming: Incoming, taken: &mut Taken) -> Result<Vec<u8>, Refused> {
    let too_large = || Refused::from(Refusal::new(ErrorCode::BodyTooLarge, "a list may have 16 MiB"));
    let announced = incoming.size_hint().lower();
    if announced > MAX_BODY as u64 {
        return Err(too_large());
    }
    let announced = usize::try_from(announced).unwrap_or(MAX_BODY);
    taken.reach(announced)?;
    let mut read = Vec::with_capacity(announced);
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|_| invalid("the body ended too early, or is no body"))?;
        let Some(piece) = frame.data_ref() else { continue };
        let length = read.len() + piece.len();
        if length > MAX_BODY {
            return Err(too_large());
        }
        taken.reach(length)?;
        read.extend_from_slice(piece);
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::{runtime::Builder, task::spawn_blocking};

    use super::*;

    #[test]
    fn what_a_list_has_taken_stays_taken_until_it_is_read_though_its_caller_has_left() {
        let runtime = Builder::new_current_thread().max_blocking_threads(1).build().expect("a runtime");
        runtime.block_on(async {
            let (release, held) = std::sync::mpsc::channel::<()>();
            drop(spawn_blocking(move || held.recv()));
            let warming = Warming::default();
            let mut taken = warming.take().expect("a place");
            assert!(taken.reach(10).is_ok());
            let left = listed(br#"{"ids":[]}"#.to_vec(), taken).now_or_never();
            assert!(left.is_none(), "there is no thread for it yet");
            let free = || (warming.places.available_permits(), warming.room.available_permits());
            assert_eq!(free(), (AT_ONCE - 1, TOGETHER - 10));
            drop(release);
            let all = u32::try_from(TOGETHER).expect("no more than permits");
            drop(warming.room.acquire_many(all).await.expect("open"));
            assert_eq!(free(), (AT_ONCE, TOGETHER));
        });
    }
}

//! What operators ask of the cache: what is kept of a call, and to forget it, or everything.
//!
//! - `GET /cache/{id}`: every entry of the call, and which tiers have it, without a body; 404 where there is none.
//! - `DELETE /cache/{id}`, `DELETE /cache`: `{"removed": n}`, once nothing of it can come back. With `"pending":
//!   ["shared"]` where Redis is gone: the other replicas are told when it is back.
//!
//! Every workspace is meant, unless `x-workspace-id` selects one. No query is understood, and none is passed
//! over: who takes `/cache?id=…` for a call would lose everything.

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use serde::Serialize;

use super::{Allowed, Parts, Refused, json, without_query};
use crate::{
    call::{CallId, X_WORKSPACE_ID},
    clock::UnixMillis,
    downstream::socket::Peer,
    outcome::{ErrorCode, Refusal, Tier},
    store::{Erasure, Found},
};

const ENTRY: Allowed = Allowed("DELETE, GET, HEAD");
const ALL: Allowed = Allowed("DELETE");

/// What is to be done.
pub(super) enum Asked {
    /// To show what is kept of a call.
    Show(CallId, Erasure),
    /// To forget.
    Forget(Erasure),
}

/// What a request asks of the cache; `None` where its path is another's.
pub(super) fn understand<B>(parts: &Parts, request: &Request<B>) -> Option<Result<Asked, Refused>> {
    let id = match request.uri().path().strip_prefix("/cache")? {
        "" => None,
        rest => Some(rest.strip_prefix('/')?),
    };
    Some(asked(parts, request, id))
}

fn asked<B>(parts: &Parts, request: &Request<B>, id: Option<&str>) -> Result<Asked, Refused> {
    let allowed = if id.is_some() { ENTRY } else { ALL };
    allowed.check(request.method())?;
    without_query(request)?;
    let selected = request.headers().get(X_WORKSPACE_ID).map(HeaderValue::as_bytes);
    let workspace = match selected {
        None => None,
        Some(selected) => Some(parts.credentials.select(Some(selected)).ok_or_else(|| {
            let detail =
                "x-workspace-id names none of the gateway's workspaces; leave it out for all of them";
            Refusal::new(ErrorCode::UnknownWorkspace, detail)
        })?),
    };
    let Some(id) = id else { return Ok(Asked::Forget(Erasure::All(workspace))) };
    let Some(id) = CallId::parse(id.as_bytes()) else {
        return Err(Refusal::new(ErrorCode::InvalidCallId, CallId::FORM).into());
    };
    // Nothing is ever kept under such a name, and this one is logged.
    if parts.credentials.occur_in(id.as_str().as_bytes()) {
        return Err(Refusal::new(ErrorCode::InvalidCallId, CallId::NO_KEY).into());
    }
    let erasure = Erasure::Call(workspace, id.clone());
    let forget = request.method() == http::Method::DELETE;
    Ok(if forget { Asked::Forget(erasure) } else { Asked::Show(id, erasure) })
}

/// Does what is asked.
pub(super) async fn answer(parts: &Parts, asked: Asked, peer: Peer) -> Result<Response<Bytes>, Refused> {
    match asked {
        Asked::Show(id, erasure) => show(parts, &id, &erasure).await,
        Asked::Forget(erasure) => forget(parts, erasure, peer).await,
    }
}

#[derive(Serialize)]
struct Call<'a> {
    id: &'a str,
    entries: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    /// Its name.
    workspace: &'a str,
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<&'a str>,
    /// The nearest first.
    tiers: Vec<&'static str>,
    class: &'static str,
    status: u16,
    /// Of the body.
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    /// In seconds, both.
    age: u64,
    ttl: i64,
    fetched: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated: Option<String>,
}

async fn show(parts: &Parts, id: &CallId, erasure: &Erasure) -> Result<Response<Bytes>, Refused> {
    let found = parts.lookup.store().find(erasure).await;
    if found.is_empty() {
        return Err(Refusal::new(ErrorCode::EntryNotFound, "no tier has anything of this call").into());
    }
    let entries = found.iter().map(|found| entry(parts, found)).collect();
    Ok(json(&Call { id: id.as_str(), entries }))
}

fn entry<'a>(parts: &'a Parts, found: &'a Found) -> Entry<'a> {
    let (key, kept) = (&found.key, &found.kept);
    Entry {
        workspace: parts.credentials.name(key.workspace),
        version: key.version.as_str(),
        query: key.query(),
        tiers: found.tiers.iter().copied().map(Tier::as_str).collect(),
        class: kept.class.as_str(),
        status: kept.status.as_u16(),
        bytes: kept.bytes,
        etag: kept.etag.map(|etag| String::from_utf8_lossy(&etag.text()).into_owned()),
        age: kept.age.as_secs(),
        ttl: kept.ttl,
        fetched: iso_8601(parts.clock.at(kept.fetched)),
        updated: kept.updated.and_then(iso_8601),
    }
}

#[derive(Serialize)]
struct Removed {
    removed: usize,
    /// The tiers that could not be reached: they forget it when they can be again, if this process lives until then.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pending: Vec<&'static str>,
}

async fn forget(parts: &Parts, erasure: Erasure, peer: Peer) -> Result<Response<Bytes>, Refused> {
    let id = match &erasure {
        Erasure::Call(_, id) => Some(id.clone()),
        Erasure::All(_) => None,
    };
    let Some(erased) = parts.lookup.erase(erasure).await else {
        return Err(Refusal::new(ErrorCode::InternalError, "part of it may still be kept; ask again").into());
    };
    let removed = erased.keys;
    tracing::info!(
        %peer,
        id = id.as_ref().map(CallId::as_str),
        removed,
        "kept calls are forgotten, as an operator asked"
    );
    let pending = if erased.pending { vec![Tier::Shared.as_str()] } else { Vec::new() };
    if erased.pending {
        tracing::warn!(
            "redis is gone: other replicas are told to forget it when it is back, if this one lives"
        );
    }
    Ok(json(&Removed { removed, pending }))
}

fn iso_8601(at: UnixMillis) -> Option<String> {
    jiff::Timestamp::from_millisecond(at.0).ok().map(|at| at.to_string())
}

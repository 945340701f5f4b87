//! Decides whether a request may be looked at: its framing, its size, its `Host`, where it comes from.
//!
//! Pure, and without an allocation unless it refuses. It is given what the fields say, and knows neither paths nor methods.
//! An endpoint without credentials is defended here: framing tricks end because hardly a request has a body, DNS rebinding
//! because a foreign name is not served, and web pages because they cannot leave out `Origin` or `Sec-Fetch-Site`.

use http::{Request, Uri, Version};
use hyper::body::Body;

use super::{
    AllowedHosts,
    fields::{Fields, Single},
    host::{Authority, Host},
};
use crate::outcome::{ErrorCode, Refusal};

/// The longest request target, in bytes.
pub const MAX_TARGET: usize = 8 << 10;

/// The largest head, in bytes: target, field names and values, and four for each field's punctuation.
pub const MAX_HEAD: usize = 16 << 10;

/// The most fields in a head.
pub const MAX_FIELDS: usize = 64;

/// The port that goes without saying over `http`.
const HTTP_PORT: u16 = 80;

/// The port that goes without saying over `https`.
const HTTPS_PORT: u16 = 443;

/// Checks a request by everything but its path and method, first by what makes it dangerous to read on.
///
/// `over_unix` says that it came over a Unix socket, where no browser comes from: any well-formed host will do.
///
/// # Errors
/// The refusal to answer with. Where [`ErrorCode::closes`] says so, the connection has to end with it.
pub fn check<B: Body>(
    request: &Request<B>,
    fields: &Fields<'_>,
    hosts: &AllowedHosts,
    over_unix: bool,
) -> Result<(), Refusal> {
    if fields.framed || !request.body().is_end_stream() {
        return refuse(ErrorCode::UnexpectedBody, "a request here has neither a body nor a transfer coding");
    }
    check_head(request, fields, hosts, over_unix)
}

/// The same for a route whose requests have a body: by its length or in chunks, and in no other coding. Its size is for
/// the reader to hold down.
///
/// Not all of HTTP/1's ambiguities are seen here. A length beside chunks and several equal lengths, of which hyper does
/// not tell, are refused before this (`super::heads`); it refuses different lengths, and codings that do not end in
/// `chunked`, by itself. What is left is a coding more than once or another one before it, and over HTTP/2 repeated
/// lengths. However a body was read, nothing is read after it: the connection ends.
///
/// # Errors
/// As [`check`]. The connection ends after a request with a body in any case.
pub fn check_with_body<B>(
    request: &Request<B>,
    fields: &Fields<'_>,
    hosts: &AllowedHosts,
    over_unix: bool,
) -> Result<(), Refusal> {
    if fields.ambiguous || fields.lengths + fields.codings > 1 {
        return refuse(
            ErrorCode::InvalidRequest,
            "a body has one content-length, or comes in chunks and in no other coding",
        );
    }
    check_head(request, fields, hosts, over_unix)
}

fn check_head<B>(
    request: &Request<B>,
    fields: &Fields<'_>,
    hosts: &AllowedHosts,
    over_unix: bool,
) -> Result<(), Refusal> {
    check_size(request.uri(), fields)?;
    let own = own_authority(request, fields)?;
    if let Some(own) = &own
        && !over_unix
        && !is_allowed(&own.host, hosts)
    {
        return refuse(
            ErrorCode::MisdirectedRequest,
            "use localhost or an address, or name the host in listen.allowed_hosts",
        );
    }
    if fields.cross_site || is_foreign(fields.origin, own.as_ref()) {
        return refuse(ErrorCode::CrossSiteRequest, "this endpoint is not for web pages of other origins");
    }
    if fields.workspaces > 1 {
        return refuse(ErrorCode::InvalidRequest, "x-workspace-id is given more than once");
    }
    Ok(())
}

fn refuse<T>(code: ErrorCode, detail: &'static str) -> Result<T, Refusal> {
    Err(Refusal::new(code, detail))
}

/// Whether an `Origin` is another than the request's `own` (RFC 6454 §7.1, Fetch §3.2).
fn is_foreign(origin: Single<'_>, own: Option<&Authority<'_>>) -> bool {
    match origin {
        Single::Absent => false,
        Single::Once(value) => match (parse_origin(value.as_bytes()), own) {
            (Some((origin, default)), Some(own)) => !own.is_same(&origin, default),
            (None, _) | (_, None) => true,
        },
        Single::Repeated => true,
    }
}

fn check_size(target: &Uri, fields: &Fields<'_>) -> Result<(), Refusal> {
    let length = target.path_and_query().map_or(0, |path| path.as_str().len())
        + target.authority().map_or(0, |authority| authority.as_str().len())
        + target.scheme_str().map_or(0, |scheme| scheme.len() + "://".len());
    if length > MAX_TARGET {
        return refuse(ErrorCode::TargetTooLong, "the target may have 8 KiB");
    }
    if fields.count > MAX_FIELDS || length + fields.bytes > MAX_HEAD {
        return refuse(ErrorCode::HeadTooLarge, "the head may have 16 KiB and 64 fields");
    }
    Ok(())
}

/// The host and port that the request is for: of its `Host`, and of its target where that has one too (RFC 9112
/// §3.2.2, RFC 9113 §8.3.1). `None` only where HTTP/1.0 leaves it out.
fn own_authority<'a, B>(
    request: &'a Request<B>,
    fields: &Fields<'a>,
) -> Result<Option<Authority<'a>>, Refusal> {
    let named = match fields.host {
        Single::Absent => None,
        Single::Once(value) => match Authority::parse(value.as_bytes()) {
            Some(authority) => Some(authority),
            None => return refuse(ErrorCode::InvalidHost, "the host field is not host[:port]"),
        },
        Single::Repeated => return refuse(ErrorCode::InvalidHost, "the host field is given more than once"),
    };
    let version = request.version();
    if named.is_none() && version != Version::HTTP_2 && version > Version::HTTP_10 {
        return refuse(ErrorCode::InvalidHost, "the host field is missing");
    }
    let targeted = targeted_authority(request.uri(), version)?;
    match (named, targeted) {
        (Some(named), Some((targeted, default))) if !named.is_same(&targeted, default) => {
            refuse(ErrorCode::InvalidHost, "the host field and the target name different hosts")
        }
        (None, None) if version == Version::HTTP_2 => refuse(ErrorCode::InvalidHost, "no authority is given"),
        (named, targeted) => Ok(named.or(targeted.map(|(authority, _)| authority))),
    }
}

/// The authority of an absolute-form target or of HTTP/2's `:authority`, and the port that goes without saying there.
/// An authority-form target says where a tunnel shall lead, not who is asked: it is left to routing, which has none.
fn targeted_authority(target: &Uri, version: Version) -> Result<Option<(Authority<'_>, u16)>, Refusal> {
    let default = match target.scheme_str() {
        Some("http") => HTTP_PORT,
        Some("https") => HTTPS_PORT,
        Some(_) => return refuse(ErrorCode::InvalidRequest, "the target's scheme is neither http nor https"),
        None if version == Version::HTTP_2 => HTTP_PORT,
        None => return Ok(None),
    };
    let Some(authority) = target.authority() else { return Ok(None) };
    match Authority::parse(authority.as_str().as_bytes()) {
        Some(authority) => Ok(Some((authority, default))),
        None => refuse(ErrorCode::InvalidHost, "the target's authority is not host[:port]"),
    }
}

/// An IP literal cannot be rebound to us by somebody's DNS; a name can.
fn is_allowed(host: &Host<'_>, hosts: &AllowedHosts) -> bool {
    match (host, hosts) {
        (Host::V4(_) | Host::V6(_), _) | (_, AllowedHosts::Any) => true,
        (Host::Name(name), AllowedHosts::Names(names)) => {
            name.eq_ignore_ascii_case("localhost")
                || names.iter().any(|allowed| name.eq_ignore_ascii_case(allowed))
        }
    }
}

/// Host and port of a web origin, and the port that goes without saying under its scheme. `None` for `null`, other
/// schemes and whatever else is no origin of a web page.
fn parse_origin(raw: &[u8]) -> Option<(Authority<'_>, u16)> {
    let scheme_end = raw.windows(3).position(|window| window == b"://")?;
    let (scheme, rest) = raw.split_at(scheme_end);
    let default = if scheme.eq_ignore_ascii_case(b"http") {
        HTTP_PORT
    } else if scheme.eq_ignore_ascii_case(b"https") {
        HTTPS_PORT
    } else {
        return None;
    };
    Authority::parse(&rest[3..]).map(|authority| (authority, default))
}

#[cfg(test)]
mod tests;

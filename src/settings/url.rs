//! The two URLs among the settings: where the vendor is, and where Redis is.
//!
//! Pure: no name is resolved. It promises that no fault quotes the URL, for either may hold a password, and that a
//! [`SharedUrl`] cannot be printed with it.

use std::{fmt, net::IpAddr};

use http::{
    Uri,
    uri::{Authority, Scheme},
};
use percent_encoding::percent_decode_str;
use rustls_pki_types::ServerName;

use super::REDACTED;
use crate::upstream::Origin;

/// How the base URL is written, for messages.
pub(super) const BASE_URL_FORM: &str = "expected scheme and host alone, such as \"https://api.trillet.ai\"";

/// What is wrong with a URL, and what would be right.
type UrlFault = (&'static str, &'static str);

/// Reads the vendor's origin: no user, path, query or fragment; `http` toward the loopback only.
pub(super) fn base_url(text: &str) -> Result<Origin, UrlFault> {
    let wrong = |what| (what, BASE_URL_FORM);
    // `Uri` cuts a fragment off without a word.
    if text.contains('#') {
        return Err(wrong("a fragment in it"));
    }
    let uri: Uri = text.parse().map_err(|_| wrong("not a URL"))?;
    let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
        return Err(wrong("not a URL"));
    };
    if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
        return Err(wrong("neither https nor http"));
    }
    if authority.as_str().contains('@') {
        return Err(wrong("a user or password in it"));
    }
    if uri.query().is_some() {
        return Err(wrong("a query in it"));
    }
    if split_version(text).is_some() {
        return Err(("the API version in it", "leave the /v1 or /v2 out: callers' paths have it"));
    }
    if uri.path() != "/" {
        return Err(wrong("a path in it"));
    }
    let host = authority.host().to_ascii_lowercase();
    let name = host.trim_start_matches('[').trim_end_matches(']');
    if ServerName::try_from(name).is_err() {
        return Err(wrong("no valid host in it"));
    }
    if *scheme == Scheme::HTTP && !is_loopback_host(name) {
        return Err(("http beyond the loopback, where the key would travel in the clear", "use https"));
    }
    let port = authority.port_u16();
    // "host:" and "host:x" have no port but a colon.
    if port == Some(0) || (port.is_none() && authority.as_str().len() != host.len()) {
        return Err(wrong("no valid port in it"));
    }
    let usual = if *scheme == Scheme::HTTP { 80 } else { 443 };
    let canonical = match port.filter(|port| *port != usual) {
        Some(port) => format!("{host}:{port}"),
        None => host,
    };
    let authority: Authority = canonical.parse().map_err(|_| wrong("no valid host in it"))?;
    Ok(Origin { scheme: scheme.clone(), authority })
}

/// What stands before a trailing `/v1` or `/v2`; `None` where there is none.
pub(super) fn split_version(url: &str) -> Option<&str> {
    let url = url.trim_end_matches('/');
    // A host that is called v1 is a host.
    url.strip_suffix("/v1").or_else(|| url.strip_suffix("/v2")).filter(|rest| !rest.ends_with('/'))
}

/// Whether a host, without brackets, is `localhost` or a loopback address.
fn is_loopback_host(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback())
}

/// The loopback port that an origin leads to, where it leads to this machine.
pub(super) fn loopback_port(origin: &Origin) -> Option<u16> {
    let host = origin.authority.host();
    let usual = if origin.scheme == Scheme::HTTP { 80 } else { 443 };
    let here = is_loopback_host(host.trim_start_matches('[').trim_end_matches(']'));
    here.then(|| origin.authority.port_u16().unwrap_or(usual))
}

/// Where Redis is, perhaps with a password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct SharedUrl(String);

impl SharedUrl {
    /// As it was given.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// With the password taken out: the one before the `@`, and those in the query (`pass`, `password`).
    pub(super) fn redacted(&self) -> String {
        let (url, query) =
            self.0.split_once('?').map_or((self.0.as_str(), None), |(url, query)| (url, Some(query)));
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let rest = match rest.rsplit_once('@') {
            None => rest.to_owned(),
            Some((userinfo, host)) => match userinfo.split_once(':') {
                Some((user, _)) => format!("{user}:{REDACTED}@{host}"),
                None => rest.to_owned(),
            },
        };
        let hide = |pair: &str| match pair.split_once('=') {
            Some((name, _)) if is_password(name) => format!("{name}={REDACTED}"),
            _ => pair.to_owned(),
        };
        let query = query.map(|query| query.split('&').map(hide).collect::<Vec<_>>().join("&"));
        format!("{scheme}://{rest}{}{}", if query.is_some() { "?" } else { "" }, query.unwrap_or_default())
    }
}

/// Whether a parameter is a password, in whichever spelling the Redis client decodes it from.
fn is_password(name: &str) -> bool {
    let name = percent_decode_str(name).decode_utf8_lossy();
    name.to_ascii_lowercase().starts_with("pass")
}

impl fmt::Debug for SharedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// Reads the URL of a Redis: a host, or the absolute path of a socket. What else it says is for the Redis client.
pub(super) fn shared_url(text: &str) -> Result<SharedUrl, &'static str> {
    if text.contains(REDACTED) {
        return Err("the place of a password that was taken out");
    }
    if text.contains(|c: char| c.is_control() || c == ' ' || c == '#') {
        return Err("a control character, a space or a fragment in it");
    }
    let (scheme, rest) = text.split_once("://").ok_or("not a URL")?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    // A password with a bare question mark in it would be taken for a query, and shown.
    if query.contains('@') {
        return Err("a password that is not percent-encoded in it");
    }
    let place = place.rsplit_once('@').map_or(place, |(_, host)| host);
    let sound = match scheme {
        "redis" | "rediss" => {
            let (authority, database) = place.split_once('/').unwrap_or((place, ""));
            let numbered = database.bytes().all(|b| b.is_ascii_digit());
            numbered && authority.parse().is_ok_and(|a: Authority| !a.host().is_empty() && sound_port(&a))
        }
        "unix" => place.starts_with('/') && place.len() > 1,
        _ => return Err("neither redis, rediss nor unix"),
    };
    if sound { Ok(SharedUrl(text.to_owned())) } else { Err("no valid host or path in it") }
}

fn sound_port(authority: &Authority) -> bool {
    match authority.port_u16() {
        Some(port) => port > 0,
        None => authority.as_str().len() == authority.host().len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_url_is_an_origin() {
        let table = [
            ("https://api.trillet.ai", Ok("https://api.trillet.ai")),
            ("https://api.trillet.ai/", Ok("https://api.trillet.ai")),
            ("HTTPS://API.Trillet.AI:443", Ok("https://api.trillet.ai")),
            ("https://api.trillet.ai:8443", Ok("https://api.trillet.ai:8443")),
            ("https://192.0.2.7", Ok("https://192.0.2.7")),
            ("http://127.0.0.1:9100", Ok("http://127.0.0.1:9100")),
            ("http://localhost:80", Ok("http://localhost")),
            ("http://[::1]:9100", Ok("http://[::1]:9100")),
            (
                "http://api.trillet.ai",
                Err("http beyond the loopback, where the key would travel in the clear"),
            ),
            ("http://0.0.0.0:1", Err("http beyond the loopback, where the key would travel in the clear")),
            (
                "http://localhost.evil.test",
                Err("http beyond the loopback, where the key would travel in the clear"),
            ),
            ("https://api.trillet.ai/v1", Err("the API version in it")),
            ("https://api.trillet.ai/v2/", Err("the API version in it")),
            ("https://api.trillet.ai/v3", Err("a path in it")),
            ("https://api.trillet.ai/api/v2", Err("the API version in it")),
            ("https://api.trillet.ai?a=1", Err("a query in it")),
            ("https://api.trillet.ai/#x", Err("a fragment in it")),
            ("https://user:canary@api.trillet.ai", Err("a user or password in it")),
            ("https://@api.trillet.ai", Err("a user or password in it")),
            ("ftp://api.trillet.ai", Err("neither https nor http")),
            ("api.trillet.ai", Err("not a URL")),
            ("/v1", Err("not a URL")),
            ("", Err("not a URL")),
            ("https://", Err("not a URL")),
            ("https://api.trillet.ai:0", Err("no valid port in it")),
            ("https://api.trillet.ai:", Err("no valid port in it")),
            ("https://a$b", Err("no valid host in it")),
        ];
        for (text, expected) in table {
            let read = base_url(text);
            assert_eq!(
                read.as_ref().map(ToString::to_string).map_err(|(wrong, _)| *wrong),
                expected.map(str::to_owned),
                "{text:?}"
            );
        }
    }

    #[test]
    fn the_version_is_split_off_only_at_the_end() {
        for (url, rest) in [
            ("https://a/v1", Some("https://a")),
            ("https://a/v2//", Some("https://a")),
            ("https://a/v12", None),
            ("https://a", None),
            ("https://v1", None),
        ] {
            assert_eq!(split_version(url), rest, "{url}");
        }
    }

    #[test]
    fn the_password_of_a_redis_is_never_shown() {
        for (url, shown) in [
            ("redis://host", "redis://host"),
            ("rediss://host:6379/1", "rediss://host:6379/1"),
            ("redis://user:canary@host:6379/0", "redis://user:[redacted]@host:6379/0"),
            ("redis://:can@ary@host", "redis://:[redacted]@host"),
            ("redis://:can/ary@host", "redis://:[redacted]@host"),
            ("redis://user@host", "redis://user@host"),
            ("unix:///run/redis.sock?db=1&pass=canary", "unix:///run/redis.sock?db=1&pass=[redacted]"),
            ("unix:///run/redis.sock?p%61ss=canary", "unix:///run/redis.sock?p%61ss=[redacted]"),
        ] {
            let read = shared_url(url).expect(url);
            assert_eq!(read.redacted(), shown);
            assert_eq!(read.as_str(), url);
            assert_eq!(format!("{read:?}"), "[redacted]");
        }
        for bad in [
            "",
            "host:6379",
            "http://host",
            "redis://",
            "redis://:canary@",
            "redis://host:0",
            "redis://host:x",
            "redis://host/one",
            "redis://user:12?canary@host",
            "redis://:can?ary@host",
            "unix://run/redis",
            "unix:///",
            "redis://a b",
            "redis://:[redacted]@host",
        ] {
            assert!(shared_url(bad).is_err(), "{bad:?}");
        }
    }
}

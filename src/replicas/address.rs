//! Where Redis is, as whom, and a stream to it: TCP, TLS over TCP, or a Unix socket.
//!
//! The URL is read by the Redis client's own rules; the stream is opened here, so that trust is ours alone and a
//! failure is known by what it is. Promised: no error holds any part of the URL.

use std::{fmt, io, path::PathBuf, sync::Arc};

use redis::{ConnectionAddr, IntoConnectionInfo as _, ProtocolVersion, RedisConnectionInfo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream, lookup_host},
};
use tokio_rustls::TlsConnector;

use super::{Settings, reason::Reason};
use crate::trust::{self, Roots};

/// What the Redis client speaks over.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// Where Redis is, and as whom it is entered. Holds the password, so it has no `Debug`.
pub(super) struct Address {
    place: Place,
    login: RedisConnectionInfo,
}

enum Place {
    Tcp { host: String, port: u16, tls: Option<(ServerName<'static>, Arc<ClientConfig>)> },
    Unix(PathBuf),
}

impl Address {
    /// Reads the URL, and what is trusted where it says TLS.
    ///
    /// # Errors
    /// A URL that is none, a name that no certificate can have, roots that cannot be read.
    pub(super) fn read(settings: &Settings) -> io::Result<Self> {
        // The client's own TLS is not compiled in, so the scheme is ours to read.
        let (scheme, rest) = settings.url.split_once("://").ok_or_else(|| wrong("not a URL"))?;
        let tls = scheme.eq_ignore_ascii_case("rediss");
        let scheme = if tls { "redis" } else { scheme };
        // What the client says of it might quote it.
        let info = format!("{scheme}://{rest}").into_connection_info();
        let info = info.map_err(|_| wrong("not a URL of a Redis"))?;
        let place = match info.addr().clone() {
            ConnectionAddr::Unix(path) => Place::Unix(path),
            ConnectionAddr::Tcp(host, port) if tls => {
                let name = ServerName::try_from(host.clone());
                let name = name.map_err(|_| wrong("no name for a certificate in it"))?;
                // Once: the client would read the platform's at each connection, and none at all where one of them
                // cannot be read. There is no way to go without: `#insecure` is not heard.
                let config = trust::client_config(Roots::Platform, settings.ca_file.as_deref())?;
                Place::Tcp { host, port, tls: Some((name, Arc::new(config))) }
            }
            ConnectionAddr::Tcp(host, port) => Place::Tcp { host, port, tls: None },
            ConnectionAddr::TcpTls { .. } | _ => return Err(wrong("a place that cannot be reached")),
        };
        // News are pushed, which only the third version of the protocol has. The client's name for itself is left out:
        // a user may not be allowed to set it.
        let login =
            info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
        Ok(Self { place, login })
    }

    /// User, password and database.
    pub(super) fn login(&self) -> &RedisConnectionInfo {
        &self.login
    }

    /// Opens a stream. It sets no limit to how long that takes.
    pub(super) async fn connect(&self) -> Result<Box<dyn Wire>, Reason> {
        let (host, port, tls) = match &self.place {
            Place::Tcp { host, port, tls } => (host, *port, tls),
            Place::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(|e| Reason::connecting(&e))?;
                return Ok(Box::new(stream));
            }
        };
        let addresses: Vec<_> = match lookup_host((host.as_str(), port)).await {
            Ok(addresses) => addresses.collect(),
            Err(_) => return Err(Reason::NoAddress),
        };
        let stream = TcpStream::connect(addresses.as_slice()).await.map_err(|e| Reason::connecting(&e))?;
        // Scripts are small and each is waited for.
        stream.set_nodelay(true).map_err(|e| Reason::connecting(&e))?;
        let Some((name, config)) = tls else { return Ok(Box::new(stream)) };
        let stream = TlsConnector::from(Arc::clone(config)).connect(name.clone(), stream).await;
        Ok(Box::new(stream.map_err(|e| Reason::connecting(&e))?))
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::other(format!("cache.shared.url: {what}"))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, tls: None } => write!(f, "{host} {port}"),
            Self::Tcp { host, port, tls: Some((name, _)) } => write!(f, "{host} {port} as {}", name.to_str()),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(url: &str) -> io::Result<Address> {
        Address::read(&Settings { url: url.into(), timeout: Duration::from_millis(50), ca_file: None })
    }

    #[test]
    fn a_url_says_where_and_as_whom() {
        // place, user, password, database
        let table = [
            ("redis://redis.test", "redis.test 6379", None, None, 0),
            ("redis://:secret@[::1]:7000/3", "::1 7000", None, Some("secret"), 3),
            ("redis://gate:s%2Fcr%40t@127.0.0.1", "127.0.0.1 6379", Some("gate"), Some("s/cr@t"), 0),
            (
                "rediss://gate:secret@redis.test:6380",
                "redis.test 6380 as redis.test",
                Some("gate"),
                Some("secret"),
                0,
            ),
            ("REDISS://127.0.0.1", "127.0.0.1 6379 as 127.0.0.1", None, None, 0),
            ("unix:///run/redis.sock", "/run/redis.sock", None, None, 0),
            (
                "redis+unix:///run/redis.sock?db=2&user=gate&pass=secret",
                "/run/redis.sock",
                Some("gate"),
                Some("secret"),
                2,
            ),
        ];
        for (url, place, user, password, database) in table {
            let address = read(url).expect(url);
            assert_eq!(address.place.to_string(), place, "{url}");
            assert_eq!(address.login.username(), user, "{url}");
            assert_eq!(address.login.password(), password, "{url}");
            assert_eq!(address.login.db(), database, "{url}");
            assert_eq!(address.login.protocol(), ProtocolVersion::RESP3, "{url}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_it() {
        for url in [
            "",
            "canary",
            "canary://host",
            "redis://",
            "redis://:canary@",
            "redis://host/canary",
            "redis://host?protocol=canary",
            "redis://:can/ary@host",
            "rediss://:secret@can_ary..host",
        ] {
            let said = read(url).err().expect(url).to_string();
            assert!(!said.contains("can") && said.starts_with("cache.shared.url: "), "{url}: {said}");
        }
    }
}

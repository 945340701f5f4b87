//! Sockets that a service manager has bound and hands over, by systemd's protocol (sd_listen_fds(3)): `LISTEN_FDS` and
//! `LISTEN_PID` say how many there are and for whom, `LISTEN_FDNAMES` for which endpoint.
//!
//! Knows the protocol and the names; what becomes of a socket is [`crate::downstream::listener`]'s. Promises: a socket
//! that was meant for another process is not touched; none is served on an endpoint that nobody meant it for, nor one
//! that no connection can be accepted on; an address beyond the loopback needs the operator's word here as well.

use std::{collections::BTreeMap, fmt, net::TcpListener};

use listenfd::ListenFd;
use rustix::net::sockopt;

use crate::{app::Sockets, downstream::listener::Handed};

const NO_STREAM: &str = "is no stream socket over TCP or Unix; ListenStream= of a socket unit makes one";
const NOT_LISTENING: &str = "does not listen: it is connected, or only bound; a socket unit needs Accept=no";

/// The endpoint that a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Internal,
    Admin,
    Metrics,
}

/// Why the sockets cannot be served.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// A number that is none.
    Number(String),
    /// A name that stands for no endpoint.
    Name(String),
    /// Not one name for each socket.
    Names { sockets: usize, names: usize },
    /// More sockets without a name than there are endpoints for them.
    TooMany,
    /// No listening stream socket; what it is instead.
    Kind(usize, String),
    /// One that listens beyond the loopback.
    Beyond(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(text) => write!(f, "LISTEN_FDS: {text:?} is not a number of sockets"),
            Self::Name(name) => {
                write!(f, "LISTEN_FDNAMES: {name:?} is no endpoint; expected internal, admin or metrics")
            }
            Self::Names { sockets, names } => {
                write!(f, "LISTEN_FDNAMES: {names} names for {sockets} sockets")
            }
            Self::TooMany => {
                f.write_str("LISTEN_FDS: sockets without a name are internal and admin; there are more")
            }
            Self::Kind(at, wrong) => write!(f, "LISTEN_FDS: socket {at} {wrong}"),
            Self::Beyond(address) => write!(
                f,
                "LISTEN_FDS: {address} is an address beyond the loopback; let it listen on 127.0.0.1 or a Unix \
                 socket, or set listen.allow_non_loopback = true"
            ),
        }
    }
}

/// Takes the sockets that are meant for this process. To be called once, before there is a second thread.
pub(super) fn take(env: &BTreeMap<String, String>, beyond_allowed: bool) -> Result<Sockets, Problem> {
    let places = places(env, std::process::id())?;
    let mut sockets = Sockets::default();
    if places.is_empty() {
        return Ok(sockets);
    }
    let mut handed = ListenFd::from_env();
    for (at, place) in places.into_iter().enumerate() {
        // One of the other kind stays where it is.
        let socket = match handed.take_unix_listener(at) {
            Ok(Some(socket)) => Handed::Unix(socket),
            Ok(None) | Err(_) => match handed.take_tcp_listener(at) {
                Ok(Some(socket)) => Handed::Tcp(socket),
                Ok(None) => return Err(Problem::Kind(at, "is not there".to_owned())),
                Err(_) => return Err(Problem::Kind(at, NO_STREAM.to_owned())),
            },
        };
        let listens = match &socket {
            Handed::Unix(socket) => sockopt::socket_acceptconn(socket),
            Handed::Tcp(socket) => sockopt::socket_acceptconn(socket),
        };
        if !listens.map_err(|error| Problem::Kind(at, error.to_string()))? {
            return Err(Problem::Kind(at, NOT_LISTENING.to_owned()));
        }
        let list = match place {
            Place::Internal => &mut sockets.internal,
            Place::Admin => &mut sockets.admin,
            Place::Metrics => &mut sockets.metrics,
        };
        // That one is read-only, and made for a network.
        if let Handed::Tcp(socket) = &socket
            && place != Place::Metrics
            && !beyond_allowed
        {
            on_loopback(socket, at)?;
        }
        list.push(socket);
    }
    Ok(sockets)
}

fn on_loopback(socket: &TcpListener, at: usize) -> Result<(), Problem> {
    let address = socket.local_addr().map_err(|error| Problem::Kind(at, error.to_string()))?;
    if address.ip().to_canonical().is_loopback() { Ok(()) } else { Err(Problem::Beyond(address.to_string())) }
}

/// Which endpoint each socket is for; empty where none is for the process of this number.
fn places(env: &BTreeMap<String, String>, process: u32) -> Result<Vec<Place>, Problem> {
    let ours = env.get("LISTEN_PID").is_some_and(|of| of.parse() == Ok(process));
    let Some(sockets) = env.get("LISTEN_FDS").filter(|_| ours) else { return Ok(Vec::new()) };
    // No endpoint has a use for more, and no service manager hands more over.
    let sockets: u8 = sockets.parse().map_err(|_| Problem::Number(sockets.clone()))?;
    let sockets = usize::from(sockets);
    let Some(names) = env.get("LISTEN_FDNAMES").filter(|names| !names.is_empty()) else {
        return unnamed(sockets).collect();
    };
    let names: Vec<&str> = names.split(':').collect();
    if names.len() != sockets {
        return Err(Problem::Names { sockets, names: names.len() });
    }
    let nameless = |name: &str| name.is_empty() || name == "unknown" || name.ends_with(".socket");
    let mut unnamed = unnamed(names.iter().filter(|name| nameless(name)).count());
    let place = |name: &str| match name {
        "internal" => Ok(Place::Internal),
        "admin" => Ok(Place::Admin),
        "metrics" => Ok(Place::Metrics),
        // As systemd calls those that its unit gives no name.
        name if nameless(name) => unnamed.next().unwrap_or(Err(Problem::TooMany)),
        name => Err(Problem::Name(name.to_owned())),
    };
    names.into_iter().map(place).collect()
}

/// Sockets without a name, in their order.
fn unnamed(sockets: usize) -> impl Iterator<Item = Result<Place, Problem>> {
    let places = [Ok(Place::Internal), Ok(Place::Admin), Err(Problem::TooMany)];
    places.into_iter().take(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(count: &str, names: Option<&str>, process: &str) -> BTreeMap<String, String> {
        let mut env = BTreeMap::from([
            ("LISTEN_FDS".to_owned(), count.to_owned()),
            ("LISTEN_PID".to_owned(), process.to_owned()),
        ]);
        env.extend(names.map(|names| ("LISTEN_FDNAMES".to_owned(), names.to_owned())));
        env
    }

    #[test]
    fn a_name_says_which_endpoint_a_socket_is_for_and_without_names_their_order_does() {
        use Place::{Admin, Internal, Metrics};
        let name = |name: &str| Err(Problem::Name(name.to_owned()));
        let table = [
            ("1", None, Ok(vec![Internal])),
            ("2", None, Ok(vec![Internal, Admin])),
            ("2", Some(""), Ok(vec![Internal, Admin])),
            ("3", None, Err(Problem::TooMany)),
            ("0", None, Ok(vec![])),
            ("2", Some("admin:internal"), Ok(vec![Admin, Internal])),
            ("3", Some("internal:metrics:internal"), Ok(vec![Internal, Metrics, Internal])),
            ("2", Some("callgate.socket:callgate.socket"), Ok(vec![Internal, Admin])),
            ("2", Some("unknown:metrics"), Ok(vec![Internal, Metrics])),
            ("3", Some("::"), Err(Problem::TooMany)),
            ("1", Some("Internal"), name("Internal")),
            ("1", Some("stored"), name("stored")),
            ("2", Some("internal"), Err(Problem::Names { sockets: 2, names: 1 })),
            ("-1", None, Err(Problem::Number("-1".to_owned()))),
            ("300", None, Err(Problem::Number("300".to_owned()))),
        ];
        for (count, names, expected) in table {
            assert_eq!(places(&env(count, names, "7"), 7), expected, "{count} {names:?}");
        }
    }

    #[test]
    fn sockets_for_another_process_are_not_taken() {
        for process in ["8", "", "x"] {
            assert_eq!(places(&env("1", None, process), 7), Ok(vec![]), "{process}");
        }
        let mut nobodys = env("1", None, "7");
        nobodys.remove("LISTEN_PID");
        assert_eq!(places(&nobodys, 7), Ok(vec![]));
    }
}

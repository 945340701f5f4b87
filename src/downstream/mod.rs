//! The callers' side: sockets, limits, guards and replies.

pub mod accept;
mod access;
pub mod body;
pub mod connection;
pub mod directives;
pub mod fields;
pub mod guard;
pub mod handler;
mod heads;
mod host;
pub mod line_limit;
mod list;
pub mod listener;
pub mod prefer;
pub mod problem;
pub mod reply;
mod room;
pub mod route;
pub mod sampler;
pub mod socket;
mod span;
pub mod stage;
mod watch;
mod watchdog;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindAddress {
    /// An IP address and port; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// The path of a Unix socket, written `unix:/path`.
    Unix(PathBuf),
}

/// Which `Host` names are served beside `localhost` and IP literals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedHosts {
    /// Every well-formed one (`["*"]`).
    Any,
    /// These, in lower case.
    Names(Vec<String>),
}

/// What the callers' side needs to know: the `listen.*` settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `listen.internal`
    pub internal: Vec<BindAddress>,
    /// `listen.admin`
    pub admin: Vec<BindAddress>,
    /// `listen.metrics`
    pub metrics: Option<SocketAddr>,
    /// `listen.unix_mode`, the permission bits of a socket file.
    pub unix_mode: u32,
    /// `listen.allow_non_loopback`: holds for sockets that were handed to this process as well.
    pub allow_non_loopback: bool,
    /// `listen.allowed_hosts`
    pub allowed_hosts: AllowedHosts,
    /// What each connection is held to.
    pub limits: Limits,
}

/// What an endpoint grants its callers: the limits among the `listen.*` settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `listen.max_connections`: open at once, at least 1. Beyond it the connection that has been unused longest makes
    /// room.
    pub max_connections: usize,
    /// `listen.max_requests`: on one connection, at least 1; the last answer says `connection: close`.
    pub max_requests: u64,
    /// `listen.header_timeout`: a head is complete this long after accept, or after its first byte; above 0.
    pub header_timeout: Duration,
    /// `listen.idle_timeout`: a kept-alive connection may be unused for this long; above 0.
    pub idle_timeout: Duration,
    /// `listen.write_timeout`: a reader may take no byte for this long; above 0.
    pub write_timeout: Duration,
    /// Once the gateway's end has begun, how long a connection is kept unused after its accept or its last answer.
    /// Well below the time that the end may take, or every end would cut somebody.
    pub grace: Duration,
    /// `listen.http2`: whether HTTP/2 by prior knowledge is spoken as well.
    pub http2: bool,
}

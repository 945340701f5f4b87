//! The callers' side: sockets, limits, guards and replies.

pub mod accept;
mod body;
pub mod connection;
pub mod directives;
pub mod guard;
pub mod handler;
mod host;
pub mod listener;
pub mod prefer;
pub mod problem;
pub mod reply;
pub mod route;
pub mod socket;
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
    /// `listen.allowed_hosts`
    pub allowed_hosts: AllowedHosts,
    /// `listen.max_connections`, at least 1.
    pub max_connections: usize,
    /// `listen.max_requests`, per connection, at least 1.
    pub max_requests: u64,
    /// `listen.header_timeout`, above 0.
    pub header_timeout: Duration,
    /// `listen.idle_timeout`, above 0.
    pub idle_timeout: Duration,
    /// `listen.write_timeout`, above 0.
    pub write_timeout: Duration,
    /// `listen.http2`
    pub http2: bool,
}

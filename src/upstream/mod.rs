//! The vendor's side: credentials, budget, connections, and what comes back.

use std::{path::PathBuf, time::Duration};

pub mod budget;
pub mod credentials;

/// Where the vendor is: scheme and authority, nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `http` or `https`
    pub scheme: http::uri::Scheme,
    /// Host and, where it is not the scheme's own, port.
    pub authority: http::uri::Authority,
}

/// The `upstream.*` settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `upstream.base_url`
    pub origin: Origin,
    /// `upstream.connect_timeout`, above 0.
    pub connect_timeout: Duration,
    /// `upstream.response_timeout`, above 0, shared by all tries.
    pub response_timeout: Duration,
    /// `upstream.idle_timeout`
    pub idle_timeout: Duration,
    /// `upstream.max_concurrency`, at least 1.
    pub max_concurrency: usize,
    /// `upstream.max_body`, in bytes, decoded.
    pub max_body: usize,
    /// `upstream.retries`
    pub retries: u32,
    /// `upstream.ca_file`
    pub ca_file: Option<PathBuf>,
}

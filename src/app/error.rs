//! Why the gateway could not start: what was wrong, by the part that it is about.

use std::fmt;

use crate::{store::SealError, upstream::credentials::OpenError};

/// Why the gateway could not start.
#[derive(Debug)]
pub enum BindError {
    /// A key could not be read.
    Credentials(OpenError),
    /// `cache.encryption_key_file` could not be used.
    Seal(SealError),
    /// `upstream.ca_file` could not be used.
    Vendor(std::io::Error),
    /// `cache.shared.url` or the trust roots for it could not be used.
    Replicas(std::io::Error),
    /// An address could not be listened on.
    Listen(std::io::Error),
    /// So few descriptors are left for callers that nothing could be served.
    Descriptors(u64),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credentials(error) => write!(f, "credentials: {error}"),
            Self::Seal(error) => write!(f, "cache.encryption_key_file: {error}"),
            Self::Vendor(error) => write!(f, "upstream: {error}"),
            Self::Replicas(error) => write!(f, "cache.shared: {error}"),
            Self::Listen(error) => write!(f, "listen: {error}"),
            Self::Descriptors(limit) => {
                write!(f, "the limit of {limit} open files is too low to serve anybody")
            }
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Credentials(error) => Some(error),
            Self::Seal(error) => Some(error),
            Self::Vendor(error) | Self::Replicas(error) | Self::Listen(error) => Some(error),
            Self::Descriptors(_) => None,
        }
    }
}

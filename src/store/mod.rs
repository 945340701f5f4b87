//! What is kept, and in which tiers.

use std::{path::PathBuf, time::Duration};

/// The `cache.*` settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `cache.capacity`, in bytes.
    pub capacity: u64,
    /// `cache.disk.*`
    pub disk: Option<DiskSettings>,
    /// `cache.shared.*`
    pub shared: Option<SharedSettings>,
    /// `cache.encryption_key_file`
    pub encryption_key_file: Option<PathBuf>,
}

/// `cache.disk.*`
#[derive(Clone, Debug)]
pub struct DiskSettings {
    /// The file.
    pub path: PathBuf,
    /// In bytes.
    pub capacity: u64,
}

/// `cache.shared.*`
#[derive(Clone)]
pub struct SharedSettings {
    /// `redis://`, `rediss://` or `unix://`; may hold a password, so this type has no `Debug`.
    pub url: String,
    /// After this the lookup goes on without it.
    pub timeout: Duration,
}

impl std::fmt::Debug for SharedSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedSettings").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

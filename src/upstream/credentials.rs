//! Holds the credentials: for each workspace its id, its key, and where the key came from.
//!
//! It knows nothing of requests or of the budget. It promises that a key is reached only as an [`ApiKey`], which
//! cannot be printed; that [`Credentials::key`] is cheap and never blocks on a file; and that an unreadable key file
//! leaves the last good key in place. How a changed key file is noticed stands in `rotation`, and who waits for that in
//! `looks`.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, RwLock, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use http::HeaderValue;
use tokio::sync::Semaphore;

use crate::call::WorkspaceIndex;

mod files;
mod groups;
mod key;
mod key_file;
mod looks;
mod rotation;

use files::{Files, Mounted};
use groups::Groups;
pub use groups::KeyGroup;
pub use key::{ApiKey, InvalidKey};
pub use key_file::{KeyFileError, MAX_FILE, RUN_SECRETS, read_key_file};
use looks::Looks;
pub use rotation::Reread;

/// The longest workspace id, in bytes.
pub const MAX_WORKSPACE_ID: usize = 256;

/// The most workspaces that one gateway serves.
pub const MAX_WORKSPACES: usize = 1000;

/// Where a key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// From the configuration or the environment; never read again. Shared, for a key is not copied.
    Inline(Arc<ApiKey>),
    /// A file, read at start, and again when it has changed or its key is rejected.
    File(PathBuf),
}

/// One of the `[[workspaces]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkspaceSettings {
    /// `name`: what metrics and logs call it.
    pub name: String,
    /// `workspace_id`: 1 to 256 bytes of visible ASCII.
    pub workspace_id: String,
    /// `api_key` or `api_key_file`
    pub source: KeySource,
    /// `requests_per_minute`, where the plan of this key differs from `budget.requests_per_minute`.
    pub requests_per_minute: Option<u32>,
}

/// The directories in which a key file may be readable by everybody: `/run/secrets`, and `$CREDENTIALS_DIRECTORY`
/// where systemd set it.
#[must_use]
pub fn trusted_dirs(env: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let systemd = env.get("CREDENTIALS_DIRECTORY").filter(|dir| dir.starts_with('/'));
    std::iter::once(PathBuf::from(RUN_SECRETS)).chain(systemd.map(PathBuf::from)).collect()
}

/// Whether `id` can be sent as `x-workspace-id`: 1 to 256 bytes of visible ASCII.
#[must_use]
pub fn is_workspace_id(id: &str) -> bool {
    (1..=MAX_WORKSPACE_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
}

/// The credentials of all workspaces, at run time.
#[derive(Debug)]
pub struct Credentials {
    slots: Vec<Slot>,
    files: Box<dyn Files>,
    /// Of the threads that look at files.
    places: Arc<Semaphore>,
    trusted_dirs: Vec<PathBuf>,
    groups: Groups,
    /// Keys that were replaced. Who sent a request with one holds it until the answer is there.
    retired: Mutex<Vec<Weak<ApiKey>>>,
    /// No key that there ever was stands in fewer bytes.
    searched_from: AtomicUsize,
}

#[derive(Debug)]
struct Slot {
    name: String,
    workspace_id: HeaderValue,
    source: KeySource,
    /// Written when the key changes only; readers clone it and let go.
    held: RwLock<Held>,
    /// What is known of the key file, where there is one.
    looks: Option<Looks>,
}

/// A key, and whose budget a request that is sent with it draws on.
#[derive(Clone, Debug)]
pub struct Held {
    /// The key.
    pub key: Arc<ApiKey>,
    /// See [`Credentials::budget_group`].
    pub group: usize,
}

impl Credentials {
    /// Reads every key. The first workspace is the default one. Blocks for as long as small local files take.
    ///
    /// # Errors
    /// [`OpenError`] for the first workspace that has no usable key or id. Settings that were checked have neither
    /// fault, but files change.
    pub fn open(workspaces: Vec<WorkspaceSettings>, trusted_dirs: Vec<PathBuf>) -> Result<Self, OpenError> {
        Self::open_in(Box::new(Mounted), workspaces, trusted_dirs)
    }

    fn open_in(
        files: Box<dyn Files>,
        workspaces: Vec<WorkspaceSettings>,
        trusted_dirs: Vec<PathBuf>,
    ) -> Result<Self, OpenError> {
        if !(1..=MAX_WORKSPACES).contains(&workspaces.len()) {
            return Err(OpenError::Count);
        }
        let mut slots: Vec<Slot> = Vec::with_capacity(workspaces.len());
        let (groups, mut searched_from) = (Groups::default(), usize::MAX);
        for WorkspaceSettings { name, workspace_id, source, requests_per_minute } in workspaces {
            let id =
                is_workspace_id(&workspace_id).then(|| HeaderValue::from_str(&workspace_id).ok()).flatten();
            let Some(workspace_id) = id else { return Err(OpenError::WorkspaceId { workspace: name }) };
            // Before it is read: a change in between is noticed then.
            let looks = match &source {
                KeySource::Inline(_) => None,
                KeySource::File(path) => Some(Looks::new(files.stamp(path))),
            };
            let key = match &source {
                KeySource::Inline(key) => Arc::clone(key),
                KeySource::File(path) => match files.read(path, &trusted_dirs) {
                    Ok(key) => Arc::new(key),
                    Err(error) => return Err(OpenError::Key { workspace: name, error }),
                },
            };
            searched_from = searched_from.min(key.searched_from());
            let group = groups.begin(&key, requests_per_minute);
            slots.push(Slot { name, workspace_id, source, held: RwLock::new(Held { key, group }), looks });
        }
        let places = Arc::new(Semaphore::new(looks::MOST_AT_ONCE));
        let (retired, searched_from) = (Mutex::default(), AtomicUsize::new(searched_from));
        Ok(Self { slots, files, places, trusted_dirs, groups, retired, searched_from })
    }

    /// The workspace that a request is for: the one whose id its `x-workspace-id` gives, the first one where it gives
    /// none, and `None` where no workspace has that id.
    #[must_use]
    pub fn select(&self, workspace_id: Option<&[u8]>) -> Option<WorkspaceIndex> {
        let place = match workspace_id {
            None => 0,
            Some(id) => self.slots.iter().position(|slot| slot.workspace_id.as_bytes() == id)?,
        };
        u16::try_from(place).ok().map(WorkspaceIndex)
    }

    /// Every workspace, the default one first.
    pub fn workspaces(&self) -> impl Iterator<Item = WorkspaceIndex> + use<> {
        // `open` lets no more in than fit.
        (0..u16::try_from(self.slots.len()).unwrap_or(u16::MAX)).map(WorkspaceIndex)
    }

    /// The key to send now.
    ///
    /// # Panics
    /// For an index of other credentials, like every method that takes one.
    #[must_use]
    pub fn key(&self, workspace: WorkspaceIndex) -> Arc<ApiKey> {
        self.held(workspace).key
    }

    /// The key to send now, and whose budget it draws on, as they belong together.
    #[must_use]
    pub fn held(&self, workspace: WorkspaceIndex) -> Held {
        self.slot(workspace).held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The keys of all workspaces, as they are now, and those replaced ones with which a request is still under way:
    /// whatever no answer may hold.
    #[must_use]
    pub fn keys(&self) -> Vec<Arc<ApiKey>> {
        let mut keys: Vec<_> = self.workspaces().map(|workspace| self.key(workspace)).collect();
        // After those in use: a key is written down here before it is replaced.
        let retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        keys.extend(retired.iter().filter_map(Weak::upgrade));
        keys
    }

    /// Whether one of these keys stands somewhere in what a caller sent: then it is neither logged, shown nor answered.
    /// Costs next to nothing where the bytes are fewer than those of any key, as an id's are.
    #[must_use]
    pub fn occur_in(&self, bytes: &[u8]) -> bool {
        if bytes.len() < self.searched_from.load(Relaxed) {
            return false;
        }
        let held =
            |slot: &Slot| slot.held.read().unwrap_or_else(PoisonError::into_inner).key.occurs_in(bytes);
        // After those in use, as in `keys`.
        self.slots.iter().any(held) || {
            let retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
            retired.iter().filter_map(Weak::upgrade).any(|key| key.occurs_in(bytes))
        }
    }

    /// A caller's field, unless one of these keys stands in it.
    #[must_use]
    pub fn free_of<'a>(&self, value: Option<&'a HeaderValue>) -> Option<&'a HeaderValue> {
        value.filter(|value| !self.occur_in(value.as_bytes()))
    }

    /// The value of `x-workspace-id`.
    #[must_use]
    pub fn workspace_id(&self, workspace: WorkspaceIndex) -> &HeaderValue {
        &self.slot(workspace).workspace_id
    }

    /// What metrics and logs call it.
    #[must_use]
    pub fn name(&self, workspace: WorkspaceIndex) -> &str {
        &self.slot(workspace).name
    }

    /// Which budget it draws on, counted from 0: that of its key, as the vendor counts. Workspaces with the same key share
    /// one; another key is another one's.
    #[must_use]
    pub fn budget_group(&self, workspace: WorkspaceIndex) -> usize {
        self.slot(workspace).held.read().unwrap_or_else(PoisonError::into_inner).group
    }

    /// The budgets of all keys that were held since the start, in their order, to which others are added at the end. There
    /// is at least one.
    #[must_use]
    pub fn groups(&self) -> Vec<KeyGroup> {
        self.groups.all()
    }

    /// The limit of one of those budgets, where one is stated: it changes with who holds the key.
    #[must_use]
    pub fn budget_limit(&self, group: usize) -> Option<u32> {
        self.groups.limit(group)
    }

    /// The names of the workspaces whose key file was not there any more when it was last looked at. The key that was
    /// read from it is still used.
    #[must_use]
    pub fn missing_key_files(&self) -> Vec<&str> {
        let missing = |slot: &&Slot| slot.looks.as_ref().is_some_and(Looks::is_missing);
        self.slots.iter().filter(missing).map(|slot| slot.name.as_str()).collect()
    }

    fn file(&self, workspace: WorkspaceIndex) -> Option<&Looks> {
        self.slot(workspace).looks.as_ref()
    }

    fn slot(&self, workspace: WorkspaceIndex) -> &Slot {
        &self.slots[usize::from(workspace.0)]
    }
}

/// Why credentials could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// No workspace at all, or more than [`MAX_WORKSPACES`].
    Count,
    /// An id that cannot be sent.
    WorkspaceId {
        /// The workspace's name.
        workspace: String,
    },
    /// A key file that gives no key.
    Key {
        /// The workspace's name.
        workspace: String,
        /// Why.
        error: KeyFileError,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count => write!(f, "there must be 1 to {MAX_WORKSPACES} workspaces"),
            Self::WorkspaceId { workspace } => {
                write!(
                    f,
                    "workspace {workspace:?}: its id is not 1 to {MAX_WORKSPACE_ID} bytes of visible ASCII"
                )
            }
            Self::Key { workspace, error } => write!(f, "workspace {workspace:?}: {error}"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Key { error, .. } => Some(error),
            Self::Count | Self::WorkspaceId { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests;

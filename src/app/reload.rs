//! Applies a reload: reads the configuration again, puts in force what can change, reads the key files again.
//!
//! What changes is decided by `settings`; here it is handed to the parts. It promises that nothing changes where anything
//! is wrong with what was read or it came too late, and that reloads come one after the other.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use tokio::{runtime::Handle, sync::Semaphore, time::timeout};

use crate::{
    admin::reload::{Configuration, Reloaded},
    call::WorkspaceIndex,
    downstream::sampler::Sampler,
    lookup::Lookup,
    settings::{Loaded, Problem, Settings},
    telemetry::Control,
    upstream::credentials::{Credentials, Reread},
};

/// How long the configuration may take to be read: a file server that does not answer has no end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the configuration came from, and the log, which is set up before it.
pub struct Sources {
    /// Reads the configuration that was read at the start: the same files, the environment of then. May block.
    pub load: Box<dyn Fn() -> Result<Loaded, Vec<Problem>> + Send + Sync>,
    /// Changes the log, where there is one.
    pub log: Option<Control>,
}

/// What becomes of one reload: whoever asks first decides, the one who has read what is to be put in force, or the one
/// whose patience has ended.
#[derive(Default)]
struct Decision(AtomicBool);

impl Decision {
    /// Whether it is for who asks to decide. Once only.
    fn is_mine(&self) -> bool {
        !self.0.swap(true, Relaxed)
    }
}

/// Reloads one gateway.
pub struct Reloader {
    in_force: ArcSwap<Settings>,
    sources: OnceLock<Sources>,
    /// One at a time. Who waits for it takes no thread, though another may hang in a read.
    turn: Arc<Semaphore>,
    lookup: Arc<Lookup>,
    credentials: Arc<Credentials>,
    hits: Arc<Sampler>,
}

impl Reloader {
    pub(super) fn new(
        settings: Settings,
        lookup: Arc<Lookup>,
        credentials: Arc<Credentials>,
        hits: Arc<Sampler>,
    ) -> Self {
        let (in_force, turn) = (ArcSwap::from_pointee(settings), Arc::new(Semaphore::new(1)));
        Self { in_force, sources: OnceLock::new(), turn, lookup, credentials, hits }
    }

    /// Says where the configuration came from; once. Without that only key files are read again.
    pub fn reads_from(&self, sources: Sources) {
        let _ = self.sources.set(sources);
    }

    /// Reads everything again, and puts in force what can change; what comes of it is logged. It goes on where it is
    /// dropped.
    ///
    /// # Errors
    /// Everything that is wrong, a line each; then nothing has changed. What is not read within ten seconds is given up
    /// on, and changes nothing should it be read after all.
    pub async fn reload(self: Arc<Self>) -> Result<Reloaded, Vec<String>> {
        let decision = Arc::new(Decision::default());
        let theirs = Arc::clone(&decision);
        let mut reload = pin!(async {
            let turn = Arc::clone(&self.turn).acquire_owned().await.ok()?;
            let reload = move || {
                let reloaded = self.reload_now(&theirs);
                drop(turn);
                reloaded
            };
            tokio::task::spawn_blocking(reload).await.ok()
        });
        let ended = match timeout(PATIENCE, &mut reload).await {
            Ok(ended) => ended,
            Err(_) if decision.is_mine() => {
                return Err(refused(vec!["the configuration cannot be read to its end in time".to_owned()]));
            }
            // It was read, and is being put in force.
            Err(_) => reload.await,
        };
        ended.unwrap_or_else(|| Err(refused(vec!["the reload ended unexpectedly".to_owned()])))
    }

    fn reload_now(&self, decision: &Decision) -> Result<Reloaded, Vec<String>> {
        let read = self.sources.get().map(|sources| (sources, (sources.load)()));
        if !decision.is_mine() {
            // Its caller was told so at the time, and this is returned to nobody.
            tracing::warn!("the configuration was read to its end too late: nothing is changed");
            return Err(Vec::new());
        }
        let mut reloaded = match read {
            Some((sources, loaded)) => {
                let lines = |problems: Vec<Problem>| problems.iter().map(ToString::to_string).collect();
                self.apply(sources, loaded.map_err(lines).map_err(refused)?).map_err(refused)?
            }
            None => Reloaded::default(),
        };
        reloaded.changed.extend(self.keys());
        for path in &reloaded.unchanged_until_restart {
            tracing::warn!(setting = path, "this setting keeps its value until the gateway is started again");
        }
        tracing::info!(changed = reloaded.changed.join(" "), "reloaded");
        Ok(reloaded)
    }

    fn apply(&self, sources: &Sources, loaded: Loaded) -> Result<Reloaded, Vec<String>> {
        let old = self.in_force.load_full();
        let reload = old.reloaded(loaded.settings);
        let new = reload.settings;
        // First, for it is the only one that can fail.
        if let Some(log) = sources.log.as_ref().filter(|_| new.log != old.log) {
            log.apply(&new.log).map_err(|error| vec![error.to_string()])?;
        }
        self.hits.change(new.log.hits);
        if new.lookup != old.lookup {
            self.lookup.change_policy(new.lookup.clone());
        }
        if new.budget != old.budget {
            self.lookup.upstream().change_budget(&new.budget);
        }
        self.in_force.store(Arc::new(new));
        for notice in loaded.notices {
            tracing::info!("{notice}");
        }
        Ok(Reloaded { changed: reload.changed, unchanged_until_restart: reload.until_restart })
    }

    /// Reads the key files again; the paths of the settings that name those with another key.
    fn keys(&self) -> Vec<String> {
        // On a thread that may block.
        let reread = Handle::current().block_on(self.credentials.read_all_again());
        let changed = |(workspace, reread): (WorkspaceIndex, Reread)| match reread {
            // That one is late was said.
            Reread::Unchanged | Reread::Late => None,
            Reread::Changed => Some(format!("workspaces[{}].api_key_file", workspace.0)),
            Reread::Unreadable(error) => {
                let name = self.credentials.name(workspace);
                tracing::warn!(workspace = name, %error, "the key file gives no key: the last one is used on");
                None
            }
        };
        reread.into_iter().filter_map(changed).collect()
    }
}

/// Says in the log why nothing was reloaded.
fn refused(problems: Vec<String>) -> Vec<String> {
    for problem in &problems {
        tracing::error!(problem, "not reloaded: the configuration is as it was");
    }
    problems
}

impl Configuration for Reloader {
    fn shown(&self) -> String {
        self.in_force.load().effective.to_string()
    }

    fn reload(self: Arc<Self>) -> BoxFuture<'static, Result<Reloaded, Vec<String>>> {
        Box::pin(Self::reload(self))
    }
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}

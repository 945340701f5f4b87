//! How far the end of an endpoint has come: what the accept loop and every connection watch.

use tokio::sync::watch;

/// How far the end has come. A sender that is gone counts as [`Stage::Cut`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Accepting.
    Open,
    /// The sockets are closed; what is under way is finished, the rest ends now.
    Draining,
    /// Whatever is still open is cut.
    Cut,
}

/// Waits until the end has come as far as `at`.
pub(super) async fn reached(mut stage: watch::Receiver<Stage>, at: Stage) {
    // An error says that the sender is gone, which counts as the last stage.
    let _ = stage.wait_for(|stage| *stage >= at).await;
}

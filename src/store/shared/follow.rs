//! Follows what other replicas erase, and lets Redis know what it lost or could not be told.
//!
//! One task. It reads the [`tombstones`](super::tombstones) when it is told that there are new ones, when Redis is back,
//! and from time to time, for what is said on a channel can be missed.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    time::{sleep, timeout},
};

use super::{
    ERASED, Shared, scripts,
    tombstones::{PAGE, PATIENCE, Told},
};
use crate::{
    replicas::{Gone, State},
    store::Erasure,
};

/// How often a replica looks by itself.
const LOOK: Duration = Duration::from_secs(10);

/// How long Redis is left alone that did not do what was asked of it in the background.
const PAUSE: Duration = Duration::from_secs(1);

impl Shared {
    /// Lets Redis know what it lost, and what could not be said while it was gone. Nobody waits for it, so what fails is
    /// left to the next time.
    async fn catch_up(&self) -> Result<(), Gone> {
        if !self.stones.lock().restored {
            self.put_back().await?;
            self.stones.lock().restored = true;
        }
        loop {
            let next = self.stones.lock().unsaid.iter().next().map(|(erasure, at)| (erasure.clone(), *at));
            let Some((erasure, at)) = next else { return Ok(()) };
            self.erase_now(&erasure, Duration::ZERO).await?;
            // Not before: it forbids until the others know. One that was said again meanwhile stays.
            self.stones.lock().unsaid.retain(|unsaid, since| *unsaid != erasure || *since != at);
            tracing::info!("an erasure that was made while redis was gone has reached it");
        }
    }

    /// Puts back what a Redis that came back without it, or with an older state, should know, and forgets what that state
    /// had brought back.
    async fn put_back(&self) -> Result<(), Gone> {
        let stones: Vec<_> = self.stones.lock().stones.clone().into_iter().collect();
        let kept_for = super::lease::ms(self.stones.kept_for());
        let keys = [self.name("tombstones", b""), self.name("channel", ERASED.as_bytes())];
        for page in stones.chunks(PAGE) {
            let times: Vec<_> = page.iter().map(|(_, stone)| stone.at.to_string()).collect();
            let pairs = page.iter().zip(&times).flat_map(|((member, _), at)| [&member[..], at.as_bytes()]);
            let arguments: Vec<&[u8]> = std::iter::once(&kept_for[..]).chain(pairs).collect();
            for lost in self.again(PATIENCE, &scripts::RECALL, &keys, &arguments).await? {
                let Some(told) = self.read_stone(&lost, 0) else { continue };
                let (Erasure::Call(one, _) | Erasure::All(one)) = &told.erasure;
                // A tombstone is always of one workspace.
                for (place, workspace) in self.namespace.selected(*one) {
                    if let Erasure::Call(_, id) = &told.erasure {
                        let id = id.as_str().as_bytes();
                        self.again(PATIENCE, &scripts::ERASE, &self.of_call(workspace, id), &[id]).await?;
                    } else {
                        self.erase_all((place, workspace), &mut HashSet::new(), PATIENCE).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Follows what is erased elsewhere, for as long as somebody wants to be told, and keeps Redis tidy.
    pub(in crate::store) fn follow(self: &Arc<Self>) -> mpsc::Receiver<Vec<Told>> {
        let (tell, told) = mpsc::channel(1);
        let over = tell.clone();
        tokio::spawn(Arc::clone(self).keep_tidy(async move { over.closed().await }));
        tokio::spawn(Arc::clone(self).follow_on(tell));
        told
    }

    async fn follow_on(self: Arc<Self>, tell: mpsc::Sender<Vec<Told>>) {
        let (mut news, mut state) = (self.link.news(), self.link.state());
        while !tell.is_closed() {
            let line = match *state.borrow_and_update() {
                State::Together { line, .. } => Some(line),
                State::Alone(_) => None,
            };
            self.stones.lock().reached_by(line);
            let mut hindered = false;
            if line.is_some() {
                // What cannot be said does not make deaf.
                let (said, told) = (self.catch_up().await, self.told().await);
                hindered = said.is_err() || told.is_err();
                let told = told.unwrap_or_default();
                if !told.is_empty() && tell.send(told).await.is_err() {
                    return;
                }
            }
            let erased = async {
                loop {
                    match news.recv().await {
                        Ok(said) if said.channel == ERASED => return,
                        Ok(_) => {}
                        Err(RecvError::Lagged(_)) => return,
                        Err(RecvError::Closed) => std::future::pending().await,
                    }
                }
            };
            tokio::select! {
                // What failed may have told everybody, this replica too, that it was done.
                () = sleep(PAUSE), if hindered => {}
                _ = timeout(LOOK, erased), if !hindered => {}
                changed = state.changed() => if changed.is_err() { return },
                () = tell.closed() => return,
            }
        }
    }
}

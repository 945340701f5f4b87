//! Accepts connections within the limits, and ends them in order.
//!
//! One task accepts for all the sockets of an endpoint; every connection is a task of its own. It does not know HTTP
//! ([`super::connection`]) nor why the end has come: it watches a [`Stage`]. Promises: no more than `max_connections`
//! are served; who comes when all are taken waits until unused ones have made room (`super::room`), one accepted and the
//! others in the kernel's backlog; no error of `accept` ends the loop, and none makes it spin; when [`serve`] is done, so
//! is every connection.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use rustix::io::Errno;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep},
};

use super::{
    Limits,
    connection::{self, Handler, Protocol},
    listener::Listener,
    room::Room,
    socket::{Peer, Socket},
    stage::{Stage, reached},
    watch::Activity,
};

/// How long nothing is accepted after descriptors or memory ran out.
const BACK_OFF: Duration = Duration::from_millis(100);

/// At most one log line in this time says that accepting fails.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Serves an endpoint until `stage` says otherwise, and returns when the last connection has ended.
///
/// `open` counts the connections that are open, for a metric; endpoints may share one. The sockets are closed, and
/// Unix socket files removed, as soon as draining begins.
pub async fn serve<H: Handler>(
    listeners: Vec<Listener>,
    handler: H,
    limits: Limits,
    open: Arc<AtomicUsize>,
    stage: watch::Receiver<Stage>,
) {
    let most = u32::try_from(limits.max_connections).unwrap_or(u32::MAX);
    let slots = Arc::new(Semaphore::new(most as usize));
    let mut room = Room::new(Arc::clone(&slots));
    let protocol = Arc::new(Protocol::new(limits));
    let start = |(socket, peer): (Socket, Peer), slot, activity: Arc<Activity>| {
        let open = Open::count(&open, slot);
        let (protocol, handler, stage) = (Arc::clone(&protocol), handler.clone(), stage.clone());
        tokio::spawn(async move {
            let end = connection::serve(socket, peer, activity, handler, &protocol, stage).await;
            tracing::debug!(%peer, end = end.as_str(), "connection ended");
            drop(open);
        });
    };
    let mut waiting = None;
    let mut draining = pin!(reached(stage.clone(), Stage::Draining));
    let mut failures = Failures::default();
    let mut turn = 0;
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut draining => break,
            accepted = poll_fn(|cx| poll_accept(&listeners, &mut turn, cx)) => accepted,
        };
        match accepted {
            Ok(accepted) => {
                // Only when one more has come does anybody have to leave for it.
                let slot = tokio::select! {
                    biased;
                    () = &mut draining => {
                        waiting = Some(accepted);
                        break;
                    }
                    slot = room.make() => slot,
                };
                // There are always slots to come: nobody closes them.
                let Some(slot) = slot else { break };
                let activity = Arc::new(Activity::new());
                room.add(&activity);
                start(accepted, slot, activity);
            }
            Err(error) => match Failure::of(&error) {
                Failure::Caller => tracing::debug!(%error, "connection aborted before accept"),
                Failure::Resources => {
                    failures.warn(&error);
                    tokio::select! {
                        () = &mut draining => break,
                        () = sleep(BACK_OFF) => {}
                    }
                }
            },
        }
    }
    drop(listeners);
    if let Some(waiting) = waiting {
        // Not in the backlog any more, where whoever serves the socket next would find it.
        let slot = tokio::select! {
            biased;
            () = reached(stage.clone(), Stage::Cut) => None,
            slot = Arc::clone(&slots).acquire_owned() => slot.ok(),
        };
        if let Some(slot) = slot {
            start(waiting, slot, Arc::new(Activity::new()));
        }
    }
    // All slots are free again when all connections have ended.
    let _ = slots.acquire_many(most).await;
}

/// The next connection on any of the sockets; `turn` moves on, so that none of them starves the others.
fn poll_accept(
    listeners: &[Listener],
    turn: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<(Socket, Peer)>> {
    let (later, first) = listeners.split_at(*turn);
    for (step, listener) in first.iter().chain(later).enumerate() {
        if let Poll::Ready(accepted) = listener.poll_accept(cx) {
            *turn = (*turn + step + 1) % listeners.len();
            return Poll::Ready(accepted);
        }
    }
    Poll::Pending
}

/// Whose fault it is that `accept` failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// That one connection's: the next may be fine.
    Caller,
    /// Descriptors or memory ran out, or something unheard of: trying again at once would spin.
    Resources,
}

impl Failure {
    fn of(error: &io::Error) -> Self {
        // accept(2): errors that were already pending on the new connection are handed over here.
        const PENDING: [Errno; 12] = [
            Errno::CONNABORTED,
            Errno::CONNRESET,
            Errno::INTR,
            Errno::AGAIN,
            Errno::PERM,
            Errno::PROTO,
            Errno::NOPROTOOPT,
            Errno::NETDOWN,
            Errno::NETUNREACH,
            Errno::HOSTDOWN,
            Errno::HOSTUNREACH,
            Errno::TIMEDOUT,
        ];
        match Errno::from_io_error(error) {
            Some(errno) if PENDING.contains(&errno) => Self::Caller,
            Some(_) | None => Self::Resources,
        }
    }
}

/// Keeps the log short while accepting fails.
#[derive(Default)]
struct Failures {
    warned: Option<Instant>,
    unsaid: u64,
}

impl Failures {
    fn warn(&mut self, error: &io::Error) {
        let now = Instant::now();
        if self.warned.is_some_and(|at| now - at < WARN_EVERY) {
            self.unsaid += 1;
            return;
        }
        tracing::warn!(%error, unsaid = self.unsaid, "cannot accept connections");
        *self = Self { warned: Some(now), unsaid: 0 };
    }
}

/// One open connection: counted, and its slot taken, until dropped.
struct Open {
    count: Arc<AtomicUsize>,
    _slot: OwnedSemaphorePermit,
}

impl Open {
    fn count(count: &Arc<AtomicUsize>, slot: OwnedSemaphorePermit) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self { count: Arc::clone(count), _slot: slot }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_caller_s_own_failure_is_tried_again_at_once() {
        let table = [
            (Errno::CONNABORTED, Failure::Caller),
            (Errno::CONNRESET, Failure::Caller),
            (Errno::INTR, Failure::Caller),
            (Errno::PERM, Failure::Caller),
            (Errno::MFILE, Failure::Resources),
            (Errno::NFILE, Failure::Resources),
            (Errno::NOBUFS, Failure::Resources),
            (Errno::NOMEM, Failure::Resources),
            (Errno::INVAL, Failure::Resources),
        ];
        for (errno, expected) in table {
            assert_eq!(Failure::of(&errno.into()), expected, "{errno:?}");
        }
        assert_eq!(Failure::of(&io::Error::other("unheard of")), Failure::Resources);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_said_once_in_a_while() {
        let mut failures = Failures::default();
        for _ in 0..100 {
            failures.warn(&Errno::MFILE.into());
        }
        assert_eq!(failures.unsaid, 99);
        tokio::time::advance(WARN_EVERY).await;
        failures.warn(&Errno::MFILE.into());
        assert_eq!(failures.unsaid, 0);
    }
}

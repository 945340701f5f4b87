//! The timers of one connection, in one.
//!
//! Setting a timer anew for each request is work on the path of every hit. This one is set once and looks, when it
//! fires, at when it should have fired: after a hit the true deadline has only moved away. It is set anew at once only when
//! the deadline comes nearer, which is when a head arrives in parts or a reader stalls. Promises: at most one look at
//! the clock per served request; no deadline while a handler is at work.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    task::coop::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    Limits,
    watch::{Activity, Phase},
};

/// How long a connection that we have ended may take to be closed by the caller as well; while the rest of a request is
/// thrown away, a microsecond more for each byte. So a body has the time that it takes at a megabyte a second, and who
/// sends a byte now and then gains nothing.
const LINGER: Duration = Duration::from_secs(1);

/// What the watchdog found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The connection has been unused for too long: end it in order.
    Unused,
    /// No complete head in time.
    HeaderTimeout,
    /// The caller takes nothing.
    WriteTimeout,
    /// The caller does not close its side either.
    Lingering,
}

/// Tells when a connection has overstayed. Belongs to one task: the timer wakes the task that asked first.
pub(super) struct Watchdog {
    activity: Arc<Activity>,
    limits: Limits,
    /// The connection is to end as soon as it is unused.
    retired: bool,
    /// The gateway's end has begun.
    leaving: bool,
    /// What was going on at the last look, and since when.
    phase: Phase,
    since: Instant,
    requests: u64,
    writes: u64,
    /// When the timer fires. Never later than the true deadline.
    armed: Instant,
    started: bool,
    sleep: Pin<Box<Sleep>>,
}

impl Watchdog {
    /// For a connection that was accepted just now.
    pub(super) fn new(activity: Arc<Activity>, limits: Limits) -> Self {
        let now = Instant::now();
        let armed = now + limits.header_timeout;
        Self {
            activity,
            limits,
            retired: false,
            leaving: false,
            phase: Phase::Head,
            since: now,
            requests: 0,
            writes: 0,
            armed,
            started: false,
            sleep: Box::pin(sleep_until(armed)),
        }
    }

    /// From now on the connection may not be unused for longer than it takes to say goodbye. True the first time.
    pub(super) fn retire(&mut self) -> bool {
        let first = !std::mem::replace(&mut self.retired, true);
        if first && matches!(self.phase, Phase::Idle | Phase::Head) {
            self.since = Instant::now();
        }
        first
    }

    /// From now on the connection may be unused for a moment only.
    pub(super) fn leave(&mut self) {
        self.leaving = true;
    }

    /// Looks at the connection; to be called whenever its task has run, by that task.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Finding> {
        self.observe();
        let deadline = self.deadline();
        if self.started && !self.sleep.is_elapsed() && deadline.is_none_or(|(at, _)| at >= self.armed) {
            return Poll::Pending;
        }
        self.started = true;
        loop {
            if let Some((at, finding)) = deadline {
                if at <= Instant::now() {
                    return Poll::Ready(finding);
                }
                self.arm(at);
            } else {
                // Nothing to wait for: look again at a time that is not too late for whatever comes next.
                self.arm(Instant::now() + self.limits.header_timeout.max(self.limits.idle_timeout));
            }
            // Ready only if its time came while it was being set. Without the budget of the task: a timer that did
            // not get to ask would never wake it.
            if pin!(unconstrained(self.sleep.as_mut())).poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn arm(&mut self, at: Instant) {
        if at != self.armed || self.sleep.is_elapsed() {
            self.armed = at;
            self.sleep.as_mut().reset(at);
        }
    }

    /// Notes what has changed since the last look. What changed did so in this run of the task, which is now.
    pub(super) fn observe(&mut self) {
        let (phase, requests, writes) =
            (self.activity.phase(), self.activity.requests(), self.activity.writes());
        let moved = phase == Phase::Sending && writes != self.writes;
        if phase != self.phase || requests != self.requests || moved {
            self.phase = phase;
            self.requests = requests;
            // A handler at work has no deadline, so nobody will ask since when.
            if phase != Phase::Working {
                self.since = Instant::now();
                self.activity.note(self.since);
            }
        }
        self.writes = writes;
    }

    /// When the connection has overstayed, if nothing happens until then.
    fn deadline(&self) -> Option<(Instant, Finding)> {
        // A caller that sends just as an idle connection is closed loses its request (RFC 9112 §9.5); one that is
        // busy sends again before this is over, is answered and is told to close. Who has been silent for longer is
        // as likely to send later as now.
        let grace = self.limits.grace.min(self.limits.idle_timeout);
        let (timeout, finding) = match self.phase {
            Phase::Head if self.retired && self.activity.is_untouched() => (LINGER, Finding::Lingering),
            Phase::Head if self.leaving && self.activity.is_untouched() => (grace, Finding::Unused),
            Phase::Head => (self.limits.header_timeout, Finding::HeaderTimeout),
            Phase::Working => return None,
            Phase::Sending => (self.limits.write_timeout, Finding::WriteTimeout),
            Phase::Idle if self.retired => (LINGER, Finding::Lingering),
            Phase::Idle if self.leaving => (grace, Finding::Unused),
            Phase::Idle => (self.limits.idle_timeout, Finding::Unused),
            Phase::Closing => (LINGER + Duration::from_micros(self.activity.discarded()), Finding::Lingering),
        };
        Some((self.since + timeout, finding))
    }
}

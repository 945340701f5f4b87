//! Tells a service manager how it goes, by systemd's protocol (sd_notify(3)): datagrams of a few words to the socket in
//! `NOTIFY_SOCKET`. Without one nothing is said.
//!
//! Knows the words and the times, and nothing of what they are about. Promises: a beat is sent only while the runtime
//! takes up new work and its timers fire; a service manager that does not listen holds nothing up for long.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};

use crate::drain::{self, Signals};

/// How long a service manager may leave its socket full before a word to it is lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the end may take beyond the drain: closing files and connections.
const CLOSING: Duration = Duration::from_secs(10);

/// The service manager, if there is one.
#[derive(Debug)]
pub(super) struct Notify {
    socket: Option<UnixDatagram>,
    /// Without a beat for this long it takes this process for dead.
    watchdog: Option<Duration>,
}

impl Notify {
    /// The one that the environment names. One that cannot be reached is none, with a word on the log.
    pub(super) fn open(env: &BTreeMap<String, String>) -> Self {
        let named = env.get("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let socket = named.and_then(|name| {
            connect(name)
                .inspect_err(|error| tracing::warn!(%error, "the service manager cannot be told anything"))
                .ok()
        });
        let watchdog = watchdog(env, std::process::id()).filter(|_| socket.is_some());
        Self { socket, watchdog }
    }

    /// Callers are answered from now on, or again; `status` is one line.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// Beats for as long as this is polled. It is to be polled by the task that serves; each beat has also been
    /// through a worker, so that it takes both to live.
    pub(super) async fn beat(&self) -> Infallible {
        let Some(watchdog) = self.watchdog else { return std::future::pending().await };
        // Half of it is the custom; a machine under load may well be late by that.
        let mut beats = interval(watchdog / 3);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            if tokio::spawn(async {}).await.is_ok() {
                self.tell("WATCHDOG=1");
            }
        }
    }

    fn tell(&self, words: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(words.as_bytes()) {
            tracing::warn!(%error, "the service manager could not be told");
        }
    }
}

fn connect(name: &str) -> io::Result<UnixDatagram> {
    // `@` stands for the zero byte of a name that is no file.
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// How long the process of this number may be without a beat.
fn watchdog(env: &BTreeMap<String, String>, process: u32) -> Option<Duration> {
    let ours = env.get("WATCHDOG_PID").is_none_or(|of| of.parse() == Ok(process));
    let micros = env.get("WATCHDOG_USEC").filter(|_| ours)?.parse().ok()?;
    // Below a millisecond no timer beats in time.
    Some(Duration::from_micros(micros)).filter(|length| *length >= Duration::from_millis(3))
}

/// Signals that the service manager is told of.
#[derive(Debug)]
pub(super) struct Announced<'a, S> {
    signals: S,
    notify: &'a Notify,
    /// How long the end may take from the first one.
    longest: Duration,
    seen: bool,
}

impl<'a, S> Announced<'a, S> {
    /// Tells `notify` of `signals`, and for how long the end may keep it waiting.
    pub(super) fn new(signals: S, notify: &'a Notify, drain: &drain::Settings) -> Self {
        let longest = drain.delay.saturating_add(drain.timeout).saturating_add(CLOSING);
        Self { signals, notify, longest, seen: false }
    }

    fn announce(&mut self) {
        if std::mem::replace(&mut self.seen, true) {
            self.notify.tell("STATUS=draining, in a hurry");
        } else {
            let micros = self.longest.as_micros();
            self.notify.tell(&format!(
                "STOPPING=1\nSTATUS=draining: what is under way is finished\nEXTEND_TIMEOUT_USEC={micros}"
            ));
        }
    }
}

impl<S: Signals + Send> Signals for Announced<'_, S> {
    async fn next(&mut self) {
        self.signals.next().await;
        self.announce();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_watchdog_is_obeyed_by_the_process_that_it_is_for() {
        let second = Some(Duration::from_secs(1));
        let table = [
            (&[("WATCHDOG_USEC", "1000000")][..], second),
            (&[("WATCHDOG_USEC", "1000000"), ("WATCHDOG_PID", "7")], second),
            (&[("WATCHDOG_USEC", "1000000"), ("WATCHDOG_PID", "8")], None),
            (&[("WATCHDOG_USEC", "0")], None),
            (&[("WATCHDOG_USEC", "soon")], None),
            (&[("WATCHDOG_PID", "7")], None),
        ];
        for (pairs, expected) in table {
            assert_eq!(watchdog(&env(pairs), 7), expected, "{pairs:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_beats_three_times_as_often_as_it_must() {
        let (ours, theirs) = UnixDatagram::pair().expect("a pair");
        theirs.set_nonblocking(true).expect("set");
        let notify = Notify { socket: Some(ours), watchdog: Some(Duration::from_secs(30)) };
        let beaten = tokio::time::timeout(Duration::from_secs(25), notify.beat()).await;
        assert!(beaten.is_err(), "it never ends by itself");
        let mut heard = Vec::new();
        let mut buffer = [0; 64];
        while let Ok(read) = theirs.recv(&mut buffer) {
            heard.push(String::from_utf8_lossy(&buffer[..read]).into_owned());
        }
        assert_eq!(heard, ["WATCHDOG=1"; 3], "at once, after 10 s and after 20 s");
    }

    #[test]
    fn without_a_service_manager_nothing_is_said_and_nothing_fails() {
        for name in ["", "/nowhere/at/all", "vsock:2:1"] {
            let notify = Notify::open(&env(&[("NOTIFY_SOCKET", name), ("WATCHDOG_USEC", "1000000")]));
            assert!(notify.socket.is_none() && notify.watchdog.is_none(), "{name}");
            notify.ready("answering");
        }
    }
}

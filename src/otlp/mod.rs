//! Hands spans to a collector of OpenTelemetry: OTLP over HTTP, as protobuf.
//!
//! It knows spans and the collector, and nothing of what they are about. [`settings`] reads the environment, `message`
//! has the format, `export` the task that sends.
//!
//! Promised: handing a span over never waits. What finds no room, or no collector, is lost, which is told once a minute
//! at the most and hurts nothing else. Without an endpoint none of this runs.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::{Instant, timeout},
};

mod export;
mod message;
pub mod settings;

pub use settings::Settings;

use crate::clock::Clock;

/// Requests whose spans may wait to be sent: some megabytes.
const QUEUE: usize = 2_048;

/// How long the end waits for the last spans.
const PATIENCE: Duration = Duration::from_secs(2);

/// One span.
#[derive(Clone, Debug)]
pub struct Span {
    /// The trace that it belongs to.
    pub trace: u128,
    /// Its own id.
    pub id: u64,
    /// That of the span that it lies within.
    pub parent: u64,
    /// A name of few: a method and a route, never an id.
    pub name: String,
    /// Which side of a request it is.
    pub kind: Kind,
    /// When it began.
    pub start: Instant,
    /// When it ended.
    pub end: Instant,
    /// Whether what it stands for failed.
    pub failed: bool,
    /// What else is known, by OpenTelemetry's semantic conventions where they have a name.
    pub attributes: Vec<(&'static str, Value)>,
}

/// Which side of a request a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Neither.
    Internal,
    /// It was asked.
    Server,
    /// It asked.
    Client,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text that was made for it.
    Text(String),
    /// A word of ours.
    Word(&'static str),
    /// A number.
    Number(i64),
}

/// Where spans are handed over. A clone hands them to the same collector.
#[derive(Clone)]
pub struct Spans {
    queue: mpsc::Sender<Vec<Span>>,
    lost: Arc<AtomicU64>,
}

/// The task that sends them.
#[derive(Debug)]
pub struct Exporter {
    closing: Arc<Notify>,
    task: JoinHandle<()>,
}

/// Begins to export.
///
/// # Errors
/// Where TLS cannot be set up.
pub fn open(settings: Settings, clock: Arc<Clock>) -> std::io::Result<(Spans, Exporter)> {
    let (queue, waiting) = mpsc::channel(QUEUE);
    let (lost, closing) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let export = export::Export::new(settings, clock, Arc::clone(&lost))?;
    let task = tokio::spawn(export.run(waiting, Arc::clone(&closing)));
    Ok((Spans { queue, lost }, Exporter { closing, task }))
}

impl Spans {
    /// Hands the spans of one request over, the one that the others lie within first.
    pub fn hand_over(&self, of_one: Vec<Span>) {
        if self.queue.try_send(of_one).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

impl Exporter {
    /// Sends what waits, and ends.
    pub async fn close(mut self) {
        self.closing.notify_one();
        if timeout(PATIENCE, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spans").finish_non_exhaustive()
    }
}

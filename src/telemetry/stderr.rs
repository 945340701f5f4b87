//! Log lines on their way to standard error, which may be slow, stuck or closed.
//!
//! A pipe whose reader has stopped blocks whoever writes to it, and with a line for each request that would be the
//! whole gateway. So one thread of its own writes, and everything else hands it lines and goes on. What waits is
//! bounded in bytes; beyond that lines are lost, counted, and the loss is told once there is room again. A write that
//! fails loses its line and nothing else.
//!
//! It knows nothing of tracing but the [`io::Write`] of its line writer.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread,
    time::Duration,
};

/// The most that may wait, in bytes: some ten thousand lines.
const CAPACITY: usize = 4 << 20;

/// What a line weighs beside its text.
const OVERHEAD: usize = 64;

/// The pause before a descriptor that somebody has made non-blocking is tried again.
const AGAIN: Duration = Duration::from_millis(10);

/// What the writing thread is handed.
enum Message {
    Line(Vec<u8>),
    /// Answered once every line before it is written.
    Flush(SyncSender<()>),
}

/// What both sides know.
#[derive(Debug, Default)]
struct Shared {
    /// Bytes that wait.
    waiting: AtomicUsize,
    /// Lines lost since the last time that it was told.
    lost: AtomicU64,
}

/// The way in: every write is one whole line, taken or lost as such, and never blocks.
#[derive(Clone, Debug)]
pub(super) struct LineWriter {
    queue: Sender<Message>,
    shared: Arc<Shared>,
}

impl LineWriter {
    /// A writer to standard error, past the lock that the standard library puts around it: a panic elsewhere must not
    /// wait for a stuck reader either.
    pub(super) fn stderr() -> io::Result<Self> {
        let out = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        Self::to(out, |lost| tracing::warn!(lost, "log lines were lost: standard error is too slow"))
    }

    /// A writer to `out`; `tell` is called with the number of lines lost, from the thread that writes.
    fn to(out: impl Write + Send + 'static, tell: impl Fn(u64) + Send + 'static) -> io::Result<Self> {
        let (queue, lines) = channel();
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("log".into()).spawn(move || write_lines(out, &lines, &theirs, tell))?;
        Ok(Self { queue, shared })
    }

    /// Waits until all lines so far are written, but no longer than `patience`: a stuck reader must not hold up the
    /// end. Whether they were.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let (done, written) = sync_channel(1);
        self.queue.send(Message::Flush(done)).is_ok() && written.recv_timeout(patience).is_ok()
    }
}

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let weight = line.len() + OVERHEAD;
        let before = self.shared.waiting.fetch_add(weight, Relaxed);
        // A line that cannot be handed over is lost like one that does not fit.
        if before + weight > CAPACITY || self.queue.send(Message::Line(line.to_vec())).is_err() {
            self.shared.waiting.fetch_sub(weight, Relaxed);
            self.shared.lost.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The thread: ends when the last line writer is gone.
fn write_lines(mut out: impl Write, lines: &Receiver<Message>, shared: &Shared, tell: impl Fn(u64)) {
    for message in lines {
        match message {
            Message::Line(line) => {
                write_whole(&mut out, &line);
                shared.waiting.fetch_sub(line.len() + OVERHEAD, Relaxed);
                if shared.waiting.load(Relaxed) < CAPACITY / 2 && shared.lost.load(Relaxed) > 0 {
                    tell(shared.lost.swap(0, Relaxed));
                }
            }
            Message::Flush(done) => {
                let _ = out.flush();
                // Whoever asked may have lost patience.
                let _ = done.try_send(());
            }
        }
    }
}

/// Writes all of a line, or as much of it as goes.
fn write_whole(out: &mut impl Write, mut line: &[u8]) {
    while !line.is_empty() {
        match out.write(line) {
            Ok(0) => return,
            Ok(n) => line = line.get(n..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(AGAIN),
            // Closed, or a full disk behind it: there is nobody to tell.
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Keeps what is written, once it is let through.
    #[derive(Clone, Default)]
    struct Gate(Arc<Mutex<Vec<u8>>>);

    impl Write for Gate {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_arrive_in_order() {
        let out = Gate::default();
        let mut writer = LineWriter::to(out.clone(), |_| {}).unwrap();
        for n in 0..1000 {
            writer.write_all(format!("{n}\n").as_bytes()).unwrap();
        }
        assert!(LineWriter::flush(&writer, PATIENCE));
        let expected: String = (0..1000).map(|n| format!("{n}\n")).collect();
        assert_eq!(String::from_utf8_lossy(&out.0.lock().unwrap()), expected);
    }

    #[test]
    fn a_stuck_reader_costs_lines_and_stops_nobody() {
        let out = Gate::default();
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = {
            let told = Arc::clone(&told);
            move |lost| told.lock().unwrap().push(lost)
        };
        let mut writer = LineWriter::to(out.clone(), tell).unwrap();

        let stuck = out.0.lock().unwrap();
        let line = [b'x'; 1024 - OVERHEAD];
        for _ in 0..CAPACITY / 1024 + 100 {
            writer.write_all(&line).unwrap();
        }
        assert!(!LineWriter::flush(&writer, Duration::from_millis(1)));
        assert_eq!(writer.shared.waiting.load(Relaxed), CAPACITY);
        assert_eq!(writer.shared.lost.load(Relaxed), 100);
        drop(stuck);

        assert!(LineWriter::flush(&writer, PATIENCE));
        assert_eq!(out.0.lock().unwrap().len(), CAPACITY / 1024 * line.len());
        assert_eq!(*told.lock().unwrap(), [100]);
        assert_eq!(writer.shared.waiting.load(Relaxed), 0);
    }

    #[test]
    fn a_closed_reader_costs_its_lines_only() {
        let (reader, out) = io::pipe().unwrap();
        drop(reader);
        let mut writer = LineWriter::to(out, |_| {}).unwrap();
        writer.write_all(b"into the void\n").unwrap();
        assert!(LineWriter::flush(&writer, PATIENCE));
        writer.write_all(b"and again\n").unwrap();
        assert!(LineWriter::flush(&writer, PATIENCE));
    }

    #[test]
    fn a_descriptor_that_would_block_is_tried_again() {
        struct Reluctant(Gate, u32);
        impl Write for Reluctant {
            fn write(&mut self, line: &[u8]) -> io::Result<usize> {
                self.1 += 1;
                match self.1 % 3 {
                    1 => Err(io::ErrorKind::WouldBlock.into()),
                    2 => Err(io::ErrorKind::Interrupted.into()),
                    _ => self.0.write(&line[..1]),
                }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let out = Gate::default();
        write_whole(&mut Reluctant(out.clone(), 0), b"abc\n");
        assert_eq!(*out.0.lock().unwrap(), b"abc\n");
    }
}

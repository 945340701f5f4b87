//! Where calls to Redis go through: the line that is up, if any, the limits, and what is said of failures.
//!
//! Promised: what answers and silence say of Redis is heard here, whoever asked; a failure of a line that was given up
//! says nothing of the one that came after.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use super::{
    Gone, Reply, Script, State,
    line::Line,
    reason::Reason,
    standing::{Standing, Word},
};

/// The least time between two complaints of the same link.
const QUIET: Duration = Duration::from_secs(30);

/// What the callers and the beat share.
pub(super) struct Exchange {
    /// The limit of one call.
    timeout: Duration,
    /// What the others are told.
    pub(super) state: watch::Sender<State>,
    /// The beat is to look up: the line fell, or somebody got no answer.
    pub(super) stirred: Notify,
    board: Mutex<Board>,
    complained: Mutex<Option<Instant>>,
}

struct Board {
    standing: Standing,
    /// The line that is up, and its number. There is one exactly while Redis is there.
    line: Option<(u64, Arc<Line>)>,
}

impl Board {
    fn is_up(&self, number: u64) -> bool {
        self.line.as_ref().is_some_and(|(up, _)| *up == number)
    }
}

impl Exchange {
    /// Without a line, and with this limit for a call.
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            state: watch::Sender::new(State::Alone(0)),
            stirred: Notify::new(),
            board: Mutex::new(Board { standing: Standing::default(), line: None }),
            complained: Mutex::new(None),
        }
    }

    /// The limit of one call.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Runs a script on the line that is up.
    ///
    /// # Errors
    /// [`Gone`], as it says. Where there is no line, at once.
    pub(super) async fn run(
        &self,
        script: &Script,
        keys: &[impl AsRef<[u8]>],
        arguments: &[impl AsRef<[u8]>],
    ) -> Result<Reply, Gone> {
        let (number, line) = self.board().line.clone().ok_or(Gone::Silent)?;
        let began = Instant::now();
        let answer = timeout(self.timeout, line.evaluate(script, keys, arguments)).await;
        let answer = answer.unwrap_or(Err(Reason::NoAnswer));
        self.hear(number, began, answer.as_ref().err());
        if let Err(reason @ (Reason::Answers(_) | Reason::Authentication | Reason::Unreadable)) = &answer {
            self.complain(|| tracing::warn!(%reason, "a script for redis failed"));
        }
        answer.map_err(|reason| if reason.is_an_answer() { Gone::Refused } else { Gone::Silent })
    }

    /// Hears how a call on a line ended.
    pub(super) fn hear(&self, number: u64, began: Instant, failure: Option<&Reason>) {
        match failure {
            None => self.board().standing.answered(),
            Some(reason) if reason.is_an_answer() => self.board().standing.answered(),
            Some(Reason::NoAnswer) => {
                let mut board = self.board();
                let this = board.is_up(number);
                let enough = this && board.standing.missed(began, Instant::now());
                drop(board);
                if enough {
                    self.fall(Some(number), &Reason::NoAnswer);
                } else if this {
                    self.stirred.notify_one();
                }
            }
            Some(reason) => self.fall(Some(number), reason),
        }
    }

    /// A line is up, and so many replicas were counted over it.
    pub(super) fn rise(&self, number: u64, line: Arc<Line>, replicas: u32) {
        self.change(|board| {
            board.line = Some((number, line));
            board.standing.beat(replicas, number, Instant::now())
        });
    }

    /// The line is still up, and so many replicas were counted over it.
    pub(super) fn count(&self, number: u64, replicas: u32) {
        self.change(|board| {
            if board.is_up(number) { board.standing.beat(replicas, number, Instant::now()) } else { None }
        });
    }

    /// Whether there is a line that is up.
    pub(super) fn has_line(&self) -> bool {
        self.board().line.is_some()
    }

    /// Over this line a new replica said that with it there are so many.
    pub(super) fn joined(&self, number: u64, replicas: u32) {
        self.change(|board| {
            if board.is_up(number) {
                board.standing.joined(replicas);
            }
            None
        });
    }

    /// Whether this line is the one that is up.
    pub(super) fn is_up(&self, number: u64) -> bool {
        self.board().is_up(number)
    }

    /// Redis cannot be relied on, judging by a line that was up, or by there being none. Where that is no longer so it
    /// changes nothing.
    pub(super) fn fall(&self, number: Option<u64>, reason: &Reason) {
        let word = self.change(|board| {
            if board.line.as_ref().map(|(up, _)| *up) != number {
                return None;
            }
            if let Some((_, line)) = board.line.take() {
                line.close();
            }
            board.standing.gone()
        });
        if word.is_some() {
            tracing::warn!(%reason, "redis is gone: this gateway works on alone");
            self.stirred.notify_one();
        }
    }

    /// Says something of what goes wrong, but not all the time.
    pub(super) fn complain(&self, say: impl FnOnce()) {
        let mut last = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if last.is_none_or(|last| now.duration_since(last) >= QUIET) {
            *last = Some(now);
            drop(last);
            say();
        }
    }

    /// Changes the board, and tells the others where that changes the state.
    fn change(&self, change: impl FnOnce(&mut Board) -> Option<Word>) -> Option<Word> {
        let mut board = self.board();
        let word = change(&mut board);
        let state = board.standing.state();
        // Still under the lock, so that the last change is the last that is told.
        self.state.send_if_modified(|told| std::mem::replace(told, state) != state);
        drop(board);
        match word {
            Some(Word::There) => tracing::info!("redis is there"),
            Some(Word::Back) => tracing::info!("redis is back"),
            // Said by who knows why.
            Some(Word::Gone) | None => {}
        }
        word
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

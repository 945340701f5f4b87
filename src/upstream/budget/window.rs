//! The seam to what the replicas share: one sliding log for each API key, and the pause that goes with it.
//!
//! It says what may be asked of it and what comes back, and knows neither Redis nor who asks. What is behind it is
//! [`super::shared`], and in tests a scripted one.
//!
//! Promised by whoever stands behind it: a slot that is taken twice is taken once; every take, and every slot that is
//! given back, is told to all replicas with what it left; a slot frees by itself if it is never heard of again; where what
//! was told is lost, nothing is granted before it is told again.

use std::{fmt, time::Duration};

use futures_util::future::BoxFuture;
use ring::{
    digest,
    rand::{SecureRandom as _, SystemRandom},
};
use tokio::sync::{broadcast, watch};

use crate::{
    replicas::{Gone, News, State},
    upstream::Origin,
};

/// The channel on which it is said what is left, and to which the link has to listen: see [`Left::said`].
pub const LEFT: &str = "left";

/// What the budget of one API key is called where others can read it: a digest, which tells nothing of the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name(pub [u8; 16]);

impl Name {
    /// Of the key with this digest at this vendor: another vendor that was given the same key counts for itself.
    #[must_use]
    pub fn of(origin: &Origin, key: [u8; 16]) -> Self {
        let vendor = format!("callgate budget 2 {origin}").to_ascii_lowercase();
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&key);
        context.update(vendor.as_bytes());
        let mut half = [0; 16];
        half.copy_from_slice(&context.finish().as_ref()[..16]);
        Self(half)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// One place in a sliding log: no two requests of any replica have the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u128);

impl Slot {
    /// The number of the gate that has it.
    pub(super) fn replica(self) -> u64 {
        (self.0 >> 64) as u64
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Where a gate has its slots from: a number that no other gate has, and a count.
#[derive(Debug)]
pub(super) struct Slots {
    replica: u64,
    count: u64,
}

impl Slots {
    pub(super) fn new() -> Self {
        let mut bytes = [0; 8];
        // The system's, since replicas that are started at once may have the same idea of chance otherwise.
        let replica = match SystemRandom::new().fill(&mut bytes) {
            Ok(()) => u64::from_ne_bytes(bytes),
            Err(_) => fastrand::u64(..),
        };
        Self { replica, count: 0 }
    }

    /// The number that no other gate has.
    pub(super) fn replica(&self) -> u64 {
        self.replica
    }

    pub(super) fn next(&mut self) -> Slot {
        self.count += 1;
        Slot((u128::from(self.replica) << 64) | u128::from(self.count))
    }
}

/// Asks for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Of which budget.
    pub budget: Name,
    /// Which: asked for again, the answer is the same.
    pub slot: Slot,
    /// The most requests in any minute.
    pub limit: usize,
    /// How many of them the one who asks leaves alone.
    pub reserve: usize,
    /// How long a request may be under way: for that and a minute the slot is held, if nothing more is heard of it.
    pub aloft: Duration,
}

/// What a budget had left at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Counts the moments: of two, the larger is the later.
    pub at: u64,
    /// Requests that may leave.
    pub slots: usize,
}

/// The answer to an [`Ask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The slot is held.
    Granted {
        /// What is left.
        left: Left,
        /// It is the one that goes ahead after a pause.
        probe: bool,
    },
    /// None is free before so long has passed.
    Full(Duration, Left),
    /// The vendor has asked for a pause, of which so much is left.
    Paused(Duration),
    /// The pause is over, and one of another replica's is on its way to find out whether that is so.
    Probing,
    /// What this replica told was lost since, and what others told, too: all is to be told again.
    Unknown,
}

/// A request that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// Its slot.
    pub slot: Slot,
    /// Until its slot is free, where its answer has begun.
    pub frees: Option<Duration>,
}

/// What a replica knows of a budget and the shared window may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Which budget.
    pub budget: Name,
    /// The most requests in any minute.
    pub limit: usize,
    /// As in [`Ask::aloft`].
    pub aloft: Duration,
    /// What is left of a pause.
    pub pause: Duration,
    /// The replica, where it begins to tell all it knows; `None` where it adds to that, or only asks.
    pub replica: Option<u64>,
    /// What counts.
    pub departures: Vec<Departure>,
}

/// What became of a slot. Nobody waits for it to be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Its answer began so long ago.
    Answered(Slot, Duration),
    /// Its request never left.
    GivenBack(Slot),
    /// The vendor asks for a pause.
    Limited(Duration),
    /// The one that went ahead ended: with an answer that is no 429, or without saying anything about the pause.
    Probed(Slot, bool),
}

/// What the replicas share of their budgets.
pub trait Window: Send + Sync {
    /// Takes a slot.
    fn take(&self, ask: Ask) -> BoxFuture<'_, Result<Taken, Gone>>;

    /// Adds what is known here, and says what is left.
    fn push(&self, known: Known) -> BoxFuture<'_, Result<Left, Gone>>;

    /// Says what became of a slot, in the order in which it is called. Lost where there is nobody to hear it. A request
    /// may be under way for `aloft`.
    fn tell(&self, budget: Name, word: Word, aloft: Duration);

    /// Whether it can be relied on.
    fn state(&self) -> watch::Receiver<State>;

    /// What is said to all replicas; on the channel [`LEFT`], what [`Left::said`] reads.
    fn news(&self) -> broadcast::Receiver<News>;
}

impl Left {
    /// Reads the news of what is left of a budget; `None` where they are of something else.
    #[must_use]
    pub fn said(news: &News) -> Option<(Name, Self)> {
        let text = std::str::from_utf8(&news.payload).ok().filter(|_| news.channel == LEFT)?;
        let mut words = text.split(' ');
        let name = words.next().filter(|name| name.len() == 32)?;
        let name = Name(u128::from_str_radix(name, 16).ok()?.to_be_bytes());
        let left = Self { at: words.next()?.parse().ok()?, slots: words.next()?.parse().ok()? };
        words.next().is_none().then_some((name, left))
    }
}

#[cfg(test)]
pub(super) mod scripted;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_read_from_the_news_and_nothing_else_is() {
        let name = Name(0x0123_u128.to_be_bytes());
        let said = |channel: &str, payload: &str| {
            Left::said(&News { channel: channel.to_owned(), payload: payload.to_owned().into() })
        };
        assert_eq!(said(LEFT, &format!("{name} 7 12")), Some((name, Left { at: 7, slots: 12 })));
        for payload in ["", "7 12", "0123 7 12", "x 7 12", &format!("{name} 7"), &format!("{name} 7 12 1")] {
            assert_eq!(said(LEFT, payload), None, "{payload}");
        }
        assert_eq!(said("erased", &format!("{name} 7 12")), None);
    }

    #[test]
    fn no_two_slots_are_the_same() {
        let (mut one, mut other) = (Slots::new(), Slots::new());
        let slots = [one.next(), other.next(), one.next(), other.next()];
        assert_eq!(std::collections::BTreeSet::from(slots).len(), 4);
    }
}

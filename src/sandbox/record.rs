//! One call of the vendor: who, when, and how far it has come.
//!
//! A call holds facts only; its words follow from its seed when they are asked for, so that a hundred thousand calls
//! cost little. It promises that the same facts always read the same at the same time. It knows nothing of HTTP.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use fastrand::Rng;

use super::{
    clock::SinceEpoch,
    prose::{self, Findings, Turn},
};

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Under way.
    Ongoing,
    /// Over: the status is final, but summary, analysis and cost are still to come.
    Ended,
    /// Nothing will change any more.
    Settled,
}

/// One call.
#[derive(Debug)]
pub(super) struct Call {
    /// `_id`: 24 hex digits, the first eight being the time of creation.
    pub(super) id: Arc<str>,
    /// `callId`, the vendor's second kind.
    pub(super) call_id: Arc<str>,
    /// When it began, or will have.
    pub(super) start: SinceEpoch,
    /// When it ends.
    pub(super) end: SinceEpoch,
    /// When the work after the call is through.
    pub(super) settled: SinceEpoch,
    /// Who spoke for the workspace.
    pub(super) agent_id: Arc<str>,
    /// What the agent was to do.
    pub(super) flow_id: Arc<str>,
    /// The campaign that the call belongs to.
    pub(super) batch_id: Option<Arc<str>>,
    /// `inbound`, `outbound` or `bidirectional`.
    pub(super) direction: &'static str,
    /// `sip` or `web`.
    pub(super) call_type: &'static str,
    /// Ends as `failed` rather than `completed`.
    pub(super) fails: bool,
    /// The last four digits of the two numbers.
    pub(super) numbers: (u16, u16),
    /// How large the settled body shall be, in bytes, about.
    pub(super) size: usize,
    /// All that is said follows from this.
    pub(super) seed: u64,
    /// The settled body, once it has been asked for.
    pub(super) body: OnceLock<Bytes>,
    /// The same, compressed.
    pub(super) gzipped: OnceLock<Bytes>,
}

/// Bytes of a settled body that are not transcript, about.
const FRAME: usize = 690;

impl Call {
    /// How far the call has come.
    pub(super) fn phase(&self, now: SinceEpoch) -> Phase {
        if now < self.end {
            Phase::Ongoing
        } else if now < self.settled {
            Phase::Ended
        } else {
            Phase::Settled
        }
    }

    /// The vendor's word for it.
    pub(super) fn status(&self, now: SinceEpoch) -> &'static str {
        match (self.phase(now), self.fails) {
            (Phase::Ongoing, _) => "ongoing",
            (Phase::Ended | Phase::Settled, true) => "failed",
            (Phase::Ended | Phase::Settled, false) => "completed",
        }
    }

    /// When the record last changed.
    pub(super) fn updated(&self, now: SinceEpoch) -> SinceEpoch {
        match self.phase(now) {
            Phase::Ongoing => {
                self.turns(now).last().map_or(self.start, |turn| self.start + self.offset(turn))
            }
            Phase::Ended => self.end,
            Phase::Settled => self.settled,
        }
    }

    /// What has been said so far.
    pub(super) fn turns(&self, now: SinceEpoch) -> Vec<Turn> {
        let mut turns = prose::turns(mix(self.seed, 1), self.size.saturating_sub(FRAME));
        turns.retain(|turn| self.start + self.offset(turn) <= now);
        turns
    }

    /// When a turn was said, from the start of the call.
    pub(super) fn offset(&self, turn: &Turn) -> Duration {
        self.end.saturating_sub(self.start).mul_f64(turn.at)
    }

    /// What the analysis finds; to be told only once the call is settled.
    pub(super) fn findings(&self) -> Findings {
        prose::findings(mix(self.seed, 2))
    }

    /// What the customer is charged: 12 cents a minute begun.
    pub(super) fn charge(&self) -> f64 {
        let minutes = self.end.saturating_sub(self.start).as_secs().div_ceil(60).max(1);
        (minutes * 12) as f64 / 100.0
    }
}

/// A seed for one purpose, from a seed and a number: neighbours share nothing (splitmix64).
pub(super) fn mix(seed: u64, n: u64) -> u64 {
    let mut z = seed ^ n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A source of chance for one purpose.
pub(super) fn rng(seed: u64, n: u64) -> Rng {
    Rng::with_seed(mix(seed, n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::book::tests::call_lasting;

    #[test]
    fn a_call_goes_from_ongoing_by_ended_to_settled() {
        let call = call_lasting(Duration::from_secs(45), Duration::from_secs(20));
        for (after, phase, status) in [
            (0, Phase::Ongoing, "ongoing"),
            (44, Phase::Ongoing, "ongoing"),
            (45, Phase::Ended, "completed"),
            (64, Phase::Ended, "completed"),
            (65, Phase::Settled, "completed"),
        ] {
            let now = call.start + Duration::from_secs(after);
            assert_eq!((call.phase(now), call.status(now)), (phase, status), "after {after} s");
        }
    }

    #[test]
    fn the_last_change_is_the_last_word_then_the_end_then_the_analysis() {
        let call = call_lasting(Duration::from_secs(45), Duration::from_secs(20));
        assert_eq!(call.updated(call.start), call.start);
        let during = call.updated(call.start + Duration::from_secs(44));
        assert!(call.start < during && during < call.end);
        assert_eq!(call.updated(call.end), call.end);
        assert_eq!(call.updated(call.settled), call.settled);
    }

    #[test]
    fn an_ongoing_call_has_said_only_what_has_been_said() {
        let call = call_lasting(Duration::from_secs(45), Duration::from_secs(20));
        let said = |after| call.turns(call.start + Duration::from_secs(after)).len();
        assert_eq!(said(0), 1);
        assert!(said(0) < said(20) && said(20) < said(45));
    }
}

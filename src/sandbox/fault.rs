//! What may go wrong at the vendor, and when it does.
//!
//! A fault befalls a request that was let in: both headers right, within the rate limit. The choice follows from the
//! seed and the number of the request, so that runs repeat. The faults are asked in the order given, each by its own
//! rate, and the first that strikes is the one. How a fault is carried out is for `answer`, `body` and `wire`.

use std::time::Duration;

use http::StatusCode;

use super::record::{mix, rng};

/// A kind of fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// This status with the vendor's error body; 429 as the rate limit would answer. 1xx is no answer, and ends up
    /// as 500.
    Status(StatusCode),
    /// The true answer, this much later than usual.
    Delay(Duration),
    /// The connection is reset before a response.
    Reset,
    /// The body ends halfway to its `content-length`.
    Cut,
    /// The body comes a byte at a time, this far apart.
    Drip(Duration),
    /// Bytes that are not HTTP, and the end of the connection.
    Garbage,
    /// The API key stands within the record's `metadata`.
    EchoKey,
    /// No answer, ever.
    Hang,
    /// The true answer behind this many bytes of blanks, compressed to a thousandth, whether gzip was asked for or not.
    GzipBomb(u64),
    /// A 200 of HTML.
    Html,
    /// A 302 to another host.
    Redirect,
    /// A record whose `workspaceId` is another's.
    ForeignWorkspace,
    /// A record whose `_id` and `callId` are another's.
    WrongId,
}

/// A fault and how often it strikes.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What happens.
    pub kind: FaultKind,
    /// To what share of the requests, from 0.0 to 1.0.
    pub rate: f64,
}

impl Fault {
    /// A fault that befalls every request.
    #[must_use]
    pub fn always(kind: FaultKind) -> Self {
        Self { kind, rate: 1.0 }
    }
}

/// What befalls the request of this number.
pub(super) fn strike(faults: &[Fault], seed: u64, arrival: u64) -> Option<FaultKind> {
    let chance = |place: usize| rng(mix(seed, arrival), place as u64).f64();
    faults.iter().enumerate().find(|(place, fault)| chance(*place) < fault.rate).map(|(_, f)| f.kind.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn struck(faults: &[Fault], seed: u64) -> Vec<Option<FaultKind>> {
        (0..10_000).map(|arrival| strike(faults, seed, arrival)).collect()
    }

    #[test]
    fn the_same_seed_strikes_the_same_requests() {
        let faults = [Fault { kind: FaultKind::Reset, rate: 0.3 }];
        assert_eq!(struck(&faults, 1), struck(&faults, 1));
        assert_ne!(struck(&faults, 1), struck(&faults, 2));
    }

    #[test]
    fn each_fault_strikes_at_its_rate_and_the_first_one_wins() {
        let faults = [
            Fault { kind: FaultKind::Reset, rate: 0.1 },
            Fault { kind: FaultKind::Hang, rate: 0.0 },
            Fault { kind: FaultKind::Cut, rate: 0.5 },
        ];
        let struck = struck(&faults, 1);
        let count = |kind| struck.iter().filter(|s| s.as_ref() == Some(&kind)).count();
        assert!((900..1_100).contains(&count(FaultKind::Reset)));
        assert_eq!(count(FaultKind::Hang), 0);
        assert!((4_300..4_700).contains(&count(FaultKind::Cut)));
    }

    #[test]
    fn a_rate_of_one_strikes_every_request() {
        assert!(struck(&[Fault::always(FaultKind::Html)], 3).iter().all(Option::is_some));
    }
}

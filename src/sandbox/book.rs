//! The vendor's calls: made from a seed at start, found by either id, and growing as calls begin.
//!
//! Nine in ten ended between an hour and four weeks before the last midnight (UTC), so that two starts on one day
//! with the same seed hold the same settled records, byte for byte; `callId`s are the same on every day. The others
//! began within the last `call_length` and are still under way. It knows nothing of HTTP or JSON.

use std::{
    collections::HashMap,
    ops::RangeInclusive,
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::{
    clock::SinceEpoch,
    record::{Call, mix, rng},
};

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
/// One call in this many is under way at start.
const ONGOING_ONE_IN: usize = 10;
/// However long the analysis takes, a call of the past is through with it.
const LONGEST_PAST_ANALYSIS: Duration = Duration::from_secs(HOUR / 2);

/// How calls are made.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Everything but the time follows from it.
    pub(super) seed: u64,
    /// How long a call takes that begins now.
    pub(super) call_length: Duration,
    /// How long after its end the analysis is there.
    pub(super) analysis_delay: Duration,
    /// From the smallest to the largest settled body, in bytes, about.
    pub(super) body_size: RangeInclusive<usize>,
}

/// All calls.
#[derive(Debug)]
pub(super) struct Book {
    plan: Plan,
    /// By start, the oldest first.
    calls: Vec<Arc<Call>>,
    by_id: HashMap<Arc<str>, usize>,
    /// How many calls were ever made: the counter in their ids.
    made: u64,
}

impl Book {
    /// `count` calls as of `now`.
    pub(super) fn open(plan: Plan, count: usize, now: SinceEpoch) -> Self {
        let mut book = Self { plan, calls: Vec::with_capacity(count), by_id: HashMap::new(), made: 0 };
        let midnight = Duration::from_secs(now.as_secs() / DAY * DAY);
        let ongoing = count / ONGOING_ONE_IN;
        let mut calls = Vec::with_capacity(count);
        for n in 0..count - ongoing {
            let mut rng = rng(book.plan.seed, n as u64);
            let length = Duration::from_secs(rng.u64(20..600));
            let mut end = midnight.saturating_sub(Duration::from_secs(rng.u64(HOUR..28 * DAY)));
            // Two in three times carry a fraction.
            if n % 3 > 0 {
                end += Duration::from_micros(rng.u64(1..1_000_000));
            }
            let delay = book.plan.analysis_delay.min(LONGEST_PAST_ANALYSIS);
            calls.push(book.make(end.saturating_sub(length), end, end + delay));
        }
        for _ in 0..ongoing {
            let began =
                now.saturating_sub(book.plan.call_length.mul_f64(rng(book.plan.seed, book.made).f64()));
            calls.push(book.make_now(began));
        }
        calls.sort_by_key(|call| call.start);
        for call in calls {
            book.enter(call);
        }
        book
    }

    /// A call that begins now.
    pub(super) fn begin(&mut self, now: SinceEpoch) -> Arc<Call> {
        let call = self.make_now(now);
        self.enter(call.clone());
        call
    }

    /// The call of this id, of either kind.
    pub(super) fn find(&self, id: &str) -> Option<Arc<Call>> {
        self.by_id.get(id).and_then(|place| self.calls.get(*place)).cloned()
    }

    /// All calls by start, the oldest first.
    pub(super) fn calls(&self) -> &[Arc<Call>] {
        &self.calls
    }

    fn enter(&mut self, call: Arc<Call>) {
        let place = self.calls.len();
        self.by_id.insert(call.id.clone(), place);
        self.by_id.insert(call.call_id.clone(), place);
        self.calls.push(call);
    }

    fn make_now(&mut self, start: SinceEpoch) -> Arc<Call> {
        let end = start + self.plan.call_length;
        self.make(start, end, end + self.plan.analysis_delay)
    }

    fn make(&mut self, start: SinceEpoch, end: SinceEpoch, settled: SinceEpoch) -> Arc<Call> {
        let n = self.made;
        self.made += 1;
        let seed = mix(self.plan.seed, n);
        let mut rng = rng(seed, 0);
        let machine = mix(self.plan.seed, u64::MAX) & 0xff_ffff_ffff;
        let call_type = if rng.u8(0..3) > 0 { "sip" } else { "web" };
        let direction = match rng.u8(0..16) {
            0 if call_type == "web" => "bidirectional",
            1..=8 => "inbound",
            0 | 9.. => "outbound",
        };
        Arc::new(Call {
            id: format!("{:08x}{machine:010x}{:06x}", start.as_secs() & 0xffff_ffff, n & 0xff_ffff).into(),
            call_id: format!("00000000{:016x}-00t00{}", rng.u64(..) >> 8, base36(&mut rng)).into(),
            start,
            end,
            settled,
            agent_id: object_id(self.plan.seed, "agent", rng.u64(0..4)),
            flow_id: object_id(self.plan.seed, "flow", rng.u64(0..3)),
            batch_id: (rng.u8(0..4) == 0).then(|| object_id(self.plan.seed, "batch", rng.u64(0..2))),
            direction,
            call_type,
            fails: rng.u8(0..12) == 0,
            numbers: (rng.u16(0..10_000), rng.u16(0..10_000)),
            size: size(&self.plan.body_size, rng.f64()),
            seed,
            body: OnceLock::new(),
            gzipped: OnceLock::new(),
        })
    }
}

/// An ObjectId for what is not a call: an agent, a flow, a batch.
fn object_id(seed: u64, of: &str, n: u64) -> Arc<str> {
    let kind = of.bytes().fold(n, |sum, byte| mix(sum, u64::from(byte)));
    let low = mix(seed, kind);
    format!("66{:06x}{low:016x}", mix(low, kind) & 0xff_ffff).into()
}

fn base36(rng: &mut fastrand::Rng) -> String {
    (0..5).map(|_| char::from_digit(rng.u32(0..36), 36).unwrap_or('0')).collect()
}

/// Most bodies are small and a few large: the logarithm of the size grows with the square of chance.
fn size(range: &RangeInclusive<usize>, chance: f64) -> usize {
    let (low, high) = ((*range.start()).max(1) as f64, (*range.end()).max(1) as f64);
    (low * (high / low).powf(chance * chance)) as usize
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::sandbox::record::Phase;

    const NOW: SinceEpoch = Duration::from_secs(1_775_000_000);

    fn plan(call_length: Duration, analysis_delay: Duration) -> Plan {
        Plan { seed: 1, call_length, analysis_delay, body_size: 1_100..=49_000 }
    }

    fn book(count: usize, now: SinceEpoch) -> Book {
        Book::open(plan(Duration::from_secs(45), Duration::from_secs(20)), count, now)
    }

    /// A call with some twenty turns that began at [`NOW`].
    pub(in crate::sandbox) fn call_lasting(call_length: Duration, analysis_delay: Duration) -> Arc<Call> {
        let plan = Plan { body_size: 4_000..=4_000, ..plan(call_length, analysis_delay) };
        let mut book = Book::open(plan, 0, NOW);
        let mut call = book.begin(NOW);
        while call.fails {
            call = book.begin(NOW);
        }
        call
    }

    #[test]
    fn a_tenth_is_under_way_and_the_rest_ended_at_least_an_hour_ago() {
        let book = book(200, NOW);
        let (ongoing, past): (Vec<_>, Vec<_>) =
            book.calls().iter().partition(|call| call.phase(NOW) == Phase::Ongoing);
        assert_eq!((ongoing.len(), past.len()), (20, 180));
        assert!(past.iter().all(|call| NOW - call.end >= Duration::from_secs(HOUR)));
        assert!(past.iter().all(|call| call.phase(NOW) == Phase::Settled));
        assert!(book.calls().is_sorted_by_key(|call| call.start));
        assert!(past.iter().any(|call| call.fails) && past.iter().filter(|call| call.fails).count() < 40);
    }

    #[test]
    fn ids_are_object_ids_of_their_time_and_both_kinds_find_the_call() {
        let book = book(50, NOW);
        for call in book.calls() {
            assert_eq!(call.id.len(), 24);
            assert!(call.id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)), "{}", call.id);
            assert_eq!(u64::from_str_radix(&call.id[..8], 16), Ok(call.start.as_secs()));
            assert_eq!(call.call_id.len(), "00000000013bd867b55ca000-00t00imaqj".len());
            for id in [&call.id, &call.call_id] {
                assert_eq!(book.find(id).expect("found").id, call.id);
            }
        }
        assert_eq!(book.by_id.len(), 100);
        assert!(book.find("69cf4b468d2a8a6a8e39b684").is_none());
    }

    #[test]
    fn the_same_seed_makes_the_same_settled_calls_all_day_and_another_seed_others() {
        let ids = |book: &Book| book.calls()[..45].iter().map(|call| call.id.clone()).collect::<Vec<_>>();
        let morning = book(50, NOW);
        assert_eq!(ids(&morning), ids(&book(50, NOW - Duration::from_secs(HOUR))));
        let plan = Plan { seed: 2, ..plan(Duration::from_secs(45), Duration::from_secs(20)) };
        assert_ne!(ids(&morning), ids(&Book::open(plan, 50, NOW)));
    }

    #[test]
    fn sizes_stay_in_their_range_and_most_are_small() {
        assert_eq!((size(&(1_100..=49_000), 0.0), size(&(1_100..=49_000), 1.0)), (1_100, 49_000));
        assert!(size(&(1_100..=49_000), 0.5) < 3_000);
        assert_eq!(size(&(2_000..=2_000), 0.7), 2_000);
    }
}

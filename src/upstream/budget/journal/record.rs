//! A record of the journal, in bytes, and which of them still count. Pure: the time is passed in.

use std::{collections::HashMap, time::Duration};

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    clock::UnixMillis,
    upstream::budget::{
        log::MINUTE,
        window::{Name, Slot},
    },
};

/// What the file begins with: whose it is, and its format.
pub(super) const HEADER: &[u8; 16] = b"callgate sent 1\n";

/// The length of a record: its kind, the budget, the slot, the time, and a sum over all of it, numbers little-endian.
pub(super) const RECORD: usize = 8 + 16 + 16 + 8 + 8;

const SUMMED: usize = RECORD - 8;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Departed = 1,
    Answered = 2,
    GivenBack = 3,
}

/// One step of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) budget: Name,
    pub(super) slot: Slot,
    pub(super) at: UnixMillis,
}

impl Record {
    pub(super) fn encode(&self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[0] = self.kind as u8;
        bytes[8..24].copy_from_slice(&self.budget.0);
        bytes[24..40].copy_from_slice(&self.slot.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.at.0.to_le_bytes());
        let sum = xxh3_64(&bytes[..SUMMED]);
        bytes[SUMMED..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// `None` where the bytes are not what was written.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let sum = u64::from_le_bytes(bytes.get(SUMMED..RECORD)?.try_into().ok()?);
        let kind = match bytes[0] {
            1 => Kind::Departed,
            2 => Kind::Answered,
            3 => Kind::GivenBack,
            _ => return None,
        };
        let record = Self {
            kind,
            budget: Name(bytes[8..24].try_into().ok()?),
            slot: Slot(u128::from_le_bytes(bytes[24..40].try_into().ok()?)),
            at: UnixMillis(i64::from_le_bytes(bytes[40..48].try_into().ok()?)),
        };
        (xxh3_64(&bytes[..SUMMED]) == sum).then_some(record)
    }

    /// Whether it holds its slot at `now`; a request may be under way for `aloft`.
    fn counts(&self, now: UnixMillis, aloft: Duration) -> bool {
        let held = match self.kind {
            Kind::Departed => aloft + MINUTE,
            Kind::Answered => MINUTE,
            Kind::GivenBack => return false,
        };
        now < self.at.plus(held)
    }
}

/// What counts at `now` of a file's contents: of each slot what was done last. What lies in the future was written by
/// another clock, and is taken as of now. What is not as it was written is passed over; of a file that is not ours,
/// everything.
pub(super) fn live(bytes: &[u8], now: UnixMillis, aloft: Duration) -> Vec<Record> {
    let Some(records) = bytes.strip_prefix(HEADER) else { return Vec::new() };
    let mut last: HashMap<Slot, Record> = HashMap::new();
    for record in records.chunks_exact(RECORD).filter_map(Record::decode) {
        last.insert(record.slot, Record { at: record.at.min(now), ..record });
    }
    let mut live: Vec<_> = last.into_values().filter(|record| record.counts(now, aloft)).collect();
    live.sort_unstable_by_key(|record| (record.at, record.slot));
    live
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALOFT: Duration = Duration::from_secs(15);
    const NOW: i64 = 1_700_000_000_000;
    const BUDGET: Name = Name([7; 16]);

    fn record(kind: Kind, slot: u128, ago: i64) -> Record {
        Record { kind, budget: BUDGET, slot: Slot(slot), at: UnixMillis(NOW - ago * 1_000) }
    }

    fn file(records: &[Record]) -> Vec<u8> {
        records.iter().fold(HEADER.to_vec(), |file, record| [&file[..], &record.encode()].concat())
    }

    #[test]
    fn of_each_slot_what_was_done_last_counts_as_long_as_it_may() {
        type Step = (Kind, i64);
        let table: [(&[Step], Option<Step>); 9] = [
            (&[(Kind::Departed, 74)], Some((Kind::Departed, 74))),
            (&[(Kind::Departed, 75)], None),
            (&[(Kind::Departed, 9), (Kind::Answered, 7)], Some((Kind::Answered, 7))),
            (&[(Kind::Departed, 70), (Kind::Answered, 59)], Some((Kind::Answered, 59))),
            (&[(Kind::Departed, 70), (Kind::Answered, 60)], None),
            (&[(Kind::Departed, 1), (Kind::GivenBack, 0)], None),
            // The clock jumped back, or forth.
            (&[(Kind::Answered, -86_400)], Some((Kind::Answered, 0))),
            (&[(Kind::Departed, -86_400)], Some((Kind::Departed, 0))),
            (&[(Kind::Answered, 86_400)], None),
        ];
        for (records, expected) in table {
            let records: Vec<_> = records.iter().map(|(kind, ago)| record(*kind, 1, *ago)).collect();
            let expected: Vec<_> = expected.iter().map(|(kind, ago)| record(*kind, 1, *ago)).collect();
            assert_eq!(live(&file(&records), UnixMillis(NOW), ALOFT), expected, "{records:?}");
        }
    }

    #[test]
    fn what_is_damaged_or_not_ours_is_passed_over() {
        let records =
            [record(Kind::Answered, 1, 3), record(Kind::Answered, 2, 2), record(Kind::Answered, 3, 1)];
        let now = UnixMillis(NOW);
        let mut damaged = file(&records);
        damaged[HEADER.len() + RECORD + 30] ^= 1;
        assert_eq!(live(&damaged, now, ALOFT), [records[0], records[2]]);
        let whole = file(&records);
        assert_eq!(live(&whole[..whole.len() - 1], now, ALOFT), records[..2], "torn at its end");
        assert_eq!(live(&whole[1..], now, ALOFT), []);
        assert_eq!(live(b"", now, ALOFT), []);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let ours = [HEADER.as_slice(), &bytes].concat();
            prop_assert_eq!(live(&ours, UnixMillis(NOW), ALOFT), vec![]);
        }
    }
}

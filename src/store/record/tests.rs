//! What is written is read back, for its own key alone, and nothing else is.

use proptest::{collection::vec, option, prelude::*};
use tokio::time::Instant;

use super::*;

fn text() -> impl Strategy<Value = Option<HeaderValue>> {
    option::of("[ -~]{0,80}".prop_map(|text| HeaderValue::from_str(&text).expect("a value")))
}

fn millis() -> impl Strategy<Value = UnixMillis> {
    any::<i64>().prop_map(UnixMillis)
}

prop_compose! {
    fn record()(
        (fetched, first_final) in (millis(), millis()),
        lifetime in any::<u64>().prop_map(Duration::from_millis),
        (updated, started) in (option::of(millis()), option::of(millis())),
        (content_type, last_modified) in (text(), text()),
        etag in option::of(vec(any::<u8>(), 3).prop_map(|of| EntityTag::of(&of))),
        body in vec(any::<u8>(), 0..300).prop_map(Bytes::from),
    ) -> Record {
        Record { fetched, first_final, lifetime, updated, started, content_type, last_modified, etag, body }
    }
}

const MINUTE: Duration = Duration::from_secs(60);

proptest! {
    #[test]
    fn what_is_written_for_a_key_is_read_back_for_it(
        record in record(), key in vec(any::<u8>(), 0..60), used in millis(),
    ) {
        let value = record.encode(&key, used, MINUTE, None).expect("it fits");
        let until = record.fetched.plus(record.lifetime).plus(MINUTE);
        let head = Head::read(&value).expect("a head");
        prop_assert_eq!((head.used, head.until), (used, until));
        prop_assert_eq!(Record::decode(&key, &value, None), Ok(record));
    }

    #[test]
    fn one_changed_bit_is_found_out_wherever_it_counts(
        record in record(), key in vec(any::<u8>(), 0..60), at in any::<prop::sample::Index>(), bit in 0..8,
    ) {
        let mut value = record.encode(&key, UnixMillis(5), MINUTE, None).expect("it fits");
        let at = at.index(value.len());
        value[at] ^= 1u8 << bit;
        let expected = match at {
            0 => Err(Unreadable::OtherVersion),
            // When it was last used decides no more than what goes first.
            1..9 => Ok(record),
            _ => Err(Unreadable::Damaged),
        };
        prop_assert_eq!(Record::decode(&key, &value, None), expected);
    }

    #[test]
    fn nothing_is_read_under_another_key_or_from_a_part(
        record in record(), key in vec(any::<u8>(), 0..60), other in vec(any::<u8>(), 0..60),
        length in any::<prop::sample::Index>(),
    ) {
        prop_assume!(key != other);
        let value = record.encode(&key, UnixMillis(5), MINUTE, None).expect("it fits");
        prop_assert_eq!(Record::decode(&other, &value, None), Err(Unreadable::Damaged));
        let part = &value[..length.index(value.len())];
        prop_assert_eq!(Record::decode(&key, part, None), Err(Unreadable::Damaged));
    }

    #[test]
    fn any_bytes_are_survived(key in vec(any::<u8>(), 0..60), value in vec(any::<u8>(), 0..200)) {
        let _ = Record::decode(&key, &value, None);
        let _ = touched(&value, UnixMillis(1));
    }
}

fn small() -> Record {
    Record {
        fetched: UnixMillis(1_000),
        first_final: UnixMillis(900),
        lifetime: MINUTE,
        updated: None,
        started: None,
        content_type: None,
        last_modified: None,
        etag: None,
        body: Bytes::from_static(b"{\"summary\":\"a summary\"}"),
    }
}

fn seal(digit: &str) -> Seal {
    Seal::parse(digit.repeat(64).as_bytes()).expect("a key")
}

#[test]
fn a_use_changes_nothing_but_its_time() {
    for seal in [None, Some(&seal("a"))] {
        let value = small().encode(b"key", UnixMillis(5), MINUTE, seal).expect("it fits");
        let value = touched(&value, UnixMillis(7));
        assert_eq!(Head::read(&value).expect("a head").used, UnixMillis(7));
        assert_eq!(Record::decode(b"key", &value, seal), Ok(small()));
    }
}

#[test]
fn what_is_sealed_shows_nothing_and_is_read_with_its_key_alone() {
    let (a, b) = (seal("a"), seal("b"));
    let encode = |seal| small().encode(b"key", UnixMillis(5), MINUTE, seal).expect("it fits");
    let (clear, sealed) = (encode(None), encode(Some(&a)));
    let shows = |value: &[u8]| value.windows(9).any(|part| part == b"a summary");
    assert!(shows(&clear) && !shows(&sealed));
    assert_eq!(Head::read(&sealed).expect("a head").until, Head::read(&clear).expect("a head").until);
    let table = [
        (&clear, None, Ok(small())),
        (&clear, Some(&a), Err(Unreadable::Unsealed)),
        (&sealed, None, Err(Unreadable::OtherKey)),
        (&sealed, Some(&a), Ok(small())),
        (&sealed, Some(&b), Err(Unreadable::OtherKey)),
    ];
    for (value, seal, expected) in table {
        assert_eq!(Record::decode(b"key", value, seal), expected);
    }
    let rotated = Seal::parse(format!("{}\n{}", "b".repeat(64), "a".repeat(64)).as_bytes()).expect("keys");
    assert_eq!(Record::decode(b"key", &sealed, Some(&rotated)), Ok(small()));
}

#[test]
fn what_was_sealed_and_changed_is_never_read_even_if_the_checksum_was_mended() {
    let seal = seal("a");
    let whole = small().encode(b"key", UnixMillis(5), MINUTE, Some(&seal)).expect("it fits");
    let mended = |key: &[u8], mut value: Vec<u8>| {
        if let Ok(head) = Head::read(&value) {
            let check = checksum(key, head.version, head.until, &value[HEAD..]);
            value[HEAD - 8..HEAD].copy_from_slice(&check.to_be_bytes());
        }
        value
    };
    for at in (0..whole.len()).filter(|at| !(1..9).contains(at)) {
        for bit in 0..8 {
            let mut value = whole.clone();
            value[at] ^= 1u8 << bit;
            let damaged = if at == 0 { Unreadable::OtherVersion } else { Unreadable::Damaged };
            assert_eq!(Record::decode(b"key", &value, Some(&seal)), Err(damaged), "{at} {bit}");
            let (value, sum) = (mended(b"key", value), 17..HEAD);
            let expected = if sum.contains(&at) { Ok(small()) } else { Err(Unreadable::OtherKey) };
            let expected = if at == 0 { Err(Unreadable::OtherVersion) } else { expected };
            assert_eq!(Record::decode(b"key", &value, Some(&seal)), expected, "mended {at} {bit}");
        }
        let cut = mended(b"key", whole[..at.max(HEAD)].to_vec());
        assert_eq!(Record::decode(b"key", &cut, Some(&seal)), Err(Unreadable::OtherKey), "cut {at}");
    }
    // Another call's value in its place, and one that passes for clear.
    let moved = mended(b"kez", whole.clone());
    assert_eq!(Record::decode(b"kez", &moved, Some(&seal)), Err(Unreadable::OtherKey));
    let mut passed_off = whole;
    passed_off[0] = CLEAR;
    let passed_off = mended(b"key", passed_off);
    assert_eq!(Record::decode(b"key", &passed_off, Some(&seal)), Err(Unreadable::Unsealed));
}

#[tokio::test(start_paused = true)]
async fn age_and_remaining_life_survive_a_restart() {
    let (second, now) = (Duration::from_secs(1), Instant::now());
    let record = Record {
        fetched: UnixMillis(1_000_000),
        first_final: UnixMillis(900_000),
        lifetime: 100 * second,
        updated: Some(UnixMillis(800_000)),
        started: None,
        content_type: None,
        last_modified: None,
        etag: None,
        body: Bytes::from_static(b"{}"),
    };
    let at = |millis| record.clone().into_stored(UnixMillis(millis), now).expect("within reach");
    let kept = at(1_030_000);
    assert_eq!((kept.age(now), kept.fresh_for(now)), (30 * second, Some(70 * second)));
    assert_eq!(now - kept.first_final, 130 * second);
    assert_eq!(at(1_130_000).ttl_seconds(now), -30);
    // The clock was set back in between.
    assert_eq!(at(10_000).age(now), Duration::ZERO);
    let back = Record::of(&kept, |instant| UnixMillis(1_030_000 - (now - instant).as_millis() as i64));
    assert_eq!(back, record);
}

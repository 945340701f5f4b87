//! What waits, what finds room, and what has the last word.

use bytes::Bytes;
use http::StatusCode;

use super::*;
use crate::outcome::Class;

fn write(length: usize) -> Change {
    let now = Instant::now();
    Change::Write(Arc::new(Stored {
        status: StatusCode::OK,
        class: Class::Final,
        body: Bytes::from(vec![b'x'; length]),
        content_type: None,
        rare: None,
        etag: None,
        updated: None,
        started: None,
        first_final: now,
        fetched: now,
        lifetime: Duration::from_secs(1),
    }))
}

fn known(queue: &Queue, key: &[u8]) -> Option<usize> {
    match queue.peek(key)? {
        Pending::Kept(stored) => Some(stored.body.len()),
        Pending::Gone => Some(0),
    }
}

fn key(n: usize) -> Vec<u8> {
    n.to_be_bytes().to_vec()
}

#[test]
fn the_last_word_on_a_key_is_known_until_it_is_written() {
    let queue = Queue::default();
    queue.push(key(1), write(7));
    queue.push(key(1), Change::Touch);
    assert_eq!(known(&queue, &key(1)), Some(7), "a use takes nothing's place");
    queue.push(key(1), write(8));
    assert_eq!(queue.take(Duration::ZERO).expect("work").changes.len(), 1);
    assert_eq!(known(&queue, &key(1)), Some(8), "while it is being written");
    queue.push(key(1), Change::Remove);
    assert_eq!(known(&queue, &key(1)), Some(0), "what waits is later than what is being written");
    queue.written();
    assert_eq!(queue.take(Duration::ZERO).expect("work").changes.len(), 1);
    queue.written();
    assert_eq!(known(&queue, &key(1)), None);
}

#[test]
fn writes_find_no_room_in_a_full_queue_and_removals_do() {
    let queue = Queue::default();
    for n in 0..MOST {
        assert_eq!(queue.push(key(n), write(1)), Pushed::Taken);
    }
    queue.push(key(MOST), write(1));
    assert_eq!(known(&queue, &key(MOST)), Some(0), "what may be in the file is not to be found either");
    queue.push(key(1), Change::Remove);
    assert_eq!(known(&queue, &key(1)), Some(0));
    let state = queue.lock();
    assert!(state.told.is_some() && state.dropped == 0, "one drop, which was told");
    drop(state);
    for n in MOST..TOO_MANY {
        queue.push(key(n), Change::Remove);
    }
    assert_eq!(queue.push(key(0), Change::Remove), Pushed::Overrun);

    let queue = Queue::default();
    queue.push(key(1), write(MOST_BYTES));
    queue.push(key(2), write(1));
    assert_eq!(known(&queue, &key(2)), Some(0));
    // Room is given back with what takes it up.
    queue.push(key(1), Change::Remove);
    queue.push(key(2), write(1));
    assert_eq!(known(&queue, &key(2)), Some(1));
}

#[test]
fn what_waits_is_taken_after_the_end_and_nothing_else() {
    let queue = Queue::default();
    queue.push(key(1), write(1));
    queue.close();
    assert_eq!(queue.push(key(2), write(1)), Pushed::Closed);
    assert_eq!(queue.take(Duration::ZERO).expect("the last work").changes.len(), 1);
    assert!(queue.take(Duration::ZERO).is_none());
    assert!(!queue.abandon().removals);
    let queue = Queue::default();
    queue.push(key(1), Change::Remove);
    assert!(queue.abandon().removals, "a removal was lost");
    assert!(queue.take(Duration::ZERO).is_none());
}

/// A sweep of the keys that begin with this byte.
fn sweep(queue: &Queue, first: u8) -> oneshot::Receiver<Swept> {
    queue.sweep(Prefixes::new(vec![vec![first]])).expect("open")
}

#[test]
fn what_is_swept_is_gone_at_once_wherever_it_is_and_what_comes_later_stays() {
    let queue = Queue::default();
    let push = |key: &str, change| assert_eq!(queue.push(key.into(), change), Pushed::Taken);
    push("a1", write(1));
    push("b1", write(1));
    assert_eq!(queue.take(Duration::ZERO).expect("work").changes.len(), 2);
    push("a2", write(1));
    push("a3", Change::Remove);
    push("b2", write(1));
    let mut swept = sweep(&queue, b'a');
    for (key, expected) in [("a1", 0), ("a2", 0), ("a3", 0), ("a9", 0), ("b1", 1), ("b2", 1)] {
        assert_eq!(known(&queue, key.as_bytes()), Some(expected), "{key}");
    }
    push("a4", write(4));
    assert_eq!(known(&queue, b"a4"), Some(4), "kept since");
    queue.written();
    let Work { mut sweeps, changes } = queue.take(Duration::from_secs(60)).expect("work, at once");
    assert_eq!((sweeps.len(), changes.len()), (1, 2));
    assert_eq!((known(&queue, b"a1"), known(&queue, b"a4")), (Some(0), Some(4)), "while it is swept");
    // What the file held: one that was to be removed anyhow, and one that was written before.
    let mut sweep = sweeps.remove(0);
    sweep.took_out(&[b"a1".to_vec(), b"a3".to_vec()]);
    assert!(swept.try_recv().is_err());
    sweep.done();
    assert_eq!(swept.try_recv().expect("done").len(), 2, "a1 and a2");
    queue.written();
    assert_eq!(known(&queue, b"a1"), None);
}

#[test]
fn a_sweep_that_is_lost_is_a_removal_that_is_lost() {
    for taken in [false, true] {
        let queue = Queue::default();
        let mut swept = sweep(&queue, b'a');
        let work = taken.then(|| queue.take(Duration::ZERO));
        let abandoned = queue.abandon();
        assert!(abandoned.removals);
        assert_eq!(
            swept.try_recv(),
            Err(oneshot::error::TryRecvError::Empty),
            "not before the file is dealt with"
        );
        drop((work, abandoned));
        assert_eq!(swept.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert!(queue.sweep(Prefixes::new(Vec::new())).is_none());
    }
}

#[test]
fn what_is_about_to_be_written_is_found_by_how_it_begins() {
    let queue = Queue::default();
    for key in ["a1", "a2", "b1"] {
        queue.push(key.into(), write(1));
    }
    queue.take(Duration::ZERO).expect("work");
    queue.push("a1".into(), write(7));
    queue.push("a2".into(), Change::Remove);
    queue.push("a3".into(), write(3));
    let mut found = queue.kept_under(&Prefixes::new(vec![b"a".to_vec()]));
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    let lengths: Vec<_> = found.into_iter().map(|(key, stored)| (key, stored.body.len())).collect();
    assert_eq!(lengths, [(b"a1".to_vec(), 7), (b"a3".to_vec(), 3)]);
}

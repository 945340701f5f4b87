//! Who joins whom, and what those get who wait.

use super::*;

fn flights() -> Flights<u8, &'static str> {
    Flights::new()
}

fn crashed() -> &'static str {
    "crashed"
}

const URGENT: Wish = Wish { urgent: true, kept: true };
const SLOW: Wish = Wish { urgent: false, kept: false };

type Place = (Waiter<&'static str>, Option<Leader<u8, &'static str>>);

fn join(flights: &Flights<u8, &'static str>, key: u8) -> Place {
    let (waiter, leader, _) = flights.join(&key, URGENT, crashed);
    (waiter, leader)
}

#[tokio::test]
async fn a_flight_takes_over_what_those_who_join_it_wish() {
    let flights = flights();
    let (_slow, leader, joined) = flights.join(&1, SLOW, crashed);
    let leader = leader.expect("the first leads");
    assert_eq!((joined, leader.is_urgent()), (Joined::Own, false));
    let (_also, _, joined) = flights.join(&1, SLOW, crashed);
    assert_eq!((joined, leader.is_urgent(), leader.is_wanted()), (Joined::Another, false, false));
    let (_fast, _, joined) = flights.join(&1, URGENT, crashed);
    assert_eq!((joined, leader.is_urgent(), leader.is_wanted()), (Joined::AndHurried, true, true));
    leader.hurried().await;
    let (_later, _, joined) = flights.join(&1, URGENT, crashed);
    assert_eq!(joined, Joined::Another);
    let (_later, _, joined) = flights.join(&1, SLOW, crashed);
    assert_eq!((joined, leader.is_urgent()), (Joined::Another, true));
}

#[tokio::test]
async fn news_reach_those_for_whom_they_are_enough() {
    let flights = flights();
    let (mut patient, leader) = join(&flights, 1);
    let leader = leader.expect("the first leads");
    assert_eq!(patient.latest(), None);
    leader.tell("on the way");
    assert_eq!(patient.latest(), Some("on the way"));
    flights.tell(&1, "there");
    assert_eq!(patient.news(|news| *news == "there").await, Some("there"));
    assert!(!flights.is_empty(), "the flight goes on until it lands");
    leader.land("landed");
    assert!(flights.is_empty());
}

#[tokio::test]
async fn all_who_join_get_the_one_landing_and_the_next_starts_anew() {
    let flights = flights();
    let (first, leader) = join(&flights, 1);
    let leader = leader.expect("the first leads");
    let others: Vec<_> = (0..100)
        .map(|_| {
            let (waiter, leader) = join(&flights, 1);
            assert!(leader.is_none());
            waiter
        })
        .collect();
    assert!(join(&flights, 2).1.is_some(), "another key is another flight");
    leader.land("landed");
    assert_eq!(first.landing().await, Some("landed"));
    for other in others {
        assert_eq!(other.landing().await, Some("landed"));
    }
    assert!(join(&flights, 1).1.is_some());
}

#[tokio::test]
async fn a_leader_that_panics_lands_as_an_error() {
    let flights = flights();
    let (waiter, leader) = join(&flights, 1);
    let task = tokio::spawn(async move {
        let _leader = leader;
        panic!("on purpose");
    });
    assert_eq!(waiter.landing().await, Some("crashed"));
    assert!(task.await.is_err());
    assert!(flights.is_empty());
}

#[tokio::test]
async fn a_deserted_flight_can_be_given_up_until_somebody_joins() {
    let flights = flights();
    let (waiter, leader) = join(&flights, 1);
    let leader = leader.expect("the first leads");
    let leader = leader.give_up().expect_err("somebody waits");
    drop(waiter);
    leader.deserted().await;
    // Between the desertion and the giving up somebody comes: the flight goes on.
    let (late, none) = join(&flights, 1);
    assert!(none.is_none());
    let leader = leader.give_up().expect_err("somebody waits");
    drop(late);
    assert!(leader.give_up().is_ok());
    assert!(flights.is_empty());
}

#[tokio::test]
async fn nobody_joins_a_flight_that_was_purged() {
    let flights = flights();
    let (before, old) = join(&flights, 1);
    let old = old.expect("the first leads");
    drop(flights.purge(|key| *key == 1));
    assert!(old.is_purged());
    let (after, new) = join(&flights, 1);
    let new = new.expect("a flight of its own");
    assert!(!new.is_purged());
    old.land("old");
    assert_eq!(flights.len(), 1, "the old landing leaves the new flight alone");
    new.land("new");
    assert_eq!((before.landing().await, after.landing().await), (Some("old"), Some("new")));
}

#[tokio::test]
async fn nothing_is_kept_of_what_a_purged_flight_brings() {
    let flights = flights();
    let (_before, old) = join(&flights, 1);
    let old = old.expect("the first leads");
    assert_eq!(old.unless_purged(|| "kept"), Some("kept"));
    drop(flights.purge(|key| *key == 1));
    assert_eq!(old.unless_purged(|| -> &str { unreachable!("it was purged") }), None);
    let (_after, new) = join(&flights, 1);
    assert_eq!(new.expect("a flight of its own").unless_purged(|| "kept"), Some("kept"));
}

#[tokio::test]
async fn what_begins_during_a_purge_is_purged_and_is_not_joined_after_it() {
    let flights = flights();
    let (_before, old) = join(&flights, 1);
    let purges = [flights.purge(|key| *key == 1), flights.purge(|key| *key < 3)];
    let (_meanwhile, during) = join(&flights, 1);
    let during = during.expect("a flight of its own");
    assert!(old.expect("the first leads").is_purged() && during.is_purged());
    assert!(join(&flights, 1).1.is_none(), "one flight for all who come meanwhile");
    assert!(!join(&flights, 3).1.expect("another key").is_purged());
    let [one, other] = purges;
    drop(one);
    assert!(join(&flights, 1).1.expect("a flight of its own").is_purged(), "the other one goes on");
    drop(other);
    assert!(!join(&flights, 1).1.expect("a flight of its own").is_purged());
}

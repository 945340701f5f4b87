//! Replicas whose shared window goes and comes back.

use std::{
    os::unix::fs::MetadataExt as _,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use futures_util::future::join_all;
use proptest::prelude::*;

use super::*;
use crate::{
    clock::Clock,
    replicas::State::Alone,
    upstream::{
        budget::{
            Lane, Ties,
            gate::{
                Group,
                tests::{BUDGET, answered, ask, attended, replica, seconds, spend},
            },
            journal::Journal,
            window::{
                Name, Window,
                scripted::{Line, Server, together},
            },
        },
        scripted::settle,
    },
};

/// As long as a request may be under way, and a minute.
const SETTLING: u64 = 80;

/// How many lookups may leave at once.
async fn may_leave(gate: &Arc<Gate>) -> usize {
    let mut count = 0;
    while let Ok(permit) = ask(gate, Lane::Lookup, 0).await {
        permit.spend(answered());
        count += 1;
    }
    count
}

async fn lose(server: &Server, replicas: &[(Arc<Gate>, Arc<Line>)]) {
    settle().await;
    server.vanish();
    let count = u32::try_from(replicas.len()).expect("few");
    replicas.iter().for_each(|(_, line)| line.say(Alone(count)));
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn alone_each_sends_its_part_of_what_was_left_and_then_its_share() {
    let server = Server::new();
    let replicas = [(); 3].map(|()| replica(&server, 60, None, together(3)));
    settle().await;
    let [a, b, c] = [0, 1, 2].map(|n| Arc::clone(&replicas[n].0));
    spend(&a, 30).await;
    spend(&b, 6).await;
    lose(&server, &replicas).await;
    // 24 were left, 8 for each; one has had more than its share already.
    assert_eq!([may_leave(&a).await, may_leave(&b).await, may_leave(&c).await], [0, 8, 8]);
    tokio::time::advance(seconds(SETTLING)).await;
    assert_eq!([may_leave(&a).await, may_leave(&b).await, may_leave(&c).await], [20, 20, 20]);
    assert_eq!(a.keys(Instant::now())[0].remaining, 0);
}

#[tokio::test(start_paused = true)]
async fn a_share_may_be_nothing_and_the_setting_says_of_how_many() {
    // limit, fallback, what the line says at the start, and what may leave
    let table = [
        (60, None, Alone(0), 60),
        (60, Some(4), Alone(0), 15),
        (60, None, Alone(3), 20),
        (2, None, Alone(3), 0),
    ];
    for (limit, fallback, state, expected) in table {
        let server = Server::new();
        server.vanish();
        let (gate, _line) = replica(&server, limit, fallback, state);
        settle().await;
        assert_eq!(may_leave(&gate).await, expected, "{limit} {fallback:?} {state:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn alone_the_reserve_is_as_small_as_the_share() {
    let server = Server::new();
    server.vanish();
    let (gate, _line) = replica(&server, 60, None, Alone(4));
    settle().await;
    let mut count = 0;
    while let Ok(permit) = ask(&gate, Lane::Warm, 0).await {
        permit.spend(answered());
        count += 1;
    }
    assert_eq!(count, 10, "a third of fifteen is left for callers");
    assert_eq!(may_leave(&gate).await, 5);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_alone_is_told_on_return_and_the_share_kept_a_while() {
    let server = Server::new();
    let replicas = [(); 2].map(|()| replica(&server, 60, None, together(2)));
    settle().await;
    let [a, b] = [0, 1].map(|n| Arc::clone(&replicas[n].0));
    lose(&server, &replicas).await;
    spend(&a, 12).await;
    let aloft = ask(&a, Lane::Lookup, 0).await.expect("alone");
    tokio::time::advance(seconds(30)).await;
    server.come_back(true);
    for (_, line) in &replicas {
        // The other one is not seen again yet.
        line.say(together(1));
    }
    settle().await;
    assert_eq!(server.held(BUDGET), 13);
    aloft.spend(answered());
    assert_eq!(may_leave(&a).await, 30 - 13, "its share");
    assert_eq!(may_leave(&b).await, 30);
    tokio::time::advance(seconds(SETTLING)).await;
    replicas[0].1.say(together(2));
    assert_eq!(may_leave(&b).await, 60, "Redis knows everything by now");
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_was_asked_for_alone_is_told_on_return() {
    let server = Server::new();
    let replicas = [(); 2].map(|()| replica(&server, 60, None, together(2)));
    settle().await;
    let [a, b] = [0, 1].map(|n| Arc::clone(&replicas[n].0));
    lose(&server, &replicas).await;
    let limited = crate::upstream::budget::gate::Report { limited: Some(seconds(40)), ..answered() };
    ask(&a, Lane::Lookup, 0).await.expect("alone").spend(limited);
    server.come_back(false);
    replicas.iter().for_each(|(_, line)| line.say(together(2)));
    settle().await;
    let refusal = ask(&b, Lane::Lookup, 2).await.expect_err("paused");
    assert!(refusal.retry_at.expect("a time") > Instant::now() + seconds(39));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_starts_asks_what_is_left_before_it_sends() {
    let server = Server::new();
    let (a, _line) = replica(&server, 6, None, together(1));
    settle().await;
    spend(&a, 6).await;
    server.vanish();
    let (b, _other) = replica(&server, 6, None, together(2));
    let began = Instant::now();
    ask(&b, Lane::Lookup, 2).await.expect_err("nobody said yet what is left");
    assert_eq!(began.elapsed(), seconds(2));
    server.come_back(false);
    settle().await;
    tokio::time::advance(seconds(1)).await;
    ask(&b, Lane::Lookup, 2).await.expect_err("nothing is left");
    assert_eq!(b.keys(Instant::now())[0].remaining, 0);
}

#[tokio::test(start_paused = true)]
async fn the_last_minute_outlives_a_restart_and_the_window_hears_of_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("journal");
    let clock = Arc::new(Clock::starting_at(SystemTime::UNIX_EPOCH + seconds(1_700_000_000)));
    let journal = || Journal::open(&path, Arc::clone(&clock), seconds(15));
    let gate = attended(9, None, Ties { window: None, journal: journal() });
    for _ in 0..3 {
        let mut permit = ask(&gate, Lane::Lookup, 0).await.expect("free");
        permit.sent();
        permit.spend(answered());
    }
    drop(ask(&gate, Lane::Lookup, 0).await.expect("free, and never sent"));
    let mut cut = ask(&gate, Lane::Lookup, 0).await.expect("free");
    cut.sent();
    // The process is killed: nothing more is said of the last one. Its file is closed, though.
    let left_behind = directory.path().join("left");
    std::fs::copy(&path, &left_behind).expect("copied");
    assert_eq!(path.metadata().expect("a file").mode() & 0o777, 0o600);
    std::fs::rename(&left_behind, &path).expect("put back");
    tokio::time::advance(seconds(20)).await;

    let server = Server::new();
    let line = server.line(together(1));
    let ties = Ties { window: Some(Arc::clone(&line) as Arc<dyn Window>), journal: journal() };
    let gate = attended(9, None, ties);
    settle().await;
    assert_eq!(server.held(BUDGET), 4);
    assert_eq!(gate.keys(Instant::now())[0].remaining, 5);
    let key = |name, after| Group { name, limit: None, after, held: true };
    gate.know(&[key(BUDGET, None), key(Name([8; 16]), Some(0))]);
    settle().await;
    assert_eq!(gate.keys(Instant::now())[1].remaining, 9, "it counts for its own key alone");
    tokio::time::advance(seconds(40)).await;
    assert_eq!(may_leave(&gate).await, 8, "the last one counts until a minute after the start");
}

#[tokio::test(start_paused = true)]
async fn what_is_said_too_fast_to_be_heard_is_asked_for() {
    let server = Server::new();
    let [(a, _a), (b, _b)] = [(); 2].map(|()| replica(&server, 200, None, together(2)));
    settle().await;
    // Nobody else gets to run meanwhile.
    spend(&a, 100).await;
    settle().await;
    assert_eq!(b.keys(Instant::now())[0].remaining, 100);
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_is_over_before_anybody_looked_is_noticed_all_the_same() {
    let server = Server::new();
    let replicas = [(); 2].map(|()| replica(&server, 60, None, together(2)));
    settle().await;
    spend(&replicas[0].0, 40).await;
    settle().await;
    server.come_back(true);
    for (_, line) in &replicas {
        line.say(Alone(2));
        line.say(together(2));
    }
    settle().await;
    assert_eq!(server.held(BUDGET), 40, "told anew");
    assert_eq!([may_leave(&replicas[0].0).await, may_leave(&replicas[1].0).await], [0, 10]);
}

#[tokio::test(start_paused = true)]
async fn so_is_one_after_which_others_are_not_seen_again_yet() {
    let server = Server::new();
    let replicas = [(); 3].map(|()| replica(&server, 60, None, together(3)));
    settle().await;
    spend(&replicas[0].0, 40).await;
    settle().await;
    server.come_back(true);
    for (_, line) in &replicas {
        line.say(Alone(3));
        line.say(together(1));
    }
    settle().await;
    assert_eq!(server.held(BUDGET), 40, "told anew");
    assert_eq!(may_leave(&replicas[1].0).await, 6, "a third of the twenty that were left");
}

#[tokio::test(start_paused = true)]
async fn what_the_window_loses_while_it_is_there_is_told_again() {
    let server = Server::new();
    let replicas = [(); 2].map(|()| replica(&server, 60, None, together(2)));
    settle().await;
    let [a, b] = [0, 1].map(|n| Arc::clone(&replicas[n].0));
    spend(&a, 40).await;
    settle().await;
    // Nobody notices anything.
    server.come_back(true);
    settle().await;
    assert_eq!(may_leave(&b).await, 10, "half of the twenty that were left");
    assert_eq!(may_leave(&a).await, 0);
    settle().await;
    assert_eq!(server.held(BUDGET), 50, "told anew");
    tokio::time::advance(seconds(SETTLING)).await;
    assert_eq!(may_leave(&b).await, 60);
}

/// What happens to the shared window, in half minutes' steps or so.
#[derive(Clone, Debug)]
struct Outage {
    after: u64,
    lasts: u64,
    empty: bool,
    /// It loses all it knows, and is there all the same.
    quiet: bool,
    /// How long each replica takes to notice.
    notices: Vec<u64>,
}

fn outage() -> impl Strategy<Value = Outage> {
    let notices = proptest::collection::vec(0u64..1_500, 3);
    (0u64..100_000, 1u64..150_000, any::<[bool; 2]>(), notices)
        .prop_map(|(after, lasts, [empty, quiet], notices)| Outage { after, lasts, empty, quiet, notices })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Three replicas, callers who come and go at each as they like, answers that take what they take, and a vendor that
    /// counts at any moment from departure to answer. The window vanishes and comes back, perhaps empty, and loses
    /// answers; each replica notices in its own time. At some time the key is changed. In no minute does the vendor count
    /// more than the limit with either.
    #[test]
    fn over_all_replicas_no_minute_holds_more_than_the_limit(
        limit in 1u32..16,
        changes in 0u64..450_000,
        outages in proptest::collection::vec(outage(), 0..5),
        lost in proptest::collection::vec(0u64..400_000, 0..20),
        callers in proptest::collection::vec(
            (0usize..3, 0u64..450_000, 0u64..70_000, 0u64..15_000, 0u64..=100, 0u8..10), 1..250),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let counted = runtime.expect("a runtime").block_on(async {
            let start = Instant::now();
            let server = Server::new();
            let replicas = [(); 3].map(|()| replica(&server, limit, None, together(3)));
            // All that replicas do falls on even milliseconds and outages on odd ones, so that all have heard the last
            // word: the one thing that is assumed.
            let even = move |ms: u64| start + Duration::from_millis(2 + ms / 2 * 2);
            let odd = move |ms: u64| start + Duration::from_millis(3 + ms / 2 * 2);
            let counted = Arc::new(Mutex::new([const { Vec::new() }; 2]));
            let gates = replicas.each_ref().map(|(gate, _)| Arc::clone(gate));
            let mut tasks = vec![tokio::spawn(async move {
                tokio::time::sleep_until(even(changes)).await;
                let group = |name, after| Group { name, limit: None, after, held: true };
                let groups = [group(BUDGET, None), group(Name([8; 16]), Some(0))];
                gates.iter().for_each(|gate| gate.know(&groups));
            })];
            for (which, comes, patience, takes, share, fate) in callers {
                let (gate, counted) = (Arc::clone(&replicas[which].0), Arc::clone(&counted));
                tasks.push(tokio::spawn(async move {
                    tokio::time::sleep_until(even(comes)).await;
                    let deadline = even(comes + patience);
                    let key = usize::from(gate.knows(1, None));
                    let Ok(mut permit) = gate.permit(key, Lane::Lookup, deadline).await else { return };
                    if fate == 0 {
                        return drop(permit);
                    }
                    permit.sent();
                    let takes = takes / 2 * 2;
                    let at = Instant::now() + Duration::from_millis(takes * share / 100);
                    counted.lock().expect("the lock")[key].push(at);
                    sleep(Duration::from_millis(takes)).await;
                    permit.spend(answered());
                }));
            }
            let losing = Arc::clone(&server);
            tasks.push(tokio::spawn(async move {
                let mut lost = lost;
                lost.sort_unstable();
                for at in lost {
                    tokio::time::sleep_until(odd(at)).await;
                    losing.lose_answers(2);
                }
            }));
            let lines = replicas.each_ref().map(|(_, line)| Arc::clone(line));
            tasks.push(tokio::spawn(async move {
                let mut at = 0;
                for outage in outages {
                    at += outage.after;
                    tokio::time::sleep_until(odd(at)).await;
                    if outage.quiet {
                        server.come_back(true);
                        at += 2_000;
                        continue;
                    }
                    server.vanish();
                    let telling = |state| {
                        let (lines, notices) = (&lines, &outage.notices);
                        join_all(lines.iter().zip(notices).map(move |(line, notices)| async move {
                            sleep(Duration::from_millis(notices / 2 * 2)).await;
                            line.say(state);
                        }))
                    };
                    telling(Alone(3)).await;
                    at += outage.lasts + 2_000;
                    tokio::time::sleep_until(odd(at)).await;
                    server.come_back(outage.empty);
                    telling(together(3)).await;
                    at += 2_000;
                }
            }));
            join_all(tasks).await.into_iter().for_each(|done| done.expect("no panic"));
            counted.lock().expect("the lock").clone()
        });
        for mut counted in counted {
            counted.sort_unstable();
            for (first, begin) in counted.iter().enumerate() {
                let within = counted[first..].iter().take_while(|at| **at < *begin + MINUTE).count();
                prop_assert!(within <= limit as usize, "{within} of {limit}");
            }
        }
    }
}

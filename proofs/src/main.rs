//! Plays the gateway's flights and its gate through many thousand interleavings, with a seed, so that each run plays the
//! same, and the next one where more are asked for.
//!
//! The sources under `src/` are compiled here as they stand; `stage` takes the place of `std`, `tokio` and `ring` in them.
//! What else they name is written down below, as far as they need it.
//!
//!     proofs [SCHEDULES [SEED]]        each proof so many times
//!     proofs --replay PROOF SCHEDULE   one of them once, as shuttle has printed it where it failed
//!
//! The first that fails ends it.

// Over the names that cargo gives: from here on `std::sync::Mutex` is shuttle's.
extern crate stage as ring;
extern crate stage as std;
extern crate stage as tokio;

use std::{env, process::ExitCode};

use shuttle::{
    Config, Runner,
    scheduler::{DfsScheduler, PctScheduler, RandomScheduler, Scheduler},
};

#[allow(dead_code, reason = "the gateway uses all of it, and the proofs a part")]
#[path = "../../src/lookup"]
mod lookup {
    pub(crate) mod flight;
}

#[allow(dead_code, missing_docs, reason = "the gateway uses all of it, and the proofs a part")]
#[path = "../../src/upstream"]
mod upstream {
    pub(crate) mod breaker;

    /// The gate and what is pure behind it. Redis and the file of departures stay outside.
    pub(crate) mod budget {
        use std::{sync::Arc, time::Duration};

        pub(crate) mod gate;
        pub(crate) mod log;
        pub(crate) mod pause;
        mod queue;
        mod share;
        pub(crate) mod window;

        /// The window of the unit tests, which does what the scripts do in Redis.
        #[path = "window"]
        mod rehearsal {
            use super::window::*;
            pub(super) mod scripted;
        }

        #[path = "../../../proofs/src/permits.rs"]
        pub(crate) mod permits;

        // From here on as in src/upstream/budget/mod.rs.

        #[derive(Default)]
        pub struct Ties {
            pub window: Option<Arc<dyn window::Window>>,
            pub journal: Option<journal::Journal>,
        }

        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Settings {
            pub requests_per_minute: u32,
            pub replicas_fallback: Option<u32>,
            pub reserve: Option<u32>,
            pub queue_timeout: Duration,
            pub queue_length: usize,
        }

        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Lane {
            Lookup,
            Wait,
            Warm,
        }

        /// A journal that nobody has.
        pub(crate) mod journal {
            use tokio::time::Instant;

            use super::window::{Name, Slot};

            pub enum Journal {}

            impl Journal {
                pub(super) fn departures(&mut self) -> Vec<(Name, Slot, Instant)> {
                    match *self {}
                }

                pub(super) fn departed(&self, _: Name, _: Slot) {
                    match *self {}
                }

                pub(super) fn answered(&self, _: Name, _: Slot, _: Instant) {
                    match *self {}
                }

                pub(super) fn given_back(&self, _: Name, _: Slot) {
                    match *self {}
                }
            }
        }
    }

    /// The vendor's address, which only the names of budgets are made of.
    pub(crate) type Origin = String;

    pub(crate) mod retry_after {
        pub(crate) const LONGEST: std::time::Duration = std::time::Duration::from_secs(300);
    }
}

#[allow(dead_code, unfulfilled_lint_expectations, reason = "as above; and nothing here has to be documented")]
#[path = "../../src/outcome"]
mod outcome {
    mod refusal;
    pub(crate) use refusal::{ErrorCode, Refusal};
}

/// As in src/replicas/mod.rs.
#[allow(dead_code, reason = "what Redis says is made up")]
mod replicas {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Gone {
        Silent,
        Refused,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum State {
        Together { replicas: u32, line: u64 },
        Alone(u32),
    }

    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct News {
        pub(crate) channel: String,
        pub(crate) payload: bytes::Bytes,
    }
}

mod flights;

use upstream::budget::permits;

/// How often each proof is played by each kind of chance where nothing else is said: a quarter of a minute in all.
const SCHEDULES: usize = 5_000;

/// Any.
const SEED: u64 = 20_261_122;

/// So many times, less one, the task that goes first is another, where few changes are looked for and placed well.
const DEPTH: usize = 4;

/// So many times as many are played in order, where that is done.
const IN_ORDER: usize = 10;

/// Something that is so in every interleaving.
struct Proof {
    name: &'static str,
    play: fn(),
    /// Gone through in order as well: nothing in it is left to chance.
    small: bool,
}

const PROOFS: &[Proof] = &[
    Proof { name: "whoever_joins_a_flight_gets_its_landing", play: flights::landings, small: false },
    Proof { name: "two_callers_and_one_who_leaves", play: flights::two_callers, small: true },
    Proof { name: "a_flight_hurries_with_its_most_urgent_caller", play: flights::hurry, small: false },
    Proof { name: "one_in_a_hurry_and_one_who_is_not", play: flights::two_lanes, small: true },
    Proof { name: "nothing_from_before_a_purge_is_found_after_it", play: flights::purges, small: false },
    Proof { name: "one_caller_before_a_purge_and_one_after", play: flights::one_purge, small: true },
    Proof { name: "who_waits_is_woken_by_what_others_give_back", play: permits::woken, small: false },
    Proof { name: "one_connection_and_two_who_want_it", play: permits::one_connection, small: true },
    Proof { name: "after_a_pause_all_follow_the_one_ahead", play: permits::probes, small: false },
    Proof { name: "no_minute_holds_more_than_the_limit", play: permits::minutes, small: false },
    Proof { name: "what_one_replica_gives_back_reaches_the_other", play: permits::window, small: false },
    Proof { name: "replicas_together_hold_to_one_limit", play: permits::replicas, small: false },
];

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse::<u64>().ok();
    let (schedules, seed) = match words[..] {
        [] => (SCHEDULES, SEED),
        ["--replay", name, schedule] => {
            let Some(proof) = PROOFS.iter().find(|proof| proof.name == name) else {
                eprintln!("proofs: no such proof: {name}");
                return ExitCode::FAILURE;
            };
            shuttle::replay(proof.play, schedule);
            return ExitCode::SUCCESS;
        }
        [schedules] if number(schedules).is_some() => (number(schedules).unwrap_or_default() as usize, SEED),
        [schedules, seed] if number(schedules).is_some() && number(seed).is_some() => {
            (number(schedules).unwrap_or_default() as usize, number(seed).unwrap_or_default())
        }
        _ => {
            eprintln!("usage: proofs [SCHEDULES [SEED]] | proofs --replay PROOF SCHEDULE");
            return ExitCode::FAILURE;
        }
    };
    for Proof { name, play, small } in PROOFS {
        let began = clock();
        let random = run(RandomScheduler::new_from_seed(seed, schedules), *play);
        let few = run(PctScheduler::new_from_seed(seed, DEPTH, schedules), *play);
        let mut said = format!("{random} at random, {few} by few changes");
        if *small {
            let most = schedules * IN_ORDER;
            let played = run(DfsScheduler::new(Some(most), false), *play);
            let all = if played < most { "all" } else { "the first" };
            said.push_str(&format!(", {all} {played} in order"));
        }
        println!("proofs: {name}: {said} in {:.1} s", clock() - began);
    }
    ExitCode::SUCCESS
}

/// Plays by this scheduler, and says how often.
fn run(scheduler: impl Scheduler + 'static, play: fn()) -> usize {
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    Runner::new(scheduler, config).run(play)
}

/// Seconds, for the time that a proof takes.
#[expect(clippy::disallowed_methods, reason = "the stage has the place of every other clock")]
fn clock() -> f64 {
    use std::time::{SystemTime, UNIX_EPOCH};
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

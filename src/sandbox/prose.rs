//! What is said in a call, made up from a seed: turns, a summary, and what the analysis finds.
//!
//! The same seed always gives the same words. Nobody in here exists. It knows nothing of JSON or of time beyond
//! "how far into the call".

use fastrand::Rng;

/// One thing said.
#[derive(Debug)]
pub(super) struct Turn {
    /// `agent` or `user`.
    pub(super) role: &'static str,
    /// What was said.
    pub(super) text: String,
    /// How far into the call, from 0.0 to below 1.0.
    pub(super) at: f64,
}

/// What the analysis after a call finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Findings {
    /// `positive`, `neutral` or `negative`.
    pub(super) sentiment: &'static str,
    /// What it was about.
    pub(super) topic: &'static str,
    /// Whether the caller got what was asked for.
    pub(super) resolved: bool,
    caller: &'static str,
    outcome: &'static str,
}

const CALLERS: [&str; 8] = ["Ana", "Björn", "Chidi", "Zoë", "Mei", "Oskar", "Priya", "Tomás"];
const TOPICS: [&str; 8] = [
    "a late delivery",
    "a wrong invoice",
    "an appointment",
    "a lost password",
    "a refund",
    "a change of address",
    "a broken lamp",
    "opening hours",
];
const SETTLED: [&str; 3] = [
    "It was settled on the call.",
    "A confirmation goes out by mail.",
    "A colleague will call back on Monday.",
];
const OPEN: [&str; 2] = ["It stayed open.", "The caller wants to think about it."];
const AGENT: [&str; 12] = [
    "Good morning, you have reached the front desk, what can I do for you?",
    "Let me look that up, one moment please.",
    "I can see the order here, it left our warehouse yesterday.",
    "Could you spell the street for me, please?",
    "That is done, you should have the message within a few minutes.",
    "I am sorry to hear that, let us put it right.",
    "The earliest that I can offer is Thursday at a quarter past nine.",
    "Our system says \"in transit\", which usually means one more day.",
    "May I put you through to somebody who can decide that?",
    "The invoice will be corrected, and the difference paid back.",
    "Is there anything else that I can help with?",
    "For that I need the number at the top right of the letter.",
];
const USER: [&str; 12] = [
    "Hello, yes, I am calling about something that I ordered last week.",
    "No, that is not what the letter says.",
    "Thursday does not work, what about Friday afternoon?",
    "Right. And how long will that take?",
    "I have been told that twice already.",
    "It is the café on the corner, the entrance is in the yard.",
    "Could you say that again, the line is bad.",
    "Perfect, thank you very much.",
    "The lamp came with a crack in the glass, and the switch does nothing at all.",
    "Hm. Let me get a pen.",
    "Yes.",
    "I would rather have the money back, if that is possible.",
];

/// Turns by agent and caller in turn, two at least, until they come to about `budget` bytes as JSON.
pub(super) fn turns(seed: u64, budget: usize) -> Vec<Turn> {
    let mut rng = Rng::with_seed(seed);
    let mut turns = Vec::new();
    let mut spent = 0;
    while turns.len() < 2 || spent < budget {
        let (role, phrases) = if turns.len() % 2 == 0 { ("agent", &AGENT) } else { ("user", &USER) };
        let mut text = String::from(pick(&mut rng, phrases));
        for _ in 0..rng.usize(0..3) {
            text.push(' ');
            text.push_str(pick(&mut rng, phrases));
        }
        spent += text.len() + TURN_OVERHEAD;
        turns.push(Turn { role, text, at: 0.0 });
    }
    let count = turns.len();
    for (place, turn) in turns.iter_mut().enumerate() {
        let at = place as f64 / count as f64;
        turn.at = at;
    }
    turns
}

/// Bytes of JSON around the text of a turn.
const TURN_OVERHEAD: usize = 43;

/// What the analysis finds in the call of this seed.
pub(super) fn findings(seed: u64) -> Findings {
    let mut rng = Rng::with_seed(seed);
    let resolved = rng.u8(0..4) > 0;
    let sentiment =
        pick(&mut rng, if resolved { &["positive", "neutral"] } else { &["neutral", "negative"] });
    let outcome = pick(&mut rng, if resolved { &SETTLED } else { &OPEN });
    Findings {
        sentiment,
        topic: pick(&mut rng, &TOPICS),
        resolved,
        caller: pick(&mut rng, &CALLERS),
        outcome,
    }
}

/// The summary that goes with the findings.
pub(super) fn summary(found: Findings) -> String {
    format!("{} called about {}. {}", found.caller, found.topic, found.outcome)
}

fn pick(rng: &mut Rng, from: &[&'static str]) -> &'static str {
    rng.choice(from).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_says_the_same() {
        let texts = |seed| turns(seed, 5_000).into_iter().map(|t| t.text).collect::<Vec<_>>();
        assert_eq!(texts(7), texts(7));
        assert_ne!(texts(7), texts(8));
        assert_eq!(findings(7), findings(7));
    }

    #[test]
    fn a_call_has_two_turns_at_least_and_they_follow_each_other() {
        let turns = turns(1, 0);
        assert_eq!(turns.iter().map(|t| t.role).collect::<Vec<_>>(), ["agent", "user"]);
        assert!(turns.iter().all(|t| (0.0..1.0).contains(&t.at)));
    }
}

//! The parameters of a list, and which calls they let through.
//!
//! | parameter | lets through |
//! |---|---|
//! | `page`, `limit` | the page, from 1, of `limit` calls (10; 100 at most), newest first |
//! | `agentId`, `callAgentId` | the agent's |
//! | `pathwayId`, `flowId` | the flow's |
//! | `batchId` | the batch's |
//! | `status` | this status; `active` and `in-progress` mean `ongoing` |
//! | `direction`, `callType` | this one |
//! | `search` | those with it, in any case, in an id, the room, a number or the summary |
//! | `callIds` | a JSON array of ids of either kind: these |
//! | `dateRange` | a JSON object: begun from `startDate` (or `start`, `from`) to `endDate` (`end`, `to`) |
//! | `postAnalysis` | a JSON object: settled calls whose `analyzedData` has these members with these values |
//!
//! The ends of a range belong to it; each is an ISO 8601 time or date (UTC; an end date is the whole day) or Unix
//! seconds. Other members of its object are ignored.
//!
//! Unknown parameters are ignored, an empty value is none, and of a repeated parameter the last counts. What cannot be
//! read is an error in words. This file knows nothing of HTTP.

use std::{collections::HashSet, sync::Arc, time::Duration};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde_json::{Map, Value};

use super::{
    clock::SinceEpoch,
    prose,
    record::{Call, Phase},
    render,
};

const DEFAULT_LIMIT: usize = 10;
const MAX_LIMIT: usize = 100;
const DAY: Duration = Duration::from_secs(86_400);

/// What is asked of a list.
#[derive(Debug, PartialEq)]
pub(super) struct Query {
    /// From 1.
    pub(super) page: usize,
    /// From 1 to 100.
    pub(super) limit: usize,
    agent: Option<String>,
    flow: Option<String>,
    batch: Option<String>,
    status: Option<String>,
    direction: Option<String>,
    call_type: Option<String>,
    search: Option<String>,
    ids: Option<HashSet<String>>,
    from: Option<SinceEpoch>,
    to: Option<SinceEpoch>,
    analysis: Option<Map<String, Value>>,
}

impl Query {
    /// Reads the query of a target; the error is for the caller.
    pub(super) fn read(query: &str) -> Result<Self, String> {
        let mut read = Self {
            page: 1,
            limit: DEFAULT_LIMIT,
            agent: None,
            flow: None,
            batch: None,
            status: None,
            direction: None,
            call_type: None,
            search: None,
            ids: None,
            from: None,
            to: None,
            analysis: None,
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if value.is_empty() {
                continue;
            }
            match &*name {
                "page" => read.page = count(&name, &value)?,
                "limit" => read.limit = count(&name, &value)?.min(MAX_LIMIT),
                "agentId" | "callAgentId" => read.agent = Some(value.into_owned()),
                "pathwayId" | "flowId" => read.flow = Some(value.into_owned()),
                "batchId" => read.batch = Some(value.into_owned()),
                "status" => read.status = Some(status(&value)),
                "direction" => read.direction = Some(value.into_owned()),
                "callType" => read.call_type = Some(value.into_owned()),
                "search" => read.search = Some(value.to_lowercase()),
                "callIds" => read.ids = Some(json(&name, &value)?),
                "dateRange" => (read.from, read.to) = range(&json(&name, &value)?)?,
                "postAnalysis" => read.analysis = Some(json(&name, &value)?),
                _ => {}
            }
        }
        Ok(read)
    }

    /// The page that is asked for, newest first, and how many calls match in all.
    pub(super) fn select(&self, calls: &[Arc<Call>], now: SinceEpoch) -> (Vec<Arc<Call>>, usize) {
        let matching: Vec<_> = calls.iter().rev().filter(|call| self.matches(call, now)).collect();
        let skipped = (self.page - 1).saturating_mul(self.limit);
        let page = matching.iter().skip(skipped).take(self.limit).map(|call| Arc::clone(call)).collect();
        (page, matching.len())
    }

    fn matches(&self, call: &Call, now: SinceEpoch) -> bool {
        is(self.agent.as_deref(), &call.agent_id)
            && is(self.flow.as_deref(), &call.flow_id)
            && is(self.batch.as_deref(), call.batch_id.as_deref().unwrap_or_default())
            && is(self.status.as_deref(), call.status(now))
            && is(self.direction.as_deref(), call.direction)
            && is(self.call_type.as_deref(), call.call_type)
            && self.from.is_none_or(|from| from <= call.start)
            && self.to.is_none_or(|to| call.start <= to)
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&*call.id) || ids.contains(&*call.call_id))
            && self.analysis.as_ref().is_none_or(|wanted| analysed(call, now, wanted))
            && self.search.as_ref().is_none_or(|text| mentions(call, now, text))
    }
}

fn is(wanted: Option<&str>, found: &str) -> bool {
    wanted.is_none_or(|wanted| wanted == found)
}

fn analysed(call: &Call, now: SinceEpoch, wanted: &Map<String, Value>) -> bool {
    let found = call.findings();
    call.phase(now) == Phase::Settled
        && wanted.iter().all(|(name, value)| match name.as_str() {
            "sentiment" => value == found.sentiment,
            "topic" => value == found.topic,
            "resolved" => *value == Value::Bool(found.resolved),
            _ => false,
        })
}

fn mentions(call: &Call, now: SinceEpoch, text: &str) -> bool {
    let has = |place: &str| place.to_lowercase().contains(text);
    has(&call.id)
        || has(&call.call_id)
        || has(&render::room(call))
        || has(&render::number(call.numbers.0))
        || has(&render::number(call.numbers.1))
        || (call.phase(now) == Phase::Settled && has(&prose::summary(call.findings())))
}

fn status(word: &str) -> String {
    String::from(if matches!(word, "active" | "in-progress") { "ongoing" } else { word })
}

fn count(name: &str, value: &str) -> Result<usize, String> {
    value.parse().ok().filter(|n| *n > 0).ok_or_else(|| format!("{name} is not a number from 1"))
}

fn json<T: serde::de::DeserializeOwned>(name: &str, value: &str) -> Result<T, String> {
    serde_json::from_str(value).map_err(|_| format!("{name} is not the JSON that is expected"))
}

fn range(members: &Map<String, Value>) -> Result<(Option<SinceEpoch>, Option<SinceEpoch>), String> {
    let member = |names: [&str; 3]| names.iter().find_map(|name| members.get(*name).filter(|v| !v.is_null()));
    let from =
        member(["startDate", "start", "from"]).map(|value| point(value, Duration::ZERO)).transpose()?;
    let to = member(["endDate", "end", "to"])
        .map(|value| point(value, DAY - Duration::from_nanos(1)))
        .transpose()?;
    Ok((from, to))
}

/// A point in time; to a bare date `into_day` is added.
fn point(value: &Value, into_day: Duration) -> Result<SinceEpoch, String> {
    let unreadable = || String::from("dateRange holds a time that is not readable");
    if let Some(seconds) = value.as_f64() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| unreadable());
    }
    let text = value.as_str().ok_or_else(unreadable)?;
    let (time, more) = match (text.parse::<Timestamp>(), text.parse::<Date>()) {
        (Ok(time), _) => (time, Duration::ZERO),
        (Err(_), Ok(date)) => (date.to_zoned(TimeZone::UTC).map_err(|_| unreadable())?.timestamp(), into_day),
        (Err(_), Err(_)) => return Err(unreadable()),
    };
    Duration::try_from(time.as_duration()).map(|since| since + more).map_err(|_| unreadable())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::book::{Book, Plan};

    const NOW: SinceEpoch = Duration::from_secs(1_775_000_000);

    fn book() -> Book {
        let plan = Plan {
            seed: 1,
            call_length: Duration::from_secs(45),
            analysis_delay: Duration::from_secs(20),
            body_size: 1_000..=2_000,
        };
        Book::open(plan, 200, NOW)
    }

    fn encoded(name: &str, value: &str) -> String {
        form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish()
    }

    /// All that a parameter lets through.
    fn all(book: &Book, name: &str, value: &str) -> Vec<Arc<Call>> {
        let mut query = Query::read(&encoded(name, value)).expect("a sound query");
        query.limit = usize::MAX;
        query.select(book.calls(), NOW).0
    }

    #[test]
    fn pages_are_ten_calls_newest_first() {
        let book = book();
        let query = |text| Query::read(text).expect("sound").select(book.calls(), NOW);
        let (first, total) = query("");
        assert_eq!((first.len(), total), (10, 200));
        assert!(first.is_sorted_by(|a, b| a.start >= b.start));
        let (seventh, _) = query("page=7&limit=3");
        assert_eq!(seventh[0].id, query("limit=100").0[18].id);
        assert_eq!(query("page=21").0.len(), 0);
        assert_eq!(query("limit=1000").0.len(), 100);
        assert_eq!(query("page=18446744073709551615&limit=100").0.len(), 0);
    }

    #[test]
    fn each_filter_lets_through_what_it_names_and_nothing_else() {
        let book = book();
        let model = book.calls().iter().find(|call| call.batch_id.is_some()).expect("one of a batch");
        let summary = prose::summary(book.calls()[0].findings());
        let found = book.calls()[0].findings();
        type Check<'a> = Box<dyn Fn(&Call) -> bool + 'a>;
        let number = render::number(model.numbers.0);
        let cases: Vec<(&str, &str, Check<'_>)> = vec![
            ("agentId", &model.agent_id, Box::new(|c| c.agent_id == model.agent_id)),
            ("callAgentId", &model.agent_id, Box::new(|c| c.agent_id == model.agent_id)),
            ("pathwayId", &model.flow_id, Box::new(|c| c.flow_id == model.flow_id)),
            ("flowId", &model.flow_id, Box::new(|c| c.flow_id == model.flow_id)),
            (
                "batchId",
                model.batch_id.as_deref().expect("a batch"),
                Box::new(|c| c.batch_id == model.batch_id),
            ),
            ("status", "completed", Box::new(|c| c.end <= NOW && !c.fails)),
            ("status", "failed", Box::new(|c| c.end <= NOW && c.fails)),
            ("status", "ongoing", Box::new(|c| c.end > NOW)),
            ("status", "in-progress", Box::new(|c| c.end > NOW)),
            ("direction", "outbound", Box::new(|c| c.direction == "outbound")),
            ("callType", "web", Box::new(|c| c.call_type == "web")),
            (
                "search",
                &number,
                Box::new(|c| c.numbers.0 == model.numbers.0 || c.numbers.1 == model.numbers.0),
            ),
            ("search", &summary, Box::new(|c| c.end < NOW && prose::summary(c.findings()) == summary)),
            (
                "postAnalysis",
                r#"{"sentiment":"positive","resolved":true}"#,
                Box::new(|c| c.end <= NOW && c.findings().sentiment == "positive" && c.findings().resolved),
            ),
        ];
        for (name, value, expected) in cases {
            let through = all(&book, name, value);
            assert!(!through.is_empty(), "{name}={value}");
            assert_eq!(through.len(), book.calls().iter().filter(|c| expected(c)).count(), "{name}={value}");
            assert!(through.iter().all(|call| expected(call)), "{name}={value}");
        }
        assert!(all(&book, "postAnalysis", &format!(r#"{{"topic":"{}","mood":1}}"#, found.topic)).is_empty());
    }

    #[test]
    fn call_ids_of_either_kind_name_their_calls() {
        let book = book();
        let (one, two) = (&book.calls()[3], &book.calls()[5]);
        let through = all(&book, "callIds", &format!(r#"["{}","{}","unknown"]"#, one.id, two.call_id));
        assert_eq!(through.iter().map(|c| &c.id).collect::<Vec<_>>(), [&two.id, &one.id]);
        assert!(all(&book, "callIds", "[]").is_empty());
    }

    #[test]
    fn a_date_range_takes_times_dates_and_seconds_inclusive() {
        let book = book();
        let newest = book.calls().last().expect("some").start;
        let oldest = book.calls()[0].start;
        let through = |range: &str| all(&book, "dateRange", range).len();
        let on_and_after = |from: SinceEpoch| book.calls().iter().filter(|call| call.start >= from).count();
        let midnight = Duration::from_secs(1_774_915_200); // 2026-03-31
        let last_week = midnight - 7 * DAY;
        assert_eq!(through("{}"), 200);
        assert_eq!(through(r#"{"startDate":"2026-03-24T00:00:00Z"}"#), on_and_after(last_week));
        assert_eq!(through(r#"{"start":"2026-03-24"}"#), on_and_after(last_week));
        assert_eq!(through(r#"{"from":1774310400}"#), on_and_after(last_week));
        assert_eq!(through(r#"{"endDate":"2026-03-23"}"#), 200 - on_and_after(last_week));
        assert_eq!(through(r#"{"from":1774310400,"to":1774310399}"#), 0);
        assert_eq!(through(r#"{"startDate":null,"unknown":1}"#), 200);
        assert!(oldest < last_week && last_week < newest);
    }

    #[test]
    fn unknown_and_empty_parameters_are_ignored() {
        assert_eq!(Query::read("tab=1&_=17&agentId=&page="), Query::read(""));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_that_names_the_parameter() {
        for (query, name) in [
            ("page=0", "page"),
            ("limit=ten", "limit"),
            ("callIds=abc", "callIds"),
            ("callIds=%5B1%5D", "callIds"),
            ("dateRange=%5B%5D", "dateRange"),
            ("dateRange=%7B%22start%22%3A%22soon%22%7D", "dateRange"),
            ("dateRange=%7B%22start%22%3A-1%7D", "dateRange"),
            ("postAnalysis=1", "postAnalysis"),
        ] {
            assert!(Query::read(query).expect_err(query).starts_with(name), "{query}");
        }
    }
}

//! A call as the vendor writes it: the JSON of a lookup, and the shorter one of a list.
//!
//! Members stand in the order of the vendor's reference. What is written after a call (`summary`, `analyzedData`,
//! `cost`) and `endTime` are absent until they are known. In lists there is no transcript, and `cost` is a bare
//! number. The settled body of a call is rendered once and shared.

use std::{io::Write as _, sync::Arc, time::Duration};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use serde::Serialize;

use super::{
    clock::{SinceEpoch, iso},
    record::{Call, Phase},
};

/// What is written into records besides their own facts: the truth, or what a fault wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slant<'a> {
    /// `workspaceId`.
    pub(super) workspace_id: &'a str,
    /// Another call's ids in place of its own.
    pub(super) wrong_id: bool,
    /// Something to repeat in `metadata`.
    pub(super) echo: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    #[serde(rename = "_id")]
    id: String,
    call_id: String,
    workspace_id: &'a str,
    agent_id: &'a str,
    call_flow_id: &'a str,
    room_name: String,
    call_type: &'a str,
    direction: &'a str,
    from_phone_number: String,
    to_phone_number: String,
    status: &'a str,
    start_time: Seconds,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<Cost>,
    metadata: Metadata<'a>,
    function_calls: Vec<FunctionCall>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    analyzed_data: Option<AnalyzedData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transcript: Option<Vec<Line>>,
    created_at: String,
    updated_at: String,
}

/// Unix seconds: a whole number where the time is whole.
#[derive(Serialize)]
#[serde(untagged)]
enum Seconds {
    Whole(u64),
    Fraction(f64),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Cost {
    Itemized { customer_charge: f64 },
    Bare(f64),
}

#[derive(Serialize)]
struct Metadata<'a> {
    #[serde(rename = "batchId", skip_serializing_if = "Option::is_none")]
    batch_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    echo: Option<&'a str>,
}

#[derive(Serialize)]
struct FunctionCall {
    name: &'static str,
    arguments: serde_json::Value,
    result: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AnalyzedData {
    sentiment: &'static str,
    topic: &'static str,
    resolved: bool,
}

#[derive(Serialize)]
struct Line {
    role: &'static str,
    text: String,
    /// Seconds into the call.
    time: f64,
}

/// The body of a lookup.
pub(super) fn lookup(call: &Call, now: SinceEpoch, slant: Slant<'_>) -> Bytes {
    json(&record(call, now, slant, true))
}

/// The body of a lookup without a slant: cheap where the call is settled.
pub(super) fn lookup_settled_once(call: &Call, now: SinceEpoch, slant: Slant<'_>) -> Bytes {
    match call.phase(now) {
        Phase::Settled => call.body.get_or_init(|| lookup(call, now, slant)).clone(),
        Phase::Ongoing | Phase::Ended => lookup(call, now, slant),
    }
}

/// What v2 says around the array of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    /// How many calls match.
    pub(super) total: usize,
    /// Which page of them this is, from 1.
    pub(super) page: usize,
    /// How many there are on a page.
    pub(super) limit: usize,
}

/// The body of a list: an object that holds the array under `calls` where there is a `page` to tell of, else bare.
pub(super) fn list(calls: &[Arc<Call>], page: Option<Page>, now: SinceEpoch, slant: Slant<'_>) -> Bytes {
    #[derive(Serialize)]
    struct Envelope<'a> {
        calls: Vec<Record<'a>>,
        total: usize,
        page: usize,
        limit: usize,
    }
    let calls: Vec<_> = calls.iter().map(|call| record(call, now, slant, false)).collect();
    match page {
        Some(Page { total, page, limit }) => json(&Envelope { calls, total, page, limit }),
        None => json(&calls),
    }
}

/// Any value as a body.
pub(super) fn json(value: &impl Serialize) -> Bytes {
    // Nothing that is rendered here can fail to be JSON; an empty body would be seen at once.
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// The same bytes compressed.
pub(super) fn gzip(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // A vector takes all that it is given.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default().into()
}

fn record<'a>(call: &'a Call, now: SinceEpoch, slant: Slant<'a>, whole: bool) -> Record<'a> {
    let phase = call.phase(now);
    let settled = phase == Phase::Settled;
    let found = call.findings();
    let customer_charge = call.charge();
    Record {
        id: id(&call.id, slant.wrong_id),
        call_id: id(&call.call_id, slant.wrong_id),
        workspace_id: slant.workspace_id,
        agent_id: &call.agent_id,
        call_flow_id: &call.flow_id,
        room_name: room(call),
        call_type: call.call_type,
        direction: call.direction,
        from_phone_number: number(call.numbers.0),
        to_phone_number: number(call.numbers.1),
        status: call.status(now),
        start_time: seconds(call.start),
        end_time: (phase != Phase::Ongoing).then(|| seconds(call.end)),
        cost: settled.then_some(if whole {
            Cost::Itemized { customer_charge }
        } else {
            Cost::Bare(customer_charge)
        }),
        metadata: Metadata { batch_id: call.batch_id.as_deref(), echo: slant.echo },
        function_calls: function_calls(call),
        summary: settled.then(|| super::prose::summary(found)),
        analyzed_data: settled.then_some(AnalyzedData {
            sentiment: found.sentiment,
            topic: found.topic,
            resolved: found.resolved,
        }),
        transcript: whole.then(|| transcript(call, now)),
        created_at: iso(call.start),
        updated_at: iso(call.updated(now)),
    }
}

/// The room, `web-1234abcd`.
pub(super) fn room(call: &Call) -> String {
    format!("{}-{:08x}", call.call_type, call.seed & 0xffff_ffff)
}

/// A number in E.164, of a range that reaches nobody.
pub(super) fn number(last: u16) -> String {
    format!("+1555010{last:04}")
}

fn transcript(call: &Call, now: SinceEpoch) -> Vec<Line> {
    let line = |turn: super::prose::Turn| {
        let time = Duration::from_millis(u64::try_from(call.offset(&turn).as_millis()).unwrap_or(u64::MAX));
        Line { role: turn.role, text: turn.text, time: time.as_secs_f64() }
    };
    call.turns(now).into_iter().map(line).collect()
}

fn function_calls(call: &Call) -> Vec<FunctionCall> {
    let looked_up = FunctionCall {
        name: "lookup_order",
        arguments: serde_json::json!({ "order": call.seed % 100_000 }),
        result: "found",
    };
    if call.seed.is_multiple_of(3) { vec![looked_up] } else { Vec::new() }
}

fn seconds(at: SinceEpoch) -> Seconds {
    if at.subsec_nanos() == 0 { Seconds::Whole(at.as_secs()) } else { Seconds::Fraction(at.as_secs_f64()) }
}

/// The id, or one that differs in its last digit.
fn id(id: &str, wrong: bool) -> String {
    let mut id = String::from(id);
    if wrong && let Some(last) = id.pop() {
        id.push(if last == '0' { '1' } else { '0' });
    }
    id
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::sandbox::book::{Book, Plan, tests::call_lasting};

    const TRUE: Slant<'_> = Slant { workspace_id: "ws-1", wrong_id: false, echo: None };

    fn read(body: &[u8]) -> Value {
        serde_json::from_slice(body).expect("JSON")
    }

    #[test]
    fn summary_analysis_and_cost_come_after_the_call_has_ended() {
        let call = call_lasting(Duration::from_secs(45), Duration::from_secs(20));
        let at = |after| read(&lookup(&call, call.start + Duration::from_secs(after), TRUE));
        let late = ["endTime", "cost", "summary", "analyzedData"];
        let present = |record: &Value| late.map(|name| record.get(name).is_some());
        assert_eq!(present(&at(30)), [false; 4]);
        assert_eq!(present(&at(50)), [true, false, false, false]);
        assert_eq!(present(&at(70)), [true; 4]);
        assert_ne!(at(50)["updatedAt"], at(70)["updatedAt"]);
    }

    #[test]
    fn a_lookup_has_every_member_of_the_reference() {
        let call = call_lasting(Duration::from_secs(45), Duration::ZERO);
        let record = read(&lookup(&call, call.settled, TRUE));
        for name in ["_id", "callId", "workspaceId", "agentId", "callFlowId", "roomName", "direction"] {
            assert!(record[name].is_string(), "{name}");
        }
        for name in ["fromPhoneNumber", "toPhoneNumber"] {
            assert!(record[name].as_str().expect(name).starts_with("+1555010"), "{name}");
        }
        for name in ["status", "summary", "createdAt", "updatedAt"] {
            assert!(record[name].is_string(), "{name}");
        }
        assert!(record["startTime"].is_number() && record["endTime"].is_number());
        assert!(record["cost"]["customer_charge"].is_number());
        assert!(record["metadata"].is_object() && record["functionCalls"].is_array());
        assert!(record["analyzedData"].is_object() && record["transcript"].is_array());
    }

    #[test]
    fn in_a_list_the_cost_is_a_bare_number_and_there_is_no_transcript() {
        let call = call_lasting(Duration::from_secs(45), Duration::ZERO);
        let page = Page { total: 1, page: 1, limit: 10 };
        let bare = read(&list(std::slice::from_ref(&call), None, call.settled, TRUE));
        let wrapped = read(&list(std::slice::from_ref(&call), Some(page), call.settled, TRUE));
        assert_eq!(bare, wrapped["calls"]);
        assert!(bare[0]["cost"].is_number());
        assert!(bare[0].get("transcript").is_none());
    }

    #[test]
    fn bodies_run_from_1_to_50_kb() {
        let plan = Plan {
            seed: 1,
            call_length: Duration::ZERO,
            analysis_delay: Duration::ZERO,
            body_size: 1_100..=49_000,
        };
        let now = Duration::from_secs(1_775_000_000);
        let book = Book::open(plan, 500, now);
        let sizes: Vec<usize> = book.calls().iter().map(|call| lookup(call, now, TRUE).len()).collect();
        assert!(sizes.iter().all(|size| (1_000..=50 * 1_024).contains(size)), "{:?}", sizes.iter().min());
        assert!(sizes.iter().any(|size| *size > 40_000) && sizes.iter().any(|size| *size < 1_500));
    }

    #[test]
    fn a_settled_body_is_rendered_once() {
        let call = call_lasting(Duration::from_secs(45), Duration::ZERO);
        let first = lookup_settled_once(&call, call.settled, TRUE);
        let second = lookup_settled_once(&call, call.settled + Duration::from_secs(9), TRUE);
        assert_eq!(first.as_ptr(), second.as_ptr());
    }

    #[test]
    fn a_slant_shows_in_the_record() {
        let call = call_lasting(Duration::from_secs(45), Duration::ZERO);
        let slant = Slant { workspace_id: "ws-2", wrong_id: true, echo: Some("key") };
        let record = read(&lookup(&call, call.settled, slant));
        assert_ne!(record["_id"], *call.id);
        assert_ne!(record["callId"], *call.call_id);
        assert_eq!((&record["workspaceId"], &record["metadata"]["echo"]), (&"ws-2".into(), &"key".into()));
    }
}

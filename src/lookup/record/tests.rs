//! Tables and properties of the record reader.

use proptest::prelude::*;

use super::*;

const ID: &str = "69cf4b468d2a8a6a8e39b684";

fn asked() -> CallId {
    CallId::parse(ID.as_bytes()).expect("an id")
}

fn check(body: &str) -> Reading {
    read(body.as_bytes(), &asked(), "ws-1")
}

fn facts(status: Option<&str>, ended: Option<i64>, updated: Option<i64>) -> Reading {
    Reading::Record(Facts {
        status: status.map(str::to_owned),
        started: None,
        ended: ended.map(UnixMillis),
        updated: updated.map(UnixMillis),
    })
}

fn suspect(why: Suspicion) -> Reading {
    Reading::Suspect(why)
}

#[test]
fn the_record_is_found_in_call_then_in_data_then_at_the_top() {
    let done = || facts(Some("completed"), None, None);
    let table = [
        (format!(r#"{{"_id":"{ID}","status":"completed"}}"#), done()),
        (format!(r#"{{"call":{{"_id":"{ID}","status":"completed"}}}}"#), done()),
        (format!(r#"{{"data":{{"callId":"{ID}","status":"completed"}}}}"#), done()),
        // The first of them that holds an id wins, whatever the others say.
        (
            format!(r#"{{"_id":"{ID}","status":"ongoing","call":{{"_id":"{ID}","status":"completed"}}}}"#),
            done(),
        ),
        (
            format!(
                r#"{{"data":{{"_id":"{ID}","status":"ongoing"}},"call":{{"_id":"{ID}","status":"completed"}}}}"#
            ),
            done(),
        ),
        // A wrapper without an id is no record, and neither is one that is no object.
        (format!(r#"{{"_id":"{ID}","status":"completed","call":{{"status":"ongoing"}}}}"#), done()),
        (format!(r#"{{"_id":"{ID}","status":"completed","call":[{{"_id":"x"}}],"data":7}}"#), done()),
        (format!(r#"{{"_id":"{ID}","status":"completed","call":{{"_id":null}}}}"#), done()),
        // Either id will do.
        (format!(r#"{{"_id":"other","callId":"{ID}","status":"completed"}}"#), done()),
        // Wrappers are looked into once.
        (format!(r#"{{"call":{{"data":{{"_id":"{ID}"}}}}}}"#), suspect(Suspicion::NoId)),
    ];
    for (body, expected) in table {
        assert_eq!(check(&body), expected, "{body}");
    }
}

#[test]
fn statuses_are_trimmed_and_lowered_and_nothing_more() {
    let table = [
        (r#""status":"completed""#, Some("completed")),
        (r#""status":" COMPLETED\n""#, Some("completed")),
        (r#""\u0073tatus":"fa\u0069led""#, Some("failed")),
        (r#""status":"in-progress""#, Some("in-progress")),
        (r#""status":"""#, Some("")),
        (r#""status":null"#, None),
        (r#""Status":"completed""#, None),
        (r#""x":1"#, None),
    ];
    for (member, expected) in table {
        let body = format!(r#"{{"_id":"{ID}",{member}}}"#);
        assert_eq!(check(&body), facts(expected, None, None), "{body}");
    }
}

#[test]
fn times_are_read_in_every_shape_that_was_seen() {
    let table = [
        ("1680000300", Some(1_680_000_300_000)),
        ("1737062894.9754236", Some(1_737_062_894_975)),
        ("1680000300000", Some(1_680_000_300_000)),
        ("1680000300000000", Some(1_680_000_300_000)),
        (r#""1680000300""#, Some(1_680_000_300_000)),
        (r#""2025-01-01T10:05:00Z""#, Some(1_735_725_900_000)),
        (r#""2025-01-01T10:05:00.250Z""#, Some(1_735_725_900_250)),
        (r#""2025-01-01T12:05:00+02:00""#, Some(1_735_725_900_000)),
        // Without an offset it may be off by half a day: not read.
        (r#""2025-01-01T10:05:00""#, None),
        (r#""yesterday""#, None),
        ("0", None),
        ("-5", None),
        ("1e300", None),
        ("null", None),
        ("true", None),
        ("{}", None),
        (r#""NaN""#, None),
        (r#""""#, None),
    ];
    for (value, expected) in table {
        let body = format!(r#"{{"_id":"{ID}","status":"failed","endTime":{value}}}"#);
        assert_eq!(check(&body), facts(Some("failed"), expected, None), "{body}");
        let body = format!(r#"{{"_id":"{ID}","status":"failed","updatedAt":{value}}}"#);
        assert_eq!(check(&body), facts(Some("failed"), None, expected), "{body}");
    }
}

#[test]
fn what_cannot_be_trusted_is_named() {
    use Suspicion::{DuplicateMember, MemberType, NoId, NotAnObject, OtherId};
    let table = [
        (String::new(), NotAnObject),
        ("<html></html>".into(), NotAnObject),
        ("null".into(), NotAnObject),
        ("[]".into(), NotAnObject),
        (format!(r#"[{{"_id":"{ID}"}}]"#), NotAnObject),
        (format!(r#""{ID}""#), NotAnObject),
        (format!("\u{feff}{{\"_id\":\"{ID}\"}}"), NotAnObject),
        (format!(r#"{{"_id":"{ID}"}}{{"_id":"{ID}"}}"#), NotAnObject),
        (format!(r#"{{"_id":"{ID}","cost":NaN}}"#), NotAnObject),
        (format!(r#"{{"_id":"{ID}","status":"compl"#), NotAnObject),
        (format!(r#"{{"_id":"{ID}",}}"#), NotAnObject),
        ("{}".into(), NoId),
        (r#"{"_id":null,"status":"completed"}"#.into(), NoId),
        (r#"{"_id":"another","status":"completed"}"#.into(), OtherId),
        (format!(r#"{{"_id":"{}","status":"completed"}}"#, ID.to_uppercase()), OtherId),
        (r#"{"_id":7}"#.into(), MemberType),
        (format!(r#"{{"_id":{{"$oid":"{ID}"}}}}"#), MemberType),
        (format!(r#"{{"_id":"{ID}","status":7}}"#), MemberType),
        (format!(r#"{{"_id":"{ID}","status":["completed"]}}"#), MemberType),
        (format!(r#"{{"_id":"{ID}","status":true}}"#), MemberType),
        (format!(r#"{{"_id":"{ID}","workspaceId":7}}"#), MemberType),
        (format!(r#"{{"_id":"{ID}","status":"ongoing","status":"completed"}}"#), DuplicateMember),
        (format!(r#"{{"_id":"{ID}","status":"completed","\u0073tatus":"ongoing"}}"#), DuplicateMember),
        (format!(r#"{{"_id":"{ID}","status":null,"status":"completed"}}"#), DuplicateMember),
        (format!(r#"{{"_id":"x","_id":"{ID}"}}"#), DuplicateMember),
        (format!(r#"{{"_id":"{ID}","endTime":1,"endTime":2}}"#), DuplicateMember),
        (format!(r#"{{"call":{{"_id":"{ID}"}},"call":{{"_id":"{ID}"}}}}"#), DuplicateMember),
        (format!(r#"{{"call":"x","call":{{"_id":"{ID}"}}}}"#), DuplicateMember),
        // Whoever takes the last of two finds the record in `call`.
        (
            format!(
                r#"{{"_id":"{ID}","status":"failed","call":{{"_id":null,"_id":"{ID}","status":"ongoing"}}}}"#
            ),
            DuplicateMember,
        ),
    ];
    for (body, expected) in table {
        assert_eq!(check(&body), suspect(expected), "{body}");
    }
    assert_eq!(read(&[b'{', 0xff, b'}'], &asked(), "ws-1"), suspect(NotAnObject));
    let utf16: Vec<u8> = format!(r#"{{"_id":"{ID}"}}"#).encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(read(&utf16, &asked(), "ws-1"), suspect(NotAnObject));
}

#[test]
fn a_member_that_does_not_count_may_come_twice() {
    let body = format!(r#"{{"_id":"{ID}","status":"failed","summary":"a","summary":"b"}}"#);
    assert_eq!(check(&body), facts(Some("failed"), None, None));
}

#[test]
fn another_workspace_outweighs_everything_else() {
    let own = format!(r#"{{"_id":"{ID}","workspaceId":"ws-1","status":"failed"}}"#);
    assert_eq!(check(&own), facts(Some("failed"), None, None));
    for body in [
        format!(r#"{{"_id":"{ID}","workspaceId":"ws-2"}}"#),
        r#"{"_id":"another","workspaceId":"ws-2"}"#.into(),
        r#"{"workspaceId":"ws-2"}"#.into(),
        format!(r#"{{"call":{{"_id":"{ID}","workspaceId":"ws-2"}}}}"#),
        format!(r#"{{"data":{{"_id":"{ID}"}},"workspaceId":"ws-2"}}"#),
        format!(r#"{{"_id":"{ID}","workspaceId":"ws-1","workspaceId":"ws-2"}}"#),
        format!(r#"{{"_id":"{ID}","workspaceId":"ws-2","workspaceId":"ws-1"}}"#),
    ] {
        assert_eq!(check(&body), Reading::ForeignWorkspace, "{body}");
    }
}

#[test]
fn nesting_is_allowed_to_the_limit_and_not_beyond() {
    let nested = |depth: usize| {
        // The object itself is the first level.
        let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
        format!(r#"{{"_id":"{ID}","brackets in text":"[[[\"[[[\\","deep":{open}{close}}}"#)
    };
    assert_eq!(check(&nested(MAX_DEPTH)), facts(None, None, None));
    assert_eq!(check(&nested(MAX_DEPTH + 1)), suspect(Suspicion::TooDeep));
    assert_eq!(check(&"[".repeat(100_000)), suspect(Suspicion::TooDeep));
    assert_eq!(check(&r#"{"a":"#.repeat(100_000)), suspect(Suspicion::TooDeep));
}

proptest! {
    #[test]
    fn any_bytes_are_survived(body in proptest::collection::vec(any::<u8>(), 0..400)) {
        let reading = read(&body, &asked(), "ws-1");
        prop_assert!(!matches!(reading, Reading::Record(_)));
    }

    #[test]
    fn any_json_like_text_is_survived(body in r#"[{}\[\]",:\\ a0truenulfs_idcallIdstatus]{0,200}"#) {
        let _ = check(&body);
    }

    #[test]
    fn the_reading_does_not_depend_on_the_order_of_members_nor_on_what_stands_between(
        order in Just(vec![0usize, 1, 2, 3, 4]).prop_shuffle(),
        noise in r#"[a-zA-Z0-9 \[\]{}:,]{0,40}"#,
    ) {
        let members = [
            format!(r#""_id":"{ID}""#),
            r#""status":"Completed""#.to_owned(),
            r#""endTime":1680000300"#.to_owned(),
            r#""workspaceId":"ws-1""#.to_owned(),
            format!(r#""summary":"{noise}""#),
        ];
        let body: Vec<_> = order.iter().map(|&i| members[i].clone()).collect();
        let body = format!("{{{}}}", body.join(" ,\n"));
        prop_assert_eq!(check(&body), facts(Some("completed"), Some(1_680_000_300_000), None));
    }

    #[test]
    fn what_is_left_out_before_parsing_changes_no_reading(
        turns in proptest::collection::vec(
            prop_oneof![
                3 => r#"[a-zé ]{20,60}"#.prop_map(|text| format!(r#"{{"text":"{text}"}}"#)),
                1 => r#"([a-z]{30,40}|["\\\n\[\]{},:u]){0,8}"#.prop_map(|text| format!(r#"["{text}"]"#)),
            ],
            0..4,
        ),
        wrapped in any::<bool>(),
        end in proptest::sample::select(vec!["", "}", "}}", "]}", "\"]}"]),
    ) {
        let wrapper = if wrapped { r#"{"call":"# } else { "" };
        let turns = turns.join(",");
        let body = format!(r#"{wrapper}{{"_id":"{ID}","status":"completed","turns":[{turns}]{end}"#);
        prop_assert_eq!(check(&body), parse(&body, &asked(), "ws-1"));
    }

    #[test]
    fn a_truncated_record_is_never_a_record(cut in 1usize..80) {
        let body = format!(r#"{{"_id":"{ID}","status":"completed","endTime":1680000300,"a":"bcdefghij"}}"#);
        let cut = body.len().saturating_sub(cut);
        prop_assert!(!matches!(check(&body[..cut]), Reading::Record(_)));
    }
}

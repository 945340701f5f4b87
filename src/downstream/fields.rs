//! What the fields of a request's head say that this side wants to know, read in one pass.
//!
//! A field that a caller sends costs a look at its name here, and nothing elsewhere: who needs a rare one asks here
//! first whether it came at all. Pure, and without an allocation. It decides nothing.

use http::{HeaderMap, HeaderValue, header};

/// A field that may be there once.
#[derive(Clone, Copy, Default)]
pub enum Single<'a> {
    /// It is not there.
    #[default]
    Absent,
    /// It is, with this value.
    Once(&'a HeaderValue),
    /// It is more than once.
    Repeated,
}

impl<'a> Single<'a> {
    fn add(&mut self, value: &'a HeaderValue) {
        *self = match self {
            Self::Absent => Self::Once(value),
            Self::Once(_) | Self::Repeated => Self::Repeated,
        };
    }

    /// The value, where there is just one.
    #[must_use]
    pub fn once(self) -> Option<&'a HeaderValue> {
        match self {
            Self::Once(value) => Some(value),
            Self::Absent | Self::Repeated => None,
        }
    }
}

/// What the fields of a head say that matters here.
#[derive(Default)]
pub struct Fields<'a> {
    /// How many there are.
    pub(super) count: usize,
    /// Their names and values, and four for each one's punctuation.
    pub(super) bytes: usize,
    /// A transfer coding, or a content length that is not exactly one `0`.
    pub(super) framed: bool,
    /// Content lengths.
    pub(super) lengths: usize,
    /// Transfer codings.
    pub(super) codings: usize,
    /// A transfer coding other than `chunked`.
    pub(super) ambiguous: bool,
    /// `host`
    pub(super) host: Single<'a>,
    /// `origin`
    pub(super) origin: Single<'a>,
    /// A `sec-fetch-site` tells of a page that is not this endpoint's own.
    pub(super) cross_site: bool,
    /// How many `x-workspace-id` there are.
    pub(super) workspaces: usize,
    /// The first of them.
    pub(super) workspace: Option<&'a HeaderValue>,
    /// The first `x-request-id`.
    pub request_id: Option<&'a HeaderValue>,
    /// `traceparent`: two are none (W3C Trace Context §3.2.1).
    pub traceparent: Single<'a>,
    /// There is a `cache-control` or a `pragma`.
    pub(super) directed: bool,
    /// There is a `prefer`.
    pub(super) preferring: bool,
    /// There is an `if-none-match`.
    pub(super) conditional: bool,
}

impl<'a> Fields<'a> {
    /// Reads them.
    #[must_use]
    pub fn read(headers: &'a HeaderMap) -> Self {
        let mut fields = Self { count: headers.len(), ..Self::default() };
        for (name, value) in headers {
            fields.bytes += name.as_str().len() + value.len() + 4;
            match *name {
                header::HOST => fields.host.add(value),
                header::ORIGIN => fields.origin.add(value),
                header::TRANSFER_ENCODING => {
                    fields.framed = true;
                    fields.codings += 1;
                    fields.ambiguous |= !value.as_bytes().eq_ignore_ascii_case(b"chunked");
                }
                header::CONTENT_LENGTH => {
                    fields.lengths += 1;
                    fields.framed |= fields.lengths > 1 || value != "0";
                }
                header::CACHE_CONTROL | header::PRAGMA => fields.directed = true,
                header::IF_NONE_MATCH => fields.conditional = true,
                _ => match name.as_str() {
                    "x-request-id" => fields.request_id = fields.request_id.or(Some(value)),
                    "traceparent" => fields.traceparent.add(value),
                    "x-workspace-id" => {
                        fields.workspaces += 1;
                        fields.workspace = fields.workspace.or(Some(value));
                    }
                    "sec-fetch-site" => fields.cross_site |= is_cross_site(value),
                    "prefer" => fields.preferring = true,
                    _ => {}
                },
            }
        }
        fields
    }
}

/// Whether a `Sec-Fetch-Site` tells of a page that is not this endpoint's own.
fn is_cross_site(value: &HeaderValue) -> bool {
    let value = value.as_bytes().trim_ascii();
    value.eq_ignore_ascii_case(b"cross-site") || value.eq_ignore_ascii_case(b"same-site")
}

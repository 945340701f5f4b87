//! The vendor's answer, as one replica hands it on to the others, and back again.

use crate::{
    outcome::Refusal,
    store::{LandedAnswer, Landing},
    upstream::vendor::VendorAnswer,
};

/// What other replicas are told of a fetch.
pub(super) fn write(fetched: &Result<VendorAnswer, Refusal>) -> Landing {
    match fetched {
        Ok(answer) => Landing::Answer(LandedAnswer {
            status: answer.status,
            body: answer.body.clone(),
            content_type: answer.content_type.clone(),
            last_modified: answer.last_modified.clone(),
            retry_after: answer.retry_after.clone(),
            date: answer.date,
            sent: answer.sent,
            began: answer.began,
        }),
        Err(refusal) => Landing::Refused(refusal.clone()),
    }
}

/// The same as if it had been fetched here.
pub(super) fn read(landing: Landing) -> Result<VendorAnswer, Refusal> {
    match landing {
        Landing::Answer(answer) => Ok(VendorAnswer {
            status: answer.status,
            body: answer.body,
            content_type: answer.content_type,
            etag: None,
            last_modified: answer.last_modified,
            retry_after: answer.retry_after,
            date: answer.date,
            source: None,
            sent: answer.sent,
            began: answer.began,
        }),
        Landing::Refused(refusal) => Err(refusal),
    }
}

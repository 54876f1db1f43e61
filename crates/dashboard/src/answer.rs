//! What a page says to a request.

use hyper::StatusCode;
use serde::Serialize;

use crate::{exposition, json};

/// What is sent back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: Vec<u8>,
}

/// What went wrong, in the form that all of the API has for it.
#[derive(Debug, Serialize)]
struct Refusal<'a> {
    error: &'a str,
}

impl Answer {
    /// A value in JSON.
    #[must_use]
    pub fn json(value: &impl Serialize) -> Self {
        Self::with_status(StatusCode::OK, value)
    }

    /// Metrics.
    #[must_use]
    pub fn metrics(text: String) -> Self {
        let content_type = exposition::CONTENT_TYPE;
        Self { status: StatusCode::OK, content_type, body: text.into_bytes() }
    }

    /// There is no such thing; `why` says which.
    #[must_use]
    pub fn not_found(why: &str) -> Self {
        Self::with_status(StatusCode::NOT_FOUND, &Refusal { error: why })
    }

    /// The request makes no sense; `why` says what does.
    #[must_use]
    pub fn bad_request(why: &str) -> Self {
        Self::with_status(StatusCode::BAD_REQUEST, &Refusal { error: why })
    }

    /// Refused before any page saw the request.
    pub(crate) fn refused(status: StatusCode, why: &str) -> Self {
        Self::with_status(status, &Refusal { error: why })
    }

    fn with_status(status: StatusCode, value: &impl Serialize) -> Self {
        let content_type = "application/json";
        match json::write(value) {
            Ok(body) => Self { status, content_type, body },
            Err(error) => {
                tracing::error!(%error, "an answer cannot be written as JSON");
                Self { status: StatusCode::INTERNAL_SERVER_ERROR, content_type, body: b"{}".to_vec() }
            }
        }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// The media type of the body.
    #[must_use]
    pub const fn content_type(&self) -> &'static str {
        self.content_type
    }

    /// The bytes of the body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The same, taken apart.
    pub(crate) fn into_parts(self) -> (StatusCode, &'static str, Vec<u8>) {
        (self.status, self.content_type, self.body)
    }
}

//! Errors in OpenAI's shape, with stable codes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What `{"error": …}` carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorResponse {
    /// The error itself.
    pub error: ErrorObject,
}

/// The members that OpenAI clients read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorObject {
    /// For people.
    pub message: String,
    /// The class, as OpenAI names it.
    #[serde(rename = "type")]
    pub kind: String,
    /// The request's field at fault.
    pub param: Option<String>,
    /// For programs; stable.
    pub code: Option<String>,
}

/// Every code that Weir's own servers answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// No key was sent.
    MissingApiKey,
    /// The key belongs to no workload.
    InvalidApiKey,
    /// No such path, or a path of another workload.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The body is not a JSON object of the expected form.
    InvalidJson,
    /// A field that must be there is not.
    MissingParameter,
    /// A field's value is out of range or of the wrong type.
    InvalidValue,
    /// A field that this server does not support was set.
    Unsupported,
    /// The prompt and the requested tokens do not fit.
    ContextLengthExceeded,
    /// `model` is not what this workload serves.
    ModelNotFound,
    /// The body is over the limit.
    RequestTooLarge,
    /// The client was too slow in sending its body.
    RequestTimeout,
    /// Too many requests.
    RateLimitExceeded,
    /// The server's queue is full.
    Overloaded,
    /// No target of this workload can take the request now.
    NoTarget,
    /// The workload's target is starting.
    ColdStart,
    /// The server has not yet what it needs to answer.
    NotReady,
    /// The server is going away.
    Draining,
    /// The target could not be reached or answered with a failure.
    UpstreamError,
    /// The target did not answer in time.
    UpstreamTimeout,
    /// The target broke off an answer that had begun.
    StreamInterrupted,
    /// A fault of this server.
    Internal,
}

impl ErrorCode {
    /// The value of `error.code`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingApiKey => "missing_api_key",
            Self::InvalidApiKey => "invalid_api_key",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::InvalidJson => "invalid_json",
            Self::MissingParameter => "missing_required_parameter",
            Self::InvalidValue => "invalid_value",
            Self::Unsupported => "unsupported_parameter",
            Self::ContextLengthExceeded => "context_length_exceeded",
            Self::ModelNotFound => "model_not_found",
            Self::RequestTooLarge => "request_too_large",
            Self::RequestTimeout => "request_timeout",
            Self::RateLimitExceeded => "rate_limit_exceeded",
            Self::Overloaded => "overloaded",
            Self::NoTarget => "no_target_available",
            Self::ColdStart => "cold_start",
            Self::NotReady => "gateway_not_ready",
            Self::Draining => "draining",
            Self::UpstreamError => "upstream_error",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::StreamInterrupted => "stream_interrupted",
            Self::Internal => "internal_error",
        }
    }

    /// The HTTP status that goes with the code.
    pub fn status(self) -> u16 {
        match self {
            Self::MissingApiKey | Self::InvalidApiKey => 401,
            Self::NotFound | Self::ModelNotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::InvalidJson
            | Self::MissingParameter
            | Self::InvalidValue
            | Self::Unsupported
            | Self::ContextLengthExceeded => 400,
            Self::RequestTooLarge => 413,
            Self::RequestTimeout => 408,
            Self::RateLimitExceeded => 429,
            Self::Overloaded
            | Self::NoTarget
            | Self::ColdStart
            | Self::NotReady
            | Self::Draining => 503,
            Self::UpstreamError | Self::StreamInterrupted => 502,
            Self::UpstreamTimeout => 504,
            Self::Internal => 500,
        }
    }

    /// The value of `error.type`.
    pub fn kind(self) -> &'static str {
        match self.status() {
            401 => "authentication_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        }
    }

    /// Whether an answer with this code tells the client when to come back.
    pub fn wants_retry_after(self) -> bool {
        matches!(self.status(), 429 | 503)
    }
}

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The stable code.
    pub code: ErrorCode,
    /// For people; never holds what the client sent.
    pub message: String,
    /// The request's field at fault.
    pub param: Option<String>,
}

impl ApiError {
    /// An error with a message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            param: None,
        }
    }

    /// Names the field at fault.
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// The wire form.
    pub fn to_response(&self) -> ErrorResponse {
        ErrorResponse {
            error: ErrorObject {
                message: self.message.clone(),
                kind: self.code.kind().to_owned(),
                param: self.param.clone(),
                code: Some(self.code.as_str().to_owned()),
            },
        }
    }

    /// The body of the answer.
    pub fn to_json(&self) -> Bytes {
        serde_json::to_vec(&self.to_response())
            .map(Bytes::from)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_members_that_openai_clients_read() {
        let error =
            ApiError::new(ErrorCode::ModelNotFound, "the model does not exist").with_param("model");
        let value: serde_json::Value = serde_json::from_slice(&error.to_json()).expect("json");
        assert_eq!(
            value,
            serde_json::json!({"error": {
                "message": "the model does not exist",
                "type": "invalid_request_error",
                "param": "model",
                "code": "model_not_found"
            }})
        );
    }

    #[test]
    fn unavailable_and_limited_answers_say_when_to_come_back() {
        assert!(ErrorCode::NoTarget.wants_retry_after());
        assert!(ErrorCode::RateLimitExceeded.wants_retry_after());
        assert!(!ErrorCode::UpstreamError.wants_retry_after());
    }
}

//! Errors in OpenAI's shape, as HTTP answers.

use crate::state::{Phase, Server};
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use weir_engine::engine::SubmitError;
use weir_openai::{ApiError, ErrorCode};

const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// An error as an answer.
pub(crate) fn error(error: &ApiError) -> Response {
    let mut response = Response::new(Body::from(error.to_json()));
    *response.status_mut() =
        StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    if error.code.wants_retry_after() {
        headers.insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    response
}

/// The model is not loaded yet.
pub(crate) fn not_ready(server: &Server) -> ApiError {
    match server.phase() {
        Phase::Draining => draining(),
        phase => ApiError::new(
            ErrorCode::ColdStart,
            format!("the model is not loaded yet ({})", phase.as_str()),
        ),
    }
}

pub(crate) fn draining() -> ApiError {
    ApiError::new(ErrorCode::Draining, "the server is going away")
}

/// A request names another model than the one served. The name is the client's, and is not repeated when it is long.
pub(crate) fn unknown_model(name: &str) -> ApiError {
    let shown: String = name.chars().take(64).collect();
    ApiError::new(
        ErrorCode::ModelNotFound,
        format!("the model {shown} is not served here"),
    )
    .with_param("model")
}

/// Why the engine did not take a request.
pub(crate) fn refused(error: &SubmitError) -> ApiError {
    let message = error.to_string();
    match error {
        SubmitError::EmptyPrompt | SubmitError::UnknownToken(_) => {
            ApiError::new(ErrorCode::InvalidValue, message).with_param("prompt")
        }
        SubmitError::ContextLength { .. } => {
            ApiError::new(ErrorCode::ContextLengthExceeded, message)
        }
        SubmitError::QueueFull(_) => ApiError::new(ErrorCode::RateLimitExceeded, message),
        SubmitError::Draining => draining(),
    }
}

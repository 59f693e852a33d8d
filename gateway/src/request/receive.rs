//! Receives a request's body within bounds, and reads what it asks for.

use crate::config::Limits;
use crate::routing::table::Workload;
use crate::upstream::call::{Call, Operation};
use bytes::Bytes;
use http::Request;
use http::header::{CONTENT_LENGTH, HeaderMap};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use weir_openai::splice;
use weir_openai::{ApiError, ErrorCode};

/// One unit of the bound on buffered bytes.
const BUFFER_UNIT: usize = 1024;

/// Reads bodies within the bounds of one request and of all together.
pub(crate) struct BodyReader {
    max_body: usize,
    timeout: Duration,
    buffers: Semaphore,
}

impl BodyReader {
    pub(crate) fn new(limits: &Limits) -> Self {
        let units = (limits.max_buffered / BUFFER_UNIT).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            max_body: limits.max_body,
            timeout: limits.body,
            buffers: Semaphore::new(units),
        }
    }

    /// The body of a request, and its share of the bytes that may be held.
    pub(crate) async fn read(
        &self,
        request: Request<Incoming>,
    ) -> Result<(Bytes, SemaphorePermit<'_>), ApiError> {
        let max = self.max_body;
        let too_large = || {
            ApiError::new(
                ErrorCode::RequestTooLarge,
                format!("the body is over {max} bytes"),
            )
        };
        let declared = request
            .headers()
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if declared.is_some_and(|length| length > max) {
            return Err(too_large());
        }
        let units =
            u32::try_from(declared.unwrap_or(max).div_ceil(BUFFER_UNIT)).unwrap_or(u32::MAX);
        let buffer = self.buffers.try_acquire_many(units).map_err(|_| {
            ApiError::new(
                ErrorCode::Overloaded,
                "too many request bodies are being read",
            )
        })?;
        let reading = Limited::new(request.into_body(), max).collect();
        let collected = timeout(self.timeout, reading)
            .await
            .map_err(|_| ApiError::new(ErrorCode::RequestTimeout, "the body took too long"))?;
        match collected {
            Ok(collected) => Ok((collected.to_bytes(), buffer)),
            Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
            Err(_) => Err(ApiError::new(
                ErrorCode::InvalidJson,
                "the body could not be read",
            )),
        }
    }
}

/// What a body asks of a workload.
///
/// # Errors
/// When it is no request, or one for another model.
pub(crate) fn call(
    workload: &Workload,
    operation: Operation,
    body: Bytes,
    headers: HeaderMap,
) -> Result<Call, ApiError> {
    let head = splice::head(&body)
        .map_err(|error| ApiError::new(ErrorCode::InvalidJson, error.to_string()))?;
    match head.model.as_deref() {
        None | Some("") => Err(ApiError::new(
            ErrorCode::MissingParameter,
            "name the model in `model`",
        )
        .with_param("model")),
        Some(model) if model != workload.model => Err(unknown_model()),
        Some(_) => Ok(Call {
            operation,
            body,
            head,
            headers,
        }),
    }
}

/// The answer for a model that the key's workload does not serve.
pub(crate) fn unknown_model() -> ApiError {
    ApiError::new(
        ErrorCode::ModelNotFound,
        "this key's workload does not serve that model; see /v1/models",
    )
    .with_param("model")
}

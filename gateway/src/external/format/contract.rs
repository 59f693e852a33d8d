//! What a format must say of itself.

use crate::external::api_key::ApiKey;
use crate::upstream::answer_format::AnswerFormat;
use crate::upstream::call::{Call, Operation};
use bytes::Bytes;
use http::HeaderMap;

/// What a format means.
pub(crate) trait Format: AnswerFormat {
    /// Puts the provider's key on a request.
    fn authorize(&self, key: &ApiKey, headers: &mut HeaderMap);
    /// Where an operation is, below the provider's base URL.
    fn path(&self, operation: Operation, model: &str) -> String;
    /// What a GET may ask for that costs nothing and carries no payload, below the base URL.
    fn probe_path(&self) -> &'static str;
    /// The client's request as this provider reads it, for its own name of the model.
    fn request_body(&self, call: &Call, model: &str) -> Bytes;
}

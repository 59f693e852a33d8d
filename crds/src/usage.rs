//! `status.usage`: what the gateways have metered.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the gateways have metered since the object was created, written at most every five minutes.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// When metering began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// When these figures were written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated: Option<Time>,
    /// Requests that were answered.
    pub requests: i64,
    /// Requests that failed.
    pub errors: i64,
    /// Tokens of the prompts.
    pub input_tokens: i64,
    /// Tokens of the prompts that a prompt cache answered.
    pub cached_input_tokens: i64,
    /// Tokens of the answers.
    pub output_tokens: i64,
    /// Share of the requests that local targets answered, in percent; absent before the first request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_share_percent: Option<i32>,
}

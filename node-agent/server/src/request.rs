//! What requests may say, and what becomes of it.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use weir_engine::engine::GenerateRequest;
use weir_engine::sample::SamplingParams;
use weir_openai::request::Sampling;
use weir_openai::{ApiError, ErrorCode, Extra};

/// Most alternatives that are reported for a token, as in OpenAI's API.
pub(crate) const MAX_TOP_LOGPROBS: u32 = 20;
const MAX_STOP_SEQUENCES: usize = 16;

/// Fields that would change the answer and are not supported, with the values that mean nothing.
const REFUSED: [&str; 10] = [
    "logit_bias",
    "response_format",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "structured_outputs",
    "functions",
    "suffix",
    "modalities",
];

pub(crate) fn invalid(param: &str, message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::InvalidValue, message).with_param(param)
}

pub(crate) fn unsupported(param: &str, message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::Unsupported, message).with_param(param)
}

/// Reads a request's body.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        // Serde's text can quote the client's values, so that only its position is repeated.
        let place = format!("line {} column {}", error.line(), error.column());
        let message = match error.classify() {
            serde_json::error::Category::Data => {
                format!("a field is missing or has the wrong type ({place})")
            }
            _ => format!("the body is not JSON ({place})"),
        };
        ApiError::new(ErrorCode::InvalidJson, message)
    })
}

fn means_nothing(field: &str, value: &serde_json::Value) -> bool {
    use serde_json::Value;
    match value {
        Value::Null => true,
        Value::Object(members) if field == "response_format" => {
            members.get("type").and_then(Value::as_str) == Some("text")
        }
        Value::Object(members) => members.is_empty(),
        Value::Array(items) if field == "modalities" => items.iter().all(|item| item == "text"),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// Refuses fields that this server would have to ignore.
pub(crate) fn check_extra(extra: &Extra) -> Result<(), ApiError> {
    for field in REFUSED {
        if extra.0.get(field).is_some_and(|v| !means_nothing(field, v)) {
            return Err(unsupported(field, format!("{field} is not supported")));
        }
    }
    let best_of = extra.0.get("best_of").and_then(serde_json::Value::as_u64);
    if best_of.is_some_and(|count| count > 1) {
        return Err(unsupported("best_of", "best_of above 1 is not supported"));
    }
    Ok(())
}

pub(crate) fn check_n(n: Option<u32>) -> Result<(), ApiError> {
    match n {
        None | Some(1) => Ok(()),
        Some(_) => Err(unsupported("n", "n other than 1 is not supported")),
    }
}

fn in_range(
    field: &str,
    value: Option<f32>,
    default: f32,
    range: std::ops::RangeInclusive<f32>,
) -> Result<f32, ApiError> {
    let value = value.unwrap_or(default);
    if range.contains(&value) {
        return Ok(value);
    }
    let (low, high) = (range.start(), range.end());
    Err(invalid(
        field,
        format!("{field} must be from {low} to {high}"),
    ))
}

fn random_seed() -> u64 {
    // The standard library's hasher is keyed by the system's randomness.
    RandomState::new().build_hasher().finish()
}

fn sampling_params(sampling: &Sampling) -> Result<SamplingParams, ApiError> {
    let top_p = in_range("top_p", sampling.top_p, 1.0, 0.0..=1.0)?;
    if top_p == 0.0 {
        return Err(invalid("top_p", "top_p must be above 0"));
    }
    let repetition_penalty = in_range(
        "repetition_penalty",
        sampling.repetition_penalty,
        1.0,
        0.01..=10.0,
    )?;
    let top_k = match sampling.top_k {
        None | Some(-1) => 0,
        Some(k) => {
            usize::try_from(k).map_err(|_| invalid("top_k", "top_k must be -1 or at least 0"))?
        }
    };
    Ok(SamplingParams {
        temperature: in_range("temperature", sampling.temperature, 1.0, 0.0..=2.0)?,
        top_k,
        top_p,
        min_p: in_range("min_p", sampling.min_p, 0.0, 0.0..=1.0)?,
        frequency_penalty: in_range(
            "frequency_penalty",
            sampling.frequency_penalty,
            0.0,
            -2.0..=2.0,
        )?,
        presence_penalty: in_range(
            "presence_penalty",
            sampling.presence_penalty,
            0.0,
            -2.0..=2.0,
        )?,
        repetition_penalty,
        seed: sampling.seed.map_or_else(random_seed, |seed| seed as u64),
    })
}

fn stop_sequences(sampling: &Sampling) -> Result<Vec<String>, ApiError> {
    let stop = sampling
        .stop
        .clone()
        .map(weir_openai::Stop::into_vec)
        .unwrap_or_default();
    if stop.len() > MAX_STOP_SEQUENCES {
        let message = format!("at most {MAX_STOP_SEQUENCES} stop sequences are supported");
        return Err(invalid("stop", message));
    }
    if stop.iter().any(String::is_empty) {
        return Err(invalid("stop", "a stop sequence must not be empty"));
    }
    Ok(stop)
}

/// What the engine is asked for.
pub(crate) fn generate(
    prompt: Vec<u32>,
    max_tokens: Option<u32>,
    sampling: &Sampling,
    logprobs: Option<u32>,
) -> Result<GenerateRequest, ApiError> {
    if logprobs.is_some_and(|top| top > MAX_TOP_LOGPROBS) {
        let message = format!("at most {MAX_TOP_LOGPROBS} alternatives are reported");
        return Err(invalid("logprobs", message));
    }
    let max_tokens = max_tokens.map(|count| count as usize);
    if max_tokens == Some(0) {
        return Err(invalid("max_tokens", "max_tokens must be at least 1"));
    }
    let min_tokens = sampling.min_tokens.unwrap_or(0) as usize;
    if max_tokens.is_some_and(|most| min_tokens > most) {
        return Err(invalid("min_tokens", "min_tokens is above max_tokens"));
    }
    Ok(GenerateRequest {
        prompt,
        max_tokens,
        min_tokens,
        sampling: sampling_params(sampling)?,
        stop: stop_sequences(sampling)?,
        ignore_eos: sampling.ignore_eos.unwrap_or(false),
        logprobs: logprobs.map(|top| top as usize),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case(json!({"temperature": -0.1}), "temperature")]
    #[case(json!({"temperature": 2.5}), "temperature")]
    #[case(json!({"top_p": 0.0}), "top_p")]
    #[case(json!({"top_k": -2}), "top_k")]
    #[case(json!({"min_p": 1.5}), "min_p")]
    #[case(json!({"frequency_penalty": 3.0}), "frequency_penalty")]
    #[case(json!({"repetition_penalty": 0.0}), "repetition_penalty")]
    #[case(json!({"stop": [""]}), "stop")]
    #[case(json!({"min_tokens": 9}), "min_tokens")]
    fn a_value_out_of_range_is_refused_by_name(
        #[case] body: serde_json::Value,
        #[case] param: &str,
    ) {
        let sampling: Sampling = serde_json::from_value(body).expect("decodes");
        let error = generate(vec![1], Some(8), &sampling, None).expect_err("refused");
        assert_eq!(error.param.as_deref(), Some(param));
        assert_eq!(error.code.status(), 400);
    }

    #[rstest]
    #[case(json!({"response_format": {"type": "text"}, "logit_bias": {}, "user": "x", "best_of": 1}), None)]
    #[case(json!({"response_format": {"type": "json_object"}}), Some("response_format"))]
    #[case(json!({"logit_bias": {"5": 1}}), Some("logit_bias"))]
    #[case(json!({"best_of": 2}), Some("best_of"))]
    fn what_would_be_ignored_is_refused(
        #[case] body: serde_json::Value,
        #[case] param: Option<&str>,
    ) {
        let extra: Extra = serde_json::from_value(body).expect("decodes");
        let error = check_extra(&extra).err().and_then(|error| error.param);
        assert_eq!(error.as_deref(), param);
    }

    #[test]
    fn an_error_about_the_body_does_not_repeat_it() {
        let error =
            parse::<weir_openai::ChatRequest>(br#"{"messages": "canary-7"}"#).expect_err("refused");
        assert!(!error.message.contains("canary"), "{}", error.message);
    }
}
